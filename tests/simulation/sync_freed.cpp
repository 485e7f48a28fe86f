// Freed memory: what is allocated there next is new for everybody, whoever used what lay there; and only who holds or waits keeps it from being freed.
#include <doctest/doctest.h>

#include <cstdint>

#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

using sync::Objects;
using sync::SyncId;

constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;
constexpr std::uint64_t kMutex = 0x2040;
constexpr std::uint64_t kPermits = 0x2048;
constexpr std::uint64_t kSmall = 64;

std::uint64_t none() { return 0; }

TEST_CASE(
    "memory whose mutex nobody holds or waits for is freed though its token is on its way to a thread that gave up, and its objects are "
    "new") {
  for_each_seed(60, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 2 + seed % 3;
    options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
    options.silent = seed % 4 > 1;
    SimSyncWorld world(seed, options);
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      SplitMix64 random(mix64(seed) + node);
      sync::Sync& sync = *world.node(node).sync;
      Objects& objects = sync.objects();
      const auto soon = [&] { return world.env(node).now() + static_cast<Nanos>(random.below(8)) * kMicro; };
      for (int round = 0; round < 10; ++round) {
        for (int i = 0; i < 3; ++i) {
          CHECK(objects.release(kPermits, 1, 1, 1000, none) == Status::ok);
          const Status status = objects.acquire(kPermits, 1, none, soon());
          CHECK((status == Status::ok || status == Status::timeout));
          if (sync.lock(kMutex, 1, soon()) != Status::ok) continue;
          world.pause(node, static_cast<Nanos>(random.below(10)) * kMicro);
          CHECK(sync.unlock(kMutex, 1) == Status::ok);
        }
        REQUIRE(sync.barrier() == Status::ok);
        if (node == 0) {
          const auto use = sync.free_memory(kMutex, kSmall, 1);
          REQUIRE(use.has_value());
          CHECK_FALSE(use->has_value());
        }
        REQUIRE(sync.barrier() == Status::ok);
        CHECK(objects.permits(kPermits, 1, none).value() == 0);
        REQUIRE(sync.barrier() == Status::ok);
      }
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  });
}

TEST_CASE("small memory is new for all nodes once it was freed by a node that never used what lies in it") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 2 + seed % 3;
    SimSyncWorld world(seed, options);
    constexpr std::uint64_t kFlag = 0x2ff8;  // the last of a page
    constexpr std::uint64_t kOnce = 0x3000;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      sync::Sync& sync = *world.node(node).sync;
      Objects& objects = sync.objects();
      const std::uint32_t user = options.nodes - 1;
      for (int life = 0; life < 3; ++life) {
        if (node == user) {
          CHECK(objects.await_flag(kFlag, 1, 0) == Status::timeout);
          CHECK(objects.set_flag(kFlag, 1, true) == Status::ok);
          CHECK(objects.begin_once(kOnce, 1).value());
          CHECK(objects.end_once(kOnce, 1, true) == Status::ok);
          CHECK(sync.lock(kMutex, 1) == Status::ok);
        }
        REQUIRE(sync.barrier() == Status::ok);
        if (node == 0) {
          const auto use = sync.free_memory(kMutex, 8, 1);
          REQUIRE(use.has_value());
          REQUIRE(use->has_value());
          CHECK((*use)->object == SyncId{kMutex});
          CHECK((*use)->node == NodeId{user});
          CHECK_FALSE(sync.free_memory(kFlag, 16, 1)->has_value());
          CHECK_FALSE(sync.free_memory(0x9000, 2048, 1)->has_value());  // nobody ever used it
        }
        REQUIRE(sync.barrier() == Status::ok);
        if (node == user) {
          CHECK(sync.unlock(kMutex, 1) == Status::ok);
          CHECK(objects.await_flag(kFlag, 1, 0) == Status::timeout);
        }
        REQUIRE(sync.barrier() == Status::ok);
      }
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  });
}

TEST_CASE("memory with a once flag is not freed while somebody runs what it calls once") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 2 + seed % 3;
    SimSyncWorld world(seed, options);
    constexpr std::uint64_t kOnce = 0x3000;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      sync::Sync& sync = *world.node(node).sync;
      Objects& objects = sync.objects();
      const std::uint32_t runner = seed % options.nodes;
      const std::uint32_t freer = (seed / 2) % options.nodes;
      for (int life = 0; life < 3; ++life) {
        if (node == runner) CHECK(objects.begin_once(kOnce, 1).value());
        REQUIRE(sync.barrier() == Status::ok);
        if (node == freer) {
          const auto use = sync.free_memory(kOnce, 8, 1);
          REQUIRE(use.has_value());
          REQUIRE(use->has_value());
          CHECK((*use)->object == sync::SyncId::of_object(kOnce));
        }
        REQUIRE(sync.barrier() == Status::ok);
        if (node == runner) CHECK(objects.end_once(kOnce, 1, true) == Status::ok);
        REQUIRE(sync.barrier() == Status::ok);
        if (node == freer) CHECK_FALSE(sync.free_memory(kOnce, 8, 1)->has_value());
        REQUIRE(sync.barrier() == Status::ok);
      }
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  });
}
TEST_CASE("who frees small memory that nobody ever synchronised in asks nobody") {
  SyncWorldOptions options;
  options.nodes = 4;
  SimSyncWorld world(1, options);
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    sync::Sync& sync = *world.node(node).sync;
    if (node == 1) {
      CHECK(sync.lock(kMutex, 1) == Status::ok);
      CHECK(sync.unlock(kMutex, 1) == Status::ok);
    }
    REQUIRE(sync.barrier() == Status::ok);
    if (node != 0) return world.pause(node, kMilli);
    const std::uint64_t before = world.node(0).stats.get(Stat::messages_sent);
    CHECK_FALSE(sync.free_memory(kMutex + 64, 2048, 1)->has_value());
    CHECK(world.node(0).stats.get(Stat::messages_sent) == before);
    CHECK_FALSE(sync.free_memory(kMutex - 64, 65, 1)->has_value());
    CHECK(world.node(0).stats.get(Stat::messages_sent) > before);
  });
  const Simulator::Report report = world.run();
  CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
}

}  // namespace
}  // namespace netvm::test
