// What an event counter sets off: handlers and triggered operations, on every kind of world.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_world;
using netvm::test::WorldKind;

namespace {

constexpr Nanos kSecond = 1'000'000'000;

Nanos soon(Nic& nic) { return nic.env().now() + 60 * kSecond; }

/// Waits until the condition holds, driving the node; announces itself to nobody, so it polls.
template <class Condition>
bool comes_true(Nic& nic, Condition&& condition) {
  const Nanos deadline = soon(nic);
  while (!condition()) {
    if (nic.env().now() >= deadline) return false;
    (void)nic.drive();
    nic.env().relax();
  }
  return true;
}

std::uint64_t word_at(NicWorld& world, std::uint32_t node, std::uint64_t offset) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(world.frame(node) + offset)).load();
}

}  // namespace

TEST_CASE("pitfall 10: a handler is level-triggered and serialised: no increment is lost, no two runs of a counter overlap") {
  NicWorldOptions options;
  options.nodes = 3;
  on_every_world(options, [](NicWorld& world) {
    constexpr std::uint64_t kEach = 300;
    const RemoteCounter counter = world.nic(1).counter_create().value();
    const RemoteCounter done = world.nic(1).counter_create().value();
    std::atomic<int> inside{0};
    std::atomic<bool> overlapped{false};
    std::atomic<std::uint64_t> runs{0}, last{0};
    std::atomic<bool> below{false};
    CHECK(ok(world.nic(1).set_handler(counter, 1, [&](std::uint64_t value, std::uint64_t) {
      if (inside.fetch_add(1) != 0) overlapped = true;
      if (value <= last.load()) below = true;  // it asked for more than it had seen
      world.nic(1).env().relax();              // others come in between, in the simulator too
      last = value;
      runs.fetch_add(1);
      inside.fetch_sub(1);
      if (value == 3 * kEach) CHECK(ok(world.nic(1).notify(done, 1)));
      return value + 1;
    })));
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t node = 0; node < 3; ++node) {
      parts.push_back({node, [&world, counter, node] {
                         for (std::uint64_t i = 0; i < kEach; ++i) {
                           CHECK(ok(world.nic(node).notify(counter, 1)));
                           if (i % 16 == 0) world.nic(node).env().relax();
                         }
                       }});
    }
    parts.push_back({1, [&] {
                       CHECK(ok(world.nic(1).counter_wait(done, 1, WaitMode::block, soon(world.nic(1)))));
                       CHECK(ok(world.nic(1).clear_handler(counter)));
                     }});
    world.run(std::move(parts));
    CHECK_FALSE(overlapped);
    CHECK_FALSE(below);
    CHECK(last.load() == 3 * kEach);
    CHECK(runs.load() <= 3 * kEach);
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("a handler runs with every thread of the application asleep, and sees what the notification covers") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion there = world.whole(1);
    const RemoteRegion back = world.whole(0);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    const RemoteCounter answers = world.nic(0).counter_create().value();
    std::uint64_t seen = 0;
    CHECK(ok(world.nic(1).set_handler(counter, 1, [&](std::uint64_t value, std::uint64_t) {
      seen = word_at(world, 1, 40'960);
      const std::uint64_t doubled = 2 * seen;
      CHECK(ok(world.nic(1).write_notify(back, 64, &doubled, 8, answers, 1, NotifyMode::ordered)));  // a blocking verb
      return value + 1;
    })));
    world.run([&] {
      for (std::uint64_t round = 1; round <= 50; ++round) {
        CHECK(ok(world.nic(0).write_notify(there, 40'960, &round, 8, counter, 1, NotifyMode::ordered)));
        CHECK(ok(world.nic(0).counter_wait(answers, round, WaitMode::block, soon(world.nic(0)))));
        CHECK(word_at(world, 0, 64) == 2 * round);
      }
    });
    world.run({{1, [&] { CHECK(ok(world.nic(1).clear_handler(counter))); }}});  // its last verb has ended
    CHECK(seen == 50);
  });
}

TEST_CASE("pitfall 10: arming and incrementing at the same moment: each triggered operation fires once") {
  on_every_world([](NicWorld& world) {
    constexpr std::uint64_t kRounds = 400;
    const RemoteCounter counter = world.nic(1).counter_create().value();
    const RemoteCounter fired = world.nic(0).counter_create().value();
    std::vector<Completion> completions(kRounds);
    world.run({{1,
                [&] {
                  for (std::uint64_t i = 0; i < kRounds; ++i) {
                    CHECK(world.nic(1).post_triggered(counter, i + 1, TriggeredOperation::notify(fired, 1), &completions[i]).has_value());
                    if (i % 7 == 0) world.nic(1).env().relax();
                  }
                }},
               {0, [&] {
                  for (std::uint64_t i = 0; i < kRounds; ++i) {
                    CHECK(ok(world.nic(0).notify(counter, 1)));
                    if (i % 5 == 0) world.nic(0).env().relax();
                  }
                  CHECK(ok(world.nic(0).counter_wait(fired, kRounds, WaitMode::block, soon(world.nic(0)))));
                }}});
    world.run([&] {
      for (Completion& completion : completions) CHECK(ok(world.nic(1).wait(completion, soon(world.nic(1)))));
      CHECK(world.nic(0).counter_value(fired) == kRounds);
    });
  });
}

TEST_CASE("a chain of triggered operations goes round the nodes with every thread of the application asleep") {
  NicWorldOptions options;
  options.nodes = 4;
  on_every_world(options, [](NicWorld& world) {
    constexpr std::uint32_t kNodes = 4;
    constexpr std::uint64_t kLaps = 25;
    std::vector<RemoteRegion> regions;
    std::vector<RemoteCounter> counters;
    for (std::uint32_t n = 0; n < kNodes; ++n) {
      regions.push_back(world.whole(n));
      counters.push_back(world.nic(n).counter_create().value());
    }
    // Node n, when its counter reaches lap, puts the lap's value to the next node and notifies it.
    std::vector<std::vector<std::uint64_t>> values(kNodes);
    for (std::uint32_t n = 1; n < kNodes; ++n) {
      const std::uint32_t next = (n + 1) % kNodes;
      values[n].resize(kLaps + 1);
      for (std::uint64_t lap = 1; lap <= kLaps; ++lap) {
        values[n][lap] = 1000 * n + lap;
        CHECK(world.nic(n)
                  .post_triggered(
                      counters[n], lap,
                      TriggeredOperation::write_notify(regions[next], 8 * n, &values[n][lap], 8, counters[next], 1, NotifyMode::ordered),
                      nullptr)
                  .has_value());
      }
    }
    world.run([&] {
      for (std::uint64_t lap = 1; lap <= kLaps; ++lap) {
        CHECK(ok(world.nic(0).notify(counters[1], 1)));
        CHECK(ok(world.nic(0).counter_wait(counters[0], lap, WaitMode::block, soon(world.nic(0)))));
        for (std::uint32_t n = 1; n < kNodes; ++n) CHECK(word_at(world, (n + 1) % kNodes, 8 * n) == 1000 * n + lap);
      }
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("triggered operations fire in the order of thresholds, then of posting, also when one increment reaches all of them") {
  on_every_world([](NicWorld& world) {
    Nic& nic = world.nic(0);
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = nic.counter_create().value();
    const std::uint64_t thresholds[] = {3, 1, 2, 2, 3, 1};
    const std::uint64_t place[] = {4, 0, 2, 3, 5, 1};
    std::vector<Completion> completions(6);
    for (int i = 0; i < 6; ++i) {  // atomics of a channel take effect in the order of posting: each learns its place
      const TriggeredOperation next = TriggeredOperation::atomic(region, 0, {AtomicOp::fetch_add, 1});
      CHECK(nic.post_triggered(counter, thresholds[i], next, &completions[i]).has_value());
    }
    world.run([&] {
      CHECK(ok(nic.notify(counter, 3)));
      for (int i = 0; i < 6; ++i) {
        CHECK(ok(nic.wait(completions[i], soon(nic))));
        CHECK(completions[i].old_value() == place[i]);
      }
    });
  });
}

TEST_CASE("a triggered operation whose threshold is reached already fires at once; its source is read when it fires") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(0).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      std::uint64_t value = 1;
      Completion late;
      CHECK(nic.post_triggered(counter, 2, TriggeredOperation::write(region, 128, &value, 8), &late).has_value());
      CHECK(ok(nic.notify(counter, 1)));
      CHECK_FALSE(late.done());
      value = 2;
      CHECK(ok(nic.notify(counter, 1)));
      CHECK(ok(nic.wait(late, soon(nic))));
      CHECK(word_at(world, 1, 128) == 2);
      value = 3;
      Completion at_once;
      CHECK(nic.post_triggered(counter, 1, TriggeredOperation::write(region, 128, &value, 8), &at_once).has_value());
      CHECK(ok(nic.wait(at_once, soon(nic))));
      CHECK(word_at(world, 1, 128) == 3);
    });
  });
}

TEST_CASE("what never fires ends once, with E_CANCELLED: by cancelling, with its counter, with the NIC") {
  on_every_world([](NicWorld& world) {
    Nic& nic = world.nic(0);
    const RemoteRegion region = world.whole(1);
    const RemoteCounter there = world.nic(1).counter_create().value();
    const RemoteCounter first = nic.counter_create().value(), second = nic.counter_create().value(), third = nic.counter_create().value();
    const std::uint64_t value = 9;
    const TriggeredOperation operation = TriggeredOperation::write_notify(region, 0, &value, 8, there, 1, NotifyMode::own);
    int ends = 0;
    const auto count_end = [](Completion& self, void* context) {
      CHECK(self.status() == Status::cancelled);
      ++*static_cast<int*>(context);
    };
    Completion by_id(count_end, &ends), by_counter(count_end, &ends), with_counter(count_end, &ends), with_nic(count_end, &ends);
    const TriggeredId id = nic.post_triggered(first, 1, operation, &by_id).value();
    CHECK(nic.post_triggered(first, 2, operation, &by_counter).has_value());
    CHECK(nic.post_triggered(second, 1, operation, &with_counter).has_value());
    CHECK(nic.post_triggered(third, 1, operation, &with_nic).has_value());
    CHECK(nic.cancel_triggered(first, id));
    CHECK(ends == 1);
    CHECK_FALSE(nic.cancel_triggered(first, id));
    CHECK(nic.cancel_triggered(first) == 1);
    CHECK(nic.cancel_triggered(first) == 0);
    CHECK(ends == 2);
    world.run([&] {
      CHECK(ok(nic.notify(first, 5)));
      CHECK(ok(nic.counter_destroy(second)));
    });
    CHECK(ends == 3);
    CHECK(nic.post_triggered(second, 1, operation, nullptr).status() == Status::counter_range);
    CHECK(nic.set_handler(second, 1, [](std::uint64_t v, std::uint64_t) { return v + 1; }) == Status::counter_range);
    CHECK(nic.post_triggered(there, 1, operation, nullptr).status() == Status::counter_range);
    TriggeredOperation wrong = operation;
    wrong.region.node = NodeId{7};
    CHECK(nic.post_triggered(first, 1, wrong, nullptr).status() == Status::invalid);
    nic.shut_down();
    CHECK(ends == 4);
    CHECK(nic.post_triggered(third, 1, operation, nullptr).status() == Status::cancelled);
    CHECK(world.nic(1).counter_value(there) == 0);
  });
}

TEST_CASE("an error runs the handler and fires nothing; the error of a triggered operation reaches its completion") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    RemoteRegion forged = region;
    forged.key ^= 1;
    const RemoteCounter counter = world.nic(1).counter_create().value();
    const RemoteCounter told = world.nic(0).counter_create().value();
    const RemoteCounter never = world.nic(0).counter_create().value();
    std::atomic<std::uint64_t> errors_seen{0};
    CHECK(ok(world.nic(1).set_handler(counter, kErrorsOnly, [&](std::uint64_t value, std::uint64_t errors) {
      CHECK(value == 0);
      errors_seen = errors;
      CHECK(ok(world.nic(1).notify(told, 1)));
      return kErrorsOnly;
    })));
    CHECK(world.nic(1).post_triggered(counter, 1, TriggeredOperation::notify(never, 1), nullptr).has_value());
    world.run([&] {
      Nic& nic = world.nic(0);
      const std::uint64_t value = 1;
      CHECK(nic.write_notify(forged, 0, &value, 8, counter, 1, NotifyMode::own) == Status::key);
      CHECK(ok(nic.counter_wait(told, 1, WaitMode::adaptive, soon(nic))));
      CHECK(nic.counter_value(never) == 0);
      const RemoteCounter mine = nic.counter_create().value();
      Completion bad, misaligned;
      CHECK(nic.post_triggered(mine, 1, TriggeredOperation::write(forged, 0, &value, 8), &bad).has_value());
      CHECK(nic.post_triggered(mine, 1, TriggeredOperation::atomic(region, 4, {AtomicOp::swap, 1}), &misaligned).has_value());
      CHECK(ok(nic.notify(mine, 1)));
      CHECK(nic.wait(bad, soon(nic)) == Status::key);
      CHECK(nic.wait(misaligned, soon(nic)) == Status::align);
    });
    world.run({{1, [&] { CHECK(ok(world.nic(1).clear_handler(counter))); }}});
    CHECK(errors_seen.load() == 1);
  });
}

TEST_CASE("clearing a handler waits for its run and ends it for good; destroying the counter does the same") {
  on_every_world([](NicWorld& world) {
    for (const bool destroy : {false, true}) {
      const RemoteCounter counter = world.nic(1).counter_create().value();
      std::atomic<int> began{0}, ended{0};
      const auto token = std::make_shared<int>(0);
      CHECK(ok(world.nic(1).set_handler(counter, 1, [&, token](std::uint64_t, std::uint64_t) {
        began.fetch_add(1);
        for (int i = 0; i < 50; ++i) world.nic(1).env().relax();
        ended.fetch_add(1);
        return std::uint64_t{1};  // reached: it runs again and again
      })));
      CHECK(world.nic(1).set_handler(counter, 1, [](std::uint64_t v, std::uint64_t) { return v; }) == Status::invalid);
      world.run({{0, [&] { CHECK(ok(world.nic(0).notify(counter, 1))); }},
                 {1, [&] {
                    CHECK(comes_true(world.nic(1), [&] { return began.load() >= 3; }));
                    CHECK(ok(destroy ? world.nic(1).counter_destroy(counter) : world.nic(1).clear_handler(counter)));
                    const int runs = began.load();
                    CHECK(ended.load() == runs);
                    CHECK(token.use_count() == 1);  // the handler is gone, too
                    for (int i = 0; i < 200; ++i) world.nic(1).env().relax();
                    CHECK(began.load() == runs);
                    CHECK_FALSE(ok(world.nic(1).clear_handler(counter)));
                  }}});
    }
  });
}

TEST_CASE("a handler that ends itself, or its counter, runs no more, and is gone when that run has ended") {
  on_every_world([](NicWorld& world) {
    for (const bool destroy : {false, true}) {
      Nic& nic = world.nic(1);
      const RemoteCounter counter = nic.counter_create().value();
      const auto token = std::make_shared<int>(0);
      std::atomic<int> runs{0};
      std::atomic<bool> cleared{false}, go_on{false};
      CHECK(ok(nic.set_handler(counter, 1, [&, token](std::uint64_t, std::uint64_t) {
        runs.fetch_add(1);
        CHECK(ok(destroy ? nic.counter_destroy(counter) : nic.clear_handler(counter)));
        cleared = true;
        while (!go_on.load()) nic.env().relax();
        return std::uint64_t{1};  // it would run again at once
      })));
      world.run({{0, [&] { CHECK(ok(world.nic(0).notify(counter, 1))); }},
                 {1, [&] {
                    CHECK(comes_true(nic, [&] { return cleared.load(); }));
                    CHECK(token.use_count() == 2);  // the run is not over
                    go_on = true;
                    (void)nic.clear_handler(counter);  // who else clears it waits for the end
                    CHECK(comes_true(nic, [&] { return token.use_count() == 1; }));
                    for (int i = 0; i < 200; ++i) nic.env().relax();
                    CHECK(runs.load() == 1);
                    if (destroy) return;
                    CHECK(ok(nic.set_handler(counter, 100, [](std::uint64_t v, std::uint64_t) { return v + 1; })));
                    CHECK(ok(nic.clear_handler(counter)));
                  }}});
    }
  });
}

TEST_CASE("handlers of several counters run at the same time: one may wait for another, and triggered operations fire meanwhile") {
  on_every_world([](NicWorld& world) {
    Nic& nic = world.nic(1);
    const RemoteCounter outer = nic.counter_create().value(), inner = nic.counter_create().value(), ready = nic.counter_create().value();
    const RemoteCounter chained = nic.counter_create().value(), done = world.nic(0).counter_create().value();
    CHECK(ok(nic.set_handler(outer, 1, [&](std::uint64_t value, std::uint64_t) {
      CHECK(ok(nic.notify(inner, 1)));
      CHECK(ok(nic.counter_wait(ready, value, WaitMode::block, soon(nic))));    // by inner's handler
      CHECK(ok(nic.counter_wait(chained, value, WaitMode::block, soon(nic))));  // by a triggered operation
      CHECK(ok(nic.notify(done, 1)));
      return value + 1;
    })));
    CHECK(ok(nic.set_handler(inner, 1, [&](std::uint64_t value, std::uint64_t) {
      CHECK(ok(nic.notify(ready, 1)));
      return value + 1;
    })));
    for (std::uint64_t round = 1; round <= 20; ++round)
      CHECK(nic.post_triggered(ready, round, TriggeredOperation::notify(chained, 1), nullptr).has_value());
    world.run([&] {
      for (std::uint64_t round = 1; round <= 20; ++round) {
        CHECK(ok(world.nic(0).notify(outer, 1)));
        CHECK(ok(world.nic(0).counter_wait(done, round, WaitMode::block, soon(world.nic(0)))));
      }
    });
    world.run({{1, [&] {
                  CHECK(ok(nic.clear_handler(outer)));
                  CHECK(ok(nic.clear_handler(inner)));
                }}});
  });
}

TEST_CASE("shutting down with a handler at work: no run begins any more, and the NIC goes when the last one is over") {
  for (const WorldKind kind : {WorldKind::direct, WorldKind::packet}) {
    std::atomic<int> began{0}, ended{0};
    {
      netvm::test::ThreadNicWorld world(kind, {});
      const RemoteCounter counter = world.nic(1).counter_create().value(), never = world.nic(1).counter_create().value();
      CHECK(ok(world.nic(1).set_handler(counter, 1, [&](std::uint64_t, std::uint64_t) {
        began.fetch_add(1);
        CHECK(world.nic(1).counter_wait(never, 1) == Status::cancelled);  // the end of the NIC ends its wait
        ended.fetch_add(1);
        return std::uint64_t{1};
      })));
      world.run([&] {
        CHECK(ok(world.nic(0).notify(counter, 1)));
        while (began.load() == 0) std::this_thread::yield();
      });
      CHECK(ok(world.nic(1).close()));
      CHECK(began.load() == 1);
      CHECK(ended.load() == 1);
    }
    CHECK(ended.load() == 1);
  }
}

TEST_CASE("close() from inside a handler, of a counter or of messages, is refused and changes nothing") {
  on_every_world([](NicWorld& world) {
    Nic& nic = world.nic(1);
    const RemoteCounter counter = nic.counter_create().value(), told = world.nic(0).counter_create().value();
    struct Inbox final : MessageHandler {
      Nic* nic = nullptr;
      std::atomic<Status> closed{Status::ok};
      std::atomic<bool> came{false};
      void on_message(NodeId, std::span<const std::byte>) noexcept override {
        closed.store(nic->close());
        came = true;
      }
    } inbox;
    inbox.nic = &nic;
    nic.set_message_handler(MessageKind::test, &inbox);
    std::atomic<Status> closed{Status::ok};
    CHECK(ok(nic.set_handler(counter, 1, [&](std::uint64_t value, std::uint64_t) {
      closed.store(nic.close());
      CHECK(ok(nic.notify(told, 1)));
      return value + 1;
    })));
    world.run([&] {
      const std::byte body{1};
      world.nic(0).send(NodeId{1}, MessageKind::test, {&body, 1});
      CHECK(ok(world.nic(0).notify(counter, 1)));
      CHECK(ok(world.nic(0).counter_wait(told, 1, WaitMode::adaptive, soon(world.nic(0)))));
      CHECK(comes_true(world.nic(0), [&] { return inbox.came.load(); }));
    });
    CHECK(closed.load() == Status::invalid);
    CHECK(inbox.closed.load() == Status::invalid);
    nic.set_message_handler(MessageKind::test, nullptr);
  });
}

TEST_CASE("a thread that stops spinning passes on what came at its last look") {
  NicWorldOptions options;
  options.spin = 10'000'000'000;
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  Doorbell& bell = world.device(1).header().doorbell;
  const RemoteRegion region = world.whole(1);
  const std::uint64_t value = 1;
  for (int round = 0; round < 20; ++round) {
    while (bell.engine.sleepers.load() == 0) std::this_thread::yield();
    Completion written;
    int looks = 0;
    const auto changed = [&] {
      if (looks++ == 0) return false;  // before the wait begins to spin
      CHECK(bell.pollers.load() == 1);
      world.nic(0).post_write(region, 0, &value, sizeof value, &written);
      return true;
    };
    WaitWord word;
    CHECK(ok(world.nic(1).wait_until(word, changed)));
    CHECK(bell.pollers.load() == 0);
    REQUIRE(ok(world.nic(0).wait(written, soon(world.nic(0)))));  // by the engine of node 1
  }
}

TEST_CASE("a node whose thread spins, in a wait or by drive(), is not disturbed by its engine") {
  NicWorldOptions options;
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  Nic& target = world.nic(1);
  const RemoteRegion region = world.whole(1);
  const RemoteCounter end = target.counter_create().value();
  const auto writes = [&](std::uint64_t count) {
    for (std::uint64_t i = 1; i <= count; ++i) CHECK(ok(world.nic(0).write(region, 0, &i, sizeof i)));
  };
  constexpr std::uint64_t kWrites = 2000;
  std::atomic<std::uint64_t> wakeups{0};
  world.run({{1, [&] { CHECK(ok(target.counter_wait(end, 1, WaitMode::spin, soon(target)))); }},
             {0, [&] {
                while (world.device(1).header().doorbell.pollers.load() == 0) std::this_thread::yield();
                writes(10);
                const std::uint64_t before = world.stats(1).get(Stat::engine_wakeups);
                writes(kWrites);
                wakeups = world.stats(1).get(Stat::engine_wakeups) - before;
                CHECK(ok(world.nic(0).notify(end, 1)));
              }}});
  CHECK(wakeups.load() <= 2);
  // By drive(): the engine finds out, and looks by itself only now and then.
  std::atomic<bool> over{false};
  world.run({{1, [&] { CHECK(comes_true(target, [&] { return over.load(); })); }}, {0, [&] {
                                                                                      writes(200);
                                                                                      const std::uint64_t before =
                                                                                          world.stats(1).get(Stat::engine_wakeups);
                                                                                      writes(kWrites);
                                                                                      wakeups =
                                                                                          world.stats(1).get(Stat::engine_wakeups) - before;
                                                                                      over = true;
                                                                                    }}});
  MESSAGE("the engine was woken ", wakeups.load(), " times for ", kWrites, " writes while a thread drove");
  // And when nobody drives any more, the engine serves.
  world.run([&] { writes(20); });
}

TEST_CASE("who drives now and then, and not again, leaves no answer behind") {
  NicWorldOptions options;
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  Nic& target = world.nic(1);
  const RemoteRegion region = world.whole(1);
  std::atomic<std::uint64_t> answered{0};
  world.run({{1,
              [&] {
                for (std::uint64_t i = 1; i <= 100; ++i) {
                  // Drives until the bytes are there, and then for a while not at all: the answer may have been put off.
                  const std::atomic_ref<std::uint64_t> word(*reinterpret_cast<std::uint64_t*>(world.frame(1)));
                  CHECK(comes_true(target, [&] { return word.load() >= i; }));  // the engine may have been faster
                  while (answered.load() < i) std::this_thread::yield();
                }
              }},
             {0, [&] {
                for (std::uint64_t i = 1; i <= 100; ++i) {
                  Completion end;
                  world.nic(0).post_write(region, 0, &i, sizeof i, &end);
                  REQUIRE(ok(world.nic(0).wait(end, soon(world.nic(0)))));
                  answered = i;
                }
              }}});
  CHECK(world.nothing_dropped());
}
