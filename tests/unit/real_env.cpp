// RealEnv: parking with one and two words, between threads and between processes; timers; spawned tasks; randomness.
#include "runtime/real_env.hpp"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <new>
#include <set>
#include <thread>
#include <vector>

using netvm::kForever;
using netvm::Nanos;
using netvm::ParkOn;
using netvm::RealEnv;
using netvm::WaitWord;

namespace {

constexpr Nanos kMillisecond = 1'000'000;

// Parks until `done`, as real waiters do: park() may return for no reason.
void wait_for(RealEnv& env, WaitWord& word, const std::atomic<bool>& done) {
  while (!done.load()) {
    const std::uint32_t ticket = word.prepare();
    if (!done.load()) {
      const ParkOn on = word.on(ticket);
      env.park({&on, 1}, kForever);
    }
    word.finish();
  }
}

}  // namespace

TEST_CASE("park returns at once when a word has changed, and at the deadline when none does") {
  RealEnv env;
  std::atomic<std::uint32_t> a{1};
  std::atomic<std::uint32_t> b{2};
  const Nanos start = env.now();

  const std::array<ParkOn, 2> second_changed{{{&a, 1}, {&b, 7}}};
  env.park(second_changed, kForever);
  const std::array<ParkOn, 2> first_changed{{{&a, 7}, {&b, 2}}};
  env.park(first_changed, kForever);
  env.park({first_changed.data(), 1}, kForever);

  const std::array<ParkOn, 2> same{{{&a, 1}, {&b, 2}}};
  while (env.now() < start + 20 * kMillisecond) env.park(same, start + 20 * kMillisecond);
  while (env.now() < start + 40 * kMillisecond) env.park({same.data(), 1}, start + 40 * kMillisecond);
  CHECK(env.now() >= start + 40 * kMillisecond);
  env.park(same, start);  // a deadline in the past
  env.park(same, -1);
}

TEST_CASE("a wake on either of two words ends the wait of another thread") {
  RealEnv env;
  for (int which = 0; which < 2; ++which) {
    std::array<std::atomic<std::uint32_t>, 2> words{};
    std::atomic<bool> returned{false};
    std::thread sleeper([&] {
      while (words[0].load() == 0 && words[1].load() == 0) {
        const std::array<ParkOn, 2> both{{{&words[0], 0}, {&words[1], 0}}};
        env.park(both, kForever);
      }
      returned.store(true);
    });
    words[which].store(1);
    while (!returned.load()) {
      env.wake(words[which], 1);
      env.relax();
    }
    sleeper.join();
  }
}

TEST_CASE("a wake reaches another process through shared memory") {
  struct Shared {
    WaitWord ping;
    WaitWord pong;
    std::atomic<int> turn{0};
  };
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto* shared = new (memory) Shared;
  auto play = [&](RealEnv& env, WaitWord& mine, WaitWord& theirs, int parity) {
    for (int round = parity; round < 200; round += 2) {
      while (shared->turn.load() != round) {
        const std::uint32_t ticket = mine.prepare();
        if (shared->turn.load() != round) {
          const ParkOn on = mine.on(ticket);
          env.park({&on, 1}, kForever);
        }
        mine.finish();
      }
      shared->turn.store(round + 1);
      theirs.announce(env);
    }
  };
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::alarm(60);  // never outlive a parent that failed
    RealEnv env;
    play(env, shared->pong, shared->ping, 1);
    ::_exit(0);
  }
  RealEnv env;
  play(env, shared->ping, shared->pong, 0);
  int status = -1;
  ::waitpid(pid, &status, 0);
  CHECK(status == 0);
  CHECK(shared->turn.load() == 200);
  ::munmap(memory, sizeof(Shared));
}

TEST_CASE("timers run in the order of their moments, in the thread that asks, not before they are due") {
  RealEnv env;
  CHECK(env.next_timer() == kForever);
  CHECK(env.run_due_timers() == 0);
  std::vector<int> order;
  const Nanos start = env.now();
  const std::thread::id self = std::this_thread::get_id();
  bool other_thread = false;
  auto note = [&](int what) {
    return [&, what] {
      order.push_back(what);
      if (std::this_thread::get_id() != self) other_thread = true;
    };
  };
  std::thread setter([&] {
    env.at(start + 10 * kMillisecond, note(2));
    env.at(start + 10 * kMillisecond, note(3));
    env.at(start, note(1));
    env.at(start + 3'600'000 * kMillisecond, note(9));
  });
  setter.join();
  CHECK(env.next_timer() == start);
  CHECK(env.run_due_timers() >= 1);
  while (order.size() < 3) env.run_due_timers();
  CHECK(env.now() >= start + 10 * kMillisecond);
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK_FALSE(other_thread);
  CHECK(env.next_timer() == start + 3'600'000 * kMillisecond);
}

TEST_CASE("a timer may set the next one, and an earlier one is announced") {
  RealEnv env;
  int announced = 0;
  env.set_earlier_timer_hook([&] { ++announced; });
  int ran = 0;
  env.at(0, [&] {
    ++ran;
    env.at(0, [&] { ++ran; });
  });
  CHECK(announced == 1);
  env.at(kForever - 1, [] {});
  CHECK(announced == 1);
  env.run_due_timers();
  CHECK(ran == 2);
}

TEST_CASE("spawned tasks run beside each other, even when they wait for each other") {
  RealEnv env;
  constexpr int kTasks = 12;
  std::atomic<int> arrived{0};
  std::atomic<bool> all_here{false};
  std::atomic<bool> all_done{false};
  std::atomic<int> left{0};
  WaitWord here;
  WaitWord done;
  for (int i = 0; i < kTasks; ++i) {
    env.spawn([&] {
      if (arrived.fetch_add(1) + 1 == kTasks) {
        all_here.store(true);
        here.announce(env);
      }
      wait_for(env, here, all_here);
      if (left.fetch_add(1) + 1 == kTasks) {
        all_done.store(true);
        done.announce(env);
      }
    });
  }
  wait_for(env, done, all_done);
  CHECK(left.load() == kTasks);
}

TEST_CASE("the destructor waits for spawned tasks, also for those they spawn") {
  std::atomic<int> ran{0};
  {
    RealEnv env;
    for (int i = 0; i < 8; ++i) {
      env.spawn([&] {
        env.spawn([&] { ++ran; });
        ++ran;
      });
    }
  }
  CHECK(ran.load() == 16);
}

TEST_CASE("random words of several threads are all different, and follow a given seed") {
  RealEnv env;
  std::array<std::vector<std::uint64_t>, 4> drawn;
  std::vector<std::thread> threads;
  for (auto& mine : drawn) {
    threads.emplace_back([&env, &mine] {
      for (int i = 0; i < 1000; ++i) mine.push_back(env.random());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::uint64_t> all;
  for (const auto& mine : drawn) all.insert(mine.begin(), mine.end());
  CHECK(all.size() == 4000);

  RealEnv first({.spin_budget = 0, .crowded = false, .seed = 42});
  RealEnv second({.spin_budget = 0, .crowded = false, .seed = 42});
  RealEnv third({.spin_budget = 0, .crowded = false, .seed = 43});
  const std::uint64_t word = first.random();
  CHECK(word == second.random());
  CHECK(word != third.random());
}

TEST_CASE("a thread asks to go on elsewhere, and may then go where it could before") {
  RealEnv env;
  cpu_set_t before;
  REQUIRE(sched_getaffinity(0, sizeof(before), &before) == 0);
  std::vector<int> all;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &before)) all.push_back(i);
  }
  CHECK_FALSE(env.move_from(all));
  if (all.size() > 1) {
    const std::array<int, 1> here{env.processor()};
    CHECK(env.move_from(here));
  }
  cpu_set_t after;
  REQUIRE(sched_getaffinity(0, sizeof(after), &after) == 0);
  CHECK(CPU_EQUAL(&before, &after));
}
