// Notifications and event counters on every kind of world: what a waiter sees, how it waits, how waits end.
#include <doctest/doctest.h>

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

std::uint64_t word_at(NicWorld& world, std::uint32_t node, std::uint64_t offset) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(world.frame(node) + offset)).load(std::memory_order_relaxed);
}

}  // namespace

TEST_CASE("who has waited for an ORDERED notification sees every earlier write, in each way of waiting") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    const RemoteRegion back = world.whole(0);
    const RemoteCounter there = world.nic(1).counter_create().value();
    const RemoteCounter here = world.nic(0).counter_create().value();
    constexpr std::uint64_t kRounds = 90;
    world.run({{0,
                [&] {
                  Nic& nic = world.nic(0);
                  for (std::uint64_t round = 1; round <= kRounds; ++round) {
                    const std::vector<std::uint64_t> block(1500, round);
                    std::vector<Completion> posted(4);
                    for (std::uint64_t i = 0; i < posted.size(); ++i) {
                      nic.post_write(region, i * 20'000, block.data(), block.size() * 8, &posted[i]);
                    }
                    CHECK(ok(nic.write_notify(region, 100'000, &round, 8, there, 2, NotifyMode::ordered)));
                    CHECK(ok(nic.notify(there, 1)));
                    for (Completion& completion : posted) CHECK(ok(nic.wait(completion)));
                    CHECK(ok(nic.counter_wait(here, round)));
                  }
                }},
               {1, [&] {
                  Nic& nic = world.nic(1);
                  for (std::uint64_t round = 1; round <= kRounds; ++round) {
                    const WaitMode mode = static_cast<WaitMode>(round % 3);
                    CHECK(ok(nic.counter_wait(there, 3 * round, mode, nic.env().now() + 60 * kSecond)));
                    for (std::uint64_t i = 0; i < 4; ++i) {
                      CHECK(word_at(world, 1, i * 20'000) == round);
                      CHECK(word_at(world, 1, i * 20'000 + 1499 * 8) == round);
                    }
                    CHECK(word_at(world, 1, 100'000) == round);
                    CHECK(nic.counter_value(there) == 3 * round);
                    CHECK(ok(nic.write_notify(back, 0, &round, 8, here, 1, NotifyMode::own)));
                  }
                }}});
    CHECK(world.nic(1).counter_errors(there) == 0);
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("a wait for what does not come ends at its deadline, in each way of waiting") {
  on_every_world([](NicWorld& world) {
    const RemoteCounter counter = world.nic(0).counter_create().value();
    world.run([&] {
      Env& env = world.nic(0).env();
      for (const WaitMode mode : {WaitMode::spin, WaitMode::block, WaitMode::adaptive}) {
        const Nanos deadline = env.now() + 2'000'000;
        CHECK(world.nic(0).counter_wait(counter, 1, mode, deadline) == Status::timeout);
        CHECK(env.now() >= deadline);
        CHECK(env.now() < deadline + 30 * kSecond);
      }
      Completion never;
      CHECK(world.nic(0).wait(never, env.now() + 2'000'000) == Status::timeout);
      CHECK_FALSE(never.done());
      WaitWord word;
      CHECK(world.nic(0).wait_until(
                word, [] { return false; }, env.now() + 2'000'000) == Status::timeout);
      CHECK(world.nic(0).counter_wait({NodeId{1}, counter.id}, 1) == Status::counter_range);
      CHECK(world.nic(0).counter_wait({NodeId{0}, CounterId{4095}}, 1) == Status::counter_range);
    });
  });
}

TEST_CASE("a failed write stops the ORDERED notifications behind it, wakes the waiter, and can be cleared") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    RemoteRegion forged = region;
    forged.key ^= 1;
    const RemoteCounter counter = world.nic(1).counter_create().value();
    const RemoteCounter own = world.nic(1).counter_create().value();
    const RemoteCounter noticed = world.nic(0).counter_create().value();
    world.run({{0,
                [&] {
                  Nic& nic = world.nic(0);
                  const std::uint64_t value = 1;
                  CHECK(ok(nic.write_notify(region, 0, &value, 8, counter, 1, NotifyMode::ordered)));
                  Completion bad;
                  nic.post_write(forged, 0, &value, 8, &bad);
                  CHECK(nic.write_notify(region, 0, &value, 8, counter, 1, NotifyMode::ordered) == Status::cancelled);
                  CHECK(nic.wait(bad) == Status::key);
                  CHECK(nic.write_notify(region, 0, &value, 8, counter, 1, NotifyMode::ordered) == Status::cancelled);
                  CHECK(ok(nic.write_notify(region, 0, &value, 8, own, 1, NotifyMode::own)));  // its own bytes have landed
                  const std::vector<std::byte> large(3 * kPageSize);
                  CHECK(ok(nic.write_notify(region, 8, large.data(), large.size(), own, 1, NotifyMode::own)));
                  CHECK(nic.write_notify(forged, 8, large.data(), large.size(), own, 1, NotifyMode::own) == Status::key);
                  CHECK(nic.write_notify(region, region.length - 8, large.data(), large.size(), own, 1, NotifyMode::own) == Status::range);
                  CHECK(ok(nic.counter_wait(noticed, 1, WaitMode::adaptive, nic.env().now() + 60 * kSecond)));
                  nic.clear_errors(NodeId{1});
                  CHECK(ok(nic.write_notify(region, 0, &value, 8, counter, 1, NotifyMode::ordered)));
                  CHECK(ok(nic.notify(counter, 1)));
                }},
               {1, [&] {
                  Nic& nic = world.nic(1);
                  CHECK(nic.counter_wait(counter, 2, WaitMode::adaptive, nic.env().now() + 60 * kSecond) == Status::cancelled);
                  CHECK(ok(nic.notify(noticed, 1)));
                  Status status = Status::cancelled;  // an error of each refused notification, until the good ones come
                  while (status == Status::cancelled)
                    status = nic.counter_wait(counter, 3, WaitMode::block, nic.env().now() + 60 * kSecond);
                  CHECK(ok(status));
                }}});
    CHECK(world.nic(1).counter_errors(counter) == 2);
    CHECK(world.nic(1).counter_value(own) == 2);
    CHECK(world.nic(1).counter_errors(own) == 2);
  });
}

TEST_CASE("the death of a node ends everything that waits for it, now and later") {
  NicWorldOptions options;
  options.engines = false;  // nobody answers
  for (const WorldKind kind : {WorldKind::packet, WorldKind::direct}) {
    netvm::test::ThreadNicWorld world(kind, options);
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(0).counter_create().value();
    const RemoteCounter there = world.nic(1).counter_create().value();
    std::atomic<int> waiting{0};
    std::vector<NicWorld::Part> parts;
    parts.push_back({0, [&] {
                       std::vector<std::byte> bytes(10'000);
                       waiting.fetch_add(1);
                       CHECK(world.nic(0).read(region, 0, bytes.data(), bytes.size()) ==
                             Status::peer_dead);  // not resident: a packet in both modes
                     }});
    parts.push_back({0, [&] {
                       waiting.fetch_add(1);
                       CHECK(world.nic(0).counter_wait(counter, 1) == Status::peer_dead);
                     }});
    parts.push_back({0, [&] {
                       while (waiting.load() < 2) std::this_thread::yield();
                       std::this_thread::sleep_for(std::chrono::milliseconds(20));
                       world.nic(0).declare_dead(NodeId{1});
                       world.nic(0).declare_dead(NodeId{1});
                     }});
    world.run(std::move(parts));
    std::uint64_t value = 0;
    CHECK(world.nic(0).read(region, 0, &value, 8) == Status::peer_dead);
    CHECK(world.nic(0).atomic(region, 0, {}).status() == Status::peer_dead);
    CHECK(world.nic(0).notify(there, 1) == Status::peer_dead);
    world.nic(0).send(NodeId{1}, MessageKind::test, {});
    CHECK(ok(world.nic(0).write(world.whole(0), 0, &value, 8)));  // the living go on
  }
}

TEST_CASE("shutting down ends every wait and everything that comes later") {
  NicWorldOptions options;
  options.engines = false;
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  const RemoteRegion region = world.whole(1);
  const RemoteCounter counter = world.nic(0).counter_create().value();
  std::atomic<int> waiting{0};
  std::vector<NicWorld::Part> parts;
  const auto waits = [&](auto wait) {
    parts.push_back({0, [&waiting, wait] {
                       waiting.fetch_add(1);
                       CHECK(wait() == Status::cancelled);
                     }});
  };
  std::uint64_t value = 0;
  WaitWord word;
  waits([&] { return world.nic(0).read(region, 0, &value, 8); });
  for (const WaitMode mode : {WaitMode::spin, WaitMode::block, WaitMode::adaptive}) {
    waits([&world, counter, mode] { return world.nic(0).counter_wait(counter, 1, mode); });
  }
  waits([&] { return world.nic(0).wait_until(word, [] { return false; }); });
  parts.push_back({0, [&] {
                     while (waiting.load() < 5) std::this_thread::yield();
                     std::this_thread::sleep_for(std::chrono::milliseconds(20));
                     world.nic(0).shut_down();
                   }});
  world.run(std::move(parts));
  CHECK(world.nic(0).write(region, 0, &value, 8) == Status::cancelled);
  CHECK(world.nic(0).wait_until(word, [] { return false; }) == Status::cancelled);
}

TEST_CASE("no wake-up is lost: two nodes hand a token back and forth through every way of parking") {
  for (const WorldKind kind : {WorldKind::direct, WorldKind::packet}) {
    for (const bool engines : {true, false}) {
      for (const Nanos spin : {Nanos{0}, Nanos{20'000}}) {
        NicWorldOptions options;
        options.engines = engines;
        options.spin = spin;
        netvm::test::ThreadNicWorld world(kind, options);
        const RemoteCounter counters[2] = {world.nic(0).counter_create().value(), world.nic(1).counter_create().value()};
        constexpr std::uint64_t kRounds = 2000;
        const auto player = [&](std::uint32_t me) {
          Nic& nic = world.nic(me);
          for (std::uint64_t round = 1; round <= kRounds; ++round) {
            if (me == 0) CHECK(ok(nic.notify(counters[1], 1)));
            const WaitMode mode = round % 2 == 0 ? WaitMode::block : WaitMode::adaptive;
            if (!ok(nic.counter_wait(counters[me], round, mode, nic.env().now() + 20 * kSecond))) {
              CHECK_MESSAGE(false, "node ", me, " waits in vain in round ", round);
              return;
            }
            if (me == 1) CHECK(ok(nic.notify(counters[0], 1)));
          }
        };
        world.run({{0, [&] { player(0); }}, {1, [&] { player(1); }}});
        CHECK(world.nothing_dropped());
      }
    }
  }
}

TEST_CASE("an engine that is parked returns when it is nudged") {
  NicWorldOptions options;
  options.engines = false;
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  for (int round = 0; round < 50; ++round) {
    std::thread engine([&] { world.nic(0).engine_turn(0, kForever); });
    if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    world.nic(0).nudge_engine();
    engine.join();
  }
}

// With no time to spin the third call is the one between announcing and parking; nobody ever announces here.
TEST_CASE("a condition that was true once is not asked again, whenever in a wait that happens: it may have taken what it found") {
  on_every_world([](NicWorld& world) {
    world.run([&] {
      Nic& nic = world.nic(0);
      for (int true_at = 1; true_at <= 3; ++true_at) {
        WaitWord word;
        int calls = 0;
        const auto taken = [&] {
          CHECK(calls < true_at);
          return ++calls == true_at;
        };
        CHECK(ok(nic.wait_until(word, taken, nic.env().now() + 10 * kSecond)));
        CHECK(calls == true_at);
      }
    });
  });
}
