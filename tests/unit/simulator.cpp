// Simulator: order, virtual time, determinism, and that a program that hangs ends with a report instead.
#include "runtime/simulator.hpp"

#include <doctest/doctest.h>

#include <array>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/check.hpp"

using netvm::Env;
using netvm::EnvMutex;
using netvm::kForever;
using netvm::Nanos;
using netvm::NodeId;
using netvm::ParkOn;
using netvm::SimOptions;
using netvm::Simulator;
using netvm::WaitWord;

namespace {

SimOptions with_seed(std::uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  return options;
}

// Four fibers append to a history under a mutex, with random pauses.
struct Contest {
  std::string history;
  std::uint64_t hash = 0;
};
Contest contest(std::uint64_t seed) {
  Contest result;
  Simulator sim(with_seed(seed));
  EnvMutex mutex(sim.env(NodeId{0}));
  for (int i = 0; i < 4; ++i) {
    sim.start(NodeId{0}, "contestant", [&, i] {
      Env& env = sim.env(NodeId{0});
      for (int round = 0; round < 10; ++round) {
        mutex.lock();
        result.history += static_cast<char>('a' + i);
        sim.trace(static_cast<std::uint64_t>(i));
        if (env.random() % 2 == 0) env.relax();
        mutex.unlock();
        env.relax();
      }
    });
  }
  const Simulator::Report report = sim.run();
  CHECK(report.end == Simulator::End::all_done);
  result.hash = report.trace_hash;
  return result;
}

}  // namespace

TEST_CASE("one seed gives one history, other seeds give others") {
  std::set<std::uint64_t> hashes;
  std::set<std::string> histories;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Contest first = contest(seed);
    const Contest second = contest(seed);
    CHECK(first.hash == second.hash);
    CHECK(first.history == second.history);
    hashes.insert(first.hash);
    histories.insert(first.history);
  }
  CHECK(hashes.size() == 20);
  CHECK(histories.size() > 15);
}

TEST_CASE("the trace hash tells apart what the program did, not only when") {
  auto run = [](std::uint64_t word) {
    Simulator sim(with_seed(1));
    sim.start(NodeId{0}, "f", [&] { sim.trace(word); });
    return sim.run().trace_hash;
  };
  CHECK(run(1) == run(1));
  CHECK(run(1) != run(2));
}

TEST_CASE("tasks run at their moment, those of one moment in the order of their making") {
  Simulator sim(with_seed(3));
  std::vector<int> order;
  std::vector<Nanos> times;
  sim.start(NodeId{0}, "waiter", [&] {
    Env& env = sim.env(NodeId{0});
    env.at(5000, [&] { order.push_back(2), times.push_back(sim.now()); });
    env.at(5000, [&] { order.push_back(3); });
    env.at(4000, [&] { order.push_back(1), times.push_back(sim.now()); });
    WaitWord never;
    const std::uint32_t ticket = never.prepare();
    const ParkOn on = never.on(ticket);
    env.park({&on, 1}, 9000);
    never.finish();
    CHECK(sim.now() >= 9000);
  });
  CHECK(sim.run().end == Simulator::End::all_done);
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK(times == std::vector<Nanos>{4000, 5000});
}

TEST_CASE("a wait word loses no wake-up in any interleaving") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Simulator sim(with_seed(seed));
    WaitWord word;
    int produced = 0;
    int consumed = 0;
    for (int i = 0; i < 2; ++i) {
      sim.start(NodeId{0}, "producer", [&] {
        Env& env = sim.env(NodeId{0});
        for (int k = 0; k < 20; ++k) {
          ++produced;
          word.announce(env);
          if (env.random() % 3 == 0) env.relax();
        }
      });
    }
    sim.start(NodeId{0}, "consumer", [&] {
      Env& env = sim.env(NodeId{0});
      while (consumed < 40) {
        const std::uint32_t ticket = word.prepare();
        if (consumed == produced) {
          const ParkOn on = word.on(ticket);
          env.park({&on, 1}, kForever);
        } else {
          ++consumed;
        }
        word.finish();
      }
    });
    const Simulator::Report report = sim.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK(consumed == 40);
  }
}

TEST_CASE("waking is first in, first out, and counts") {
  SimOptions options = with_seed(5);
  options.schedule_jitter = 0;
  Simulator sim(options);
  std::atomic<std::uint32_t> word{0};
  std::string order;
  for (int i = 0; i < 4; ++i) {
    sim.start(NodeId{0}, "sleeper", [&, i] {
      const ParkOn on{&word, 0};
      sim.env(NodeId{0}).park({&on, 1}, kForever);
      order += static_cast<char>('a' + i);
    });
  }
  sim.start(NodeId{1}, "waker", [&] {
    Env& env = sim.env(NodeId{1});
    env.wake(word, 2);
    env.relax();
    CHECK(order == "ab");
    env.wake(word, INT32_MAX);
  });
  CHECK(sim.run().end == Simulator::End::all_done);
  CHECK(order == "abcd");
}

TEST_CASE("one of two words is enough to wake, and a changed word does not park") {
  Simulator sim(with_seed(6));
  std::atomic<std::uint32_t> a{0};
  std::atomic<std::uint32_t> b{0};
  int wakes = 0;
  sim.start(NodeId{0}, "sleeper", [&] {
    Env& env = sim.env(NodeId{0});
    const std::array<ParkOn, 2> both{{{&a, 0}, {&b, 0}}};
    env.park(both, kForever);
    CHECK(b.load() == 1);
    ++wakes;
    env.park(both, kForever);  // b differs already
    ++wakes;
  });
  sim.start(NodeId{0}, "waker", [&] {
    Env& env = sim.env(NodeId{0});
    for (int i = 0; i < 50; ++i) env.relax();
    b = 1;
    env.wake(b, 1);
  });
  const Simulator::Report report = sim.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  CHECK(wakes == 2);
}

TEST_CASE("a deadline ends a wait, and its event is forgotten after a wake-up") {
  Simulator sim(with_seed(7));
  std::atomic<std::uint32_t> word{0};
  std::vector<Nanos> returned;
  sim.start(NodeId{0}, "sleeper", [&] {
    Env& env = sim.env(NodeId{0});
    const ParkOn on{&word, 0};
    env.park({&on, 1}, 50'000);
    returned.push_back(env.now());
    env.park({&on, 1}, kForever);  // must not be ended by the first deadline
    returned.push_back(env.now());
  });
  sim.at(20'000, [&] { sim.env(NodeId{0}).wake(word, 1); });
  sim.at(90'000, [&] { sim.env(NodeId{0}).wake(word, 1); });
  const Simulator::Report report = sim.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  CHECK(returned[0] < 30'000);
  CHECK(returned[1] >= 90'000);
}

TEST_CASE("a deadlock is reported with fiber, node and time instead of hanging") {
  Simulator sim(with_seed(8));
  std::atomic<std::uint32_t> word{3};
  sim.start(NodeId{2}, "the patient one", [&] {
    const ParkOn on{&word, 3};
    sim.env(NodeId{2}).park({&on, 1}, kForever);
  });
  sim.start(NodeId{0}, "the quick one", [] {});
  const Simulator::Report report = sim.run();
  CHECK(report.end == Simulator::End::deadlock);
  CHECK(report.text.find("deadlock") != std::string::npos);
  CHECK(report.text.find("node 2 'the patient one': parked since") != std::string::npos);
  CHECK(report.text.find("still holds 3") != std::string::npos);
  CHECK(report.text.find("seed 8") != std::string::npos);
  CHECK(report.text.find("the quick one") == std::string::npos);
}

TEST_CASE("a forgotten wake() is named as a lost wake-up") {
  Simulator sim(with_seed(9));
  std::atomic<std::uint32_t> word{0};
  sim.start(NodeId{0}, "sleeper", [&] {
    const ParkOn on{&word, 0};
    sim.env(NodeId{0}).park({&on, 1}, kForever);
  });
  sim.at(10'000, [&] { word = 1; });
  const Simulator::Report report = sim.run();
  CHECK(report.end == Simulator::End::deadlock);
  CHECK(report.text.find("lost wake-up") != std::string::npos);
}

TEST_CASE("a livelock ends at the limits") {
  SimOptions options = with_seed(10);
  SUBCASE("of events") { options.max_events = 1000; }
  SUBCASE("of time") { options.max_time = 100'000; }
  Simulator sim(options);
  sim.start(NodeId{1}, "spinner", [&] {
    for (;;) sim.env(NodeId{1}).relax();
  });
  const Simulator::Report report = sim.run();
  CHECK(report.end == Simulator::End::limit);
  CHECK(report.events <= options.max_events);
  CHECK(report.time <= options.max_time);
  CHECK(report.text.find("spinner") != std::string::npos);
}

TEST_CASE("spawned tasks may block and do not keep a run alive") {
  Simulator sim(with_seed(11));
  WaitWord never;
  bool ran = false;
  sim.start(NodeId{0}, "main", [&] {
    Env& env = sim.env(NodeId{0});
    env.spawn([&] {
      ran = true;
      const ParkOn on = never.on(never.prepare());
      env.park({&on, 1}, kForever);
    });
    for (int i = 0; i < 50; ++i) env.relax();
  });
  CHECK(sim.run().end == Simulator::End::all_done);
  CHECK(ran);
}

TEST_CASE("fibers can start fibers, and run() can go on with more") {
  Simulator sim(with_seed(12));
  int ended = 0;
  sim.start(NodeId{0}, "parent", [&] {
    for (int i = 0; i < 10; ++i) {
      sim.start(NodeId{1}, "child", [&] {
        sim.env(NodeId{1}).relax();
        ++ended;
      });
    }
  });
  CHECK(sim.run().end == Simulator::End::all_done);
  CHECK(ended == 10);
  const Nanos before = sim.now();
  sim.start(NodeId{0}, "later", [&] { ++ended; });
  CHECK(sim.run().end == Simulator::End::all_done);
  CHECK(ended == 11);
  CHECK(sim.now() >= before);
}

TEST_CASE("what a fiber throws comes out of run()") {
  Simulator sim(with_seed(13));
  sim.start(NodeId{0}, "thrower", [] { throw std::runtime_error("thrown in a fiber"); });
  CHECK_THROWS_WITH(sim.run(), "thrown in a fiber");
}

TEST_CASE("a check that fails in the simulator would name node, time and seed") {
  Simulator sim(with_seed(14));
  sim.start(NodeId{3}, "looker", [&] {
    for (int i = 0; i < 5; ++i) {
      sim.env(NodeId{3}).relax();
      CHECK(netvm::check_context().node == 3);
      CHECK(netvm::check_context().seed == 14);
      CHECK(netvm::check_context().time_ns == sim.now());
    }
  });
  sim.start(NodeId{1}, "other", [&] {
    for (int i = 0; i < 5; ++i) {
      sim.env(NodeId{1}).relax();
      CHECK(netvm::check_context().node == 1);
    }
  });
  CHECK(sim.run().end == Simulator::End::all_done);
  CHECK(netvm::check_context().seed == 0);
}
