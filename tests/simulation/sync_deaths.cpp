// pitfall 13: holders and waiters that die. Every grant carries a fencing token that only grows, so that what a late holder says can be told
// from what its successor says; and nobody waits for ever for a node that is gone.
#include <doctest/doctest.h>

#include <vector>

#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

using namespace netvm;
using netvm::test::for_each_seed;
using netvm::test::SimSyncWorld;
using netvm::test::SyncWorldOptions;

namespace {

constexpr std::uint64_t kLock = 0x4000;
constexpr std::uint64_t kObject = 0x7000;
constexpr Nanos kMilli = 1'000'000;

/// Locks held by node 0 until `held` says otherwise, wanted by all threads of the others; then `happens`. Returns what the others got.
template <class Happens>
std::vector<Status> waiters_of_a_dead_job(std::uint64_t seed, Happens&& happens) {
  SyncWorldOptions options;
  options.nodes = 3;
  options.threads = 2;
  SimSyncWorld world(seed, options);
  std::vector<Status> got;
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    sync::Sync& sync = *world.node(node).sync;
    if (node == 0) {
      if (local == 0) CHECK(sync.lock(kLock, 1) == Status::ok);
      world.pause(0, 5 * kMilli);
      if (local == 0) happens(world);
      return;
    }
    world.pause(node, kMilli);
    got.push_back(sync.lock(kLock, local + 1));
  });
  const Simulator::Report report = world.run();
  CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  return got;
}

std::uint64_t none() { return 0; }
sync::Objects& objects_of(SimSyncWorld& world, std::uint32_t node) { return world.node(node).sync->objects(); }

}  // namespace

TEST_CASE("pitfall 13: the fencing token grows with each hand-over between nodes, and only then") {
  for_each_seed(40, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 4;
    options.threads = 2;
    options.cohort = 2;
    SimSyncWorld world(seed, options);
    std::uint64_t last = 0, hand_overs = 0;
    std::uint32_t last_node = UINT32_MAX;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 10 + local);
      sync::Sync& sync = *world.node(node).sync;
      for (int round = 0; round < 12; ++round) {
        // Some give up waiting: their node may get the token all the same, and passes it on.
        const Nanos deadline = random.below(3) == 0 ? world.env(node).now() + 20'000 : kForever;
        const Status status = sync.lock(kLock, local + 1, deadline);
        if (status == Status::timeout) continue;
        CHECK(status == Status::ok);
        const std::uint64_t token = sync.epoch_of(kLock);
        if (node == last_node) {
          CHECK(token >= last);
        } else if (last_node != UINT32_MAX) {
          CHECK(token > last);
          ++hand_overs;
        }
        last = token;
        last_node = node;
        world.pause(node, static_cast<Nanos>(random.below(5'000)));
        CHECK(sync.epoch_of(kLock) == token);  // a holder's token stays
        CHECK(sync.unlock(kLock, local + 1) == Status::ok);
      }
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK(hand_overs > 0);
    CHECK(last >= hand_overs);
  });
}

TEST_CASE("pitfall 13: when the job ends under them, all who wait for a dead holder are told") {
  for_each_seed(20, [](std::uint64_t seed) {
    const std::vector<Status> got = waiters_of_a_dead_job(seed, [](SimSyncWorld& world) {
      for (std::uint32_t node = 1; node < 3; ++node) world.node(node).nic->shut_down();
    });
    CHECK(got == std::vector<Status>(4, Status::cancelled));
  });
}

TEST_CASE("pitfall 13: a mutex whose home has died is refused, at once") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 3;
    SimSyncWorld world(seed, options);
    std::uint32_t refused = 0;
    world.start(0, 0, [&] {
      world.node(0).nic->declare_dead(NodeId{1});
      for (std::uint64_t i = 0; i < 30; ++i) {
        const Nanos before = world.env(0).now();
        const Status status = world.node(0).sync->lock(kLock + 64 * i, 1);
        CHECK((status == Status::ok || status == Status::peer_dead));
        CHECK(world.env(0).now() - before < kMilli);
        if (status == Status::peer_dead) ++refused;
      }
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK(refused > 0);
    CHECK(refused < 30);
  });
}

TEST_CASE(
    "an object whose state dies with a node is refused to all who wait and all who come; one that survives forgets the dead who waited") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 4;
    SimSyncWorld world(seed, options);
    std::vector<Status> got;
    const auto dies = [&](std::uint32_t node) {
      world.node(node).nic->shut_down();
      for (std::uint32_t n = 0; n < 3; ++n) world.node(n).sync->declare_dead(NodeId{node});
    };
    // Objects whose home is not the node that dies, so that only the token counts: several addresses, and those that a home's death takes may fail.
    constexpr std::uint64_t kKept = 0x9000;
    for (std::uint32_t n = 0; n < 2; ++n) {
      world.start(n, 0, [&, n] {
        got.push_back(objects_of(world, n).acquire(kObject, 1, none));
        got.push_back(objects_of(world, n).acquire(kObject, 1, none));
      });
    }
    world.start(3, 0, [&] {
      world.pause(3, kMilli);
      CHECK(objects_of(world, 3).acquire(kKept, 1, none, kForever) == Status::cancelled);  // dies waiting
    });
    world.start(3, 1, [&] {
      world.pause(3, 2 * kMilli);
      CHECK(objects_of(world, 3).acquire(kObject, 2, none, 0) == Status::timeout);  // takes the token
    });
    world.start(2, 0, [&] {
      world.pause(2, 3 * kMilli);
      REQUIRE(objects_of(world, 2).acquire(kKept, 1, none, 0) == Status::timeout);  // takes the token
      dies(3);
      world.pause(2, 20 * kMilli);
      CHECK(objects_of(world, 2).release(kKept, 1, 1, UINT64_MAX, none) == Status::ok);
      CHECK(objects_of(world, 2).acquire(kKept, 1, none, 0) == Status::ok);  // nobody dead took it
      CHECK(objects_of(world, 2).set_flag(kObject, 1, true) == Status::owner_dead);
    });
    const Simulator::Report report = world.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK(got == std::vector<Status>(4, Status::owner_dead));
  });
}
