// Mutexes between simulated nodes over a network that reorders: exclusion, what a hand-over carries and costs, order, timeouts, try_lock.
#include <doctest/doctest.h>

#include <vector>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;
constexpr std::uint64_t kLock = 0x1000;

void require_done(const Simulator::Report& report) { REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text); }

// What the threads of all nodes believe about one mutex; checked at every acquisition.
struct Guarded {
  int inside = 0;
  std::uint64_t entries = 0;
  Clock known;  // what its last holder knew
};

// Enters, checks, stays a while, leaves.
void critical_section(SimSyncWorld& world, std::uint32_t node, Guarded& guarded, Nanos stay) {
  CHECK(++guarded.inside == 1);
  if (!guarded.known.empty()) CHECK(world.node(node).hook->covers(guarded.known));
  ++guarded.entries;
  if (stay > 0) world.pause(node, stay);
  guarded.known = world.node(node).hook->write();
  CHECK(--guarded.inside == 0);
}

SyncWorldOptions random_options(SplitMix64& random) {
  SyncWorldOptions options;
  options.nodes = 1 + static_cast<std::uint32_t>(random.below(8));
  options.threads = 1 + static_cast<std::uint32_t>(random.below(3));
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.cohort = 1 + static_cast<std::uint32_t>(random.below(4));
  options.silent = random.below(2) == 0;
  return options;
}

TEST_CASE("mutex: one holder at a time, and each knows what all before it wrote") {
  for_each_seed(60, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    const SyncWorldOptions options = random_options(random);
    SimSyncWorld world(seed, options);
    std::vector<Guarded> guarded(1 + random.below(3));
    constexpr int kRounds = 12;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 mine(mix64(seed) + node * 100 + local);
      for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t which = mine.below(guarded.size());
        REQUIRE(world.node(node).sync->lock(kLock + which, local + 1) == Status::ok);
        CHECK(world.node(node).sync->held_here(kLock + which));
        critical_section(world, node, guarded[which], static_cast<Nanos>(mine.below(3) * kMicro));
        REQUIRE(world.node(node).sync->unlock(kLock + which, local + 1) == Status::ok);
        if (mine.below(2) == 0) world.pause(node, static_cast<Nanos>(mine.below(10) * kMicro));
      }
    });
    require_done(world.run());
    std::uint64_t entries = 0;
    for (const Guarded& g : guarded) entries += g.entries;
    CHECK(entries == std::uint64_t{options.nodes} * options.threads * kRounds);
    CHECK_FALSE(world.hooks_broken());
  });
}

TEST_CASE("mutex: the same seed gives the same run") {
  for_each_seed(5, [](std::uint64_t seed) {
    const auto hash = [seed] {
      SyncWorldOptions options;
      options.nodes = 4;
      options.threads = 2;
      SimSyncWorld world(seed, options);
      world.start_all([&](std::uint32_t node, std::uint32_t local) {
        for (int round = 0; round < 5; ++round) {
          REQUIRE(world.node(node).sync->lock(kLock, local + 1) == Status::ok);
          REQUIRE(world.node(node).sync->unlock(kLock, local + 1) == Status::ok);
        }
      });
      const Simulator::Report report = world.run();
      require_done(report);
      return report.trace_hash;
    };
    CHECK(hash() == hash());
  });
}

TEST_CASE("mutex: a hand-over between nodes costs one request and one grant, whatever the contention") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 5;
    options.threads = 2;
    SimSyncWorld world(seed, options);
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      for (int round = 0; round < 10; ++round) {
        REQUIRE(world.node(node).sync->lock(kLock, local + 1) == Status::ok);
        world.pause(node, kMicro);
        REQUIRE(world.node(node).sync->unlock(kLock, local + 1) == Status::ok);
      }
    });
    require_done(world.run());
    std::uint64_t hand_overs = 0;
    for (std::uint32_t n = 0; n < options.nodes; ++n) hand_overs = std::max(hand_overs, world.node(n).sync->epoch_of(kLock));
    CHECK(hand_overs >= options.nodes - 1);
    CHECK(world.total(Stat::messages_sent) == 2 * hand_overs);
    CHECK(world.total(Stat::lock_remote) == hand_overs + 1);  // the first found the tail empty
  });
}

TEST_CASE("mutex: a grant that carries nothing is no message to a node that is reached directly") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 5;
    options.mode = ShmMode::direct;
    options.silent = true;
    SimSyncWorld world(seed, options);
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      for (int round = 0; round < 10; ++round) {
        REQUIRE(world.node(node).sync->lock(kLock, 1) == Status::ok);
        world.pause(node, kMicro);
        REQUIRE(world.node(node).sync->unlock(kLock, 1) == Status::ok);
      }
    });
    require_done(world.run());
    std::uint64_t hand_overs = 0;
    for (std::uint32_t n = 0; n < options.nodes; ++n) hand_overs = std::max(hand_overs, world.node(n).sync->epoch_of(kLock));
    CHECK(hand_overs >= options.nodes - 1);
    CHECK(world.total(Stat::messages_sent) == hand_overs);  // the requests
  });
}

TEST_CASE("mutex: the node that held it last locks it again without a word to anybody") {
  SyncWorldOptions options;
  options.nodes = 3;
  SimSyncWorld world(1, options);
  world.start(1, 0, [&] {
    REQUIRE(world.node(1).sync->lock(kLock, 1) == Status::ok);
    REQUIRE(world.node(1).sync->unlock(kLock, 1) == Status::ok);
    const Nanos before = world.env(1).now();
    const std::uint64_t operations = world.total(Stat::one_sided_ops);
    for (int i = 0; i < 100; ++i) {
      REQUIRE(world.node(1).sync->lock(kLock, 1) == Status::ok);
      REQUIRE(world.node(1).sync->unlock(kLock, 1) == Status::ok);
    }
    CHECK(world.total(Stat::messages_sent) == 0);
    CHECK(world.total(Stat::one_sided_ops) == operations);
    CHECK(world.env(1).now() == before);
    CHECK(world.node(1).hook->releases() == 0);
  });
  require_done(world.run());
}

TEST_CASE("mutex: a release happens when another node asks, once") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 2;
    options.threads = 2;
    SimSyncWorld world(seed, options);
    Guarded guarded;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      sync::Sync& sync = *world.node(node).sync;
      world.pause(node, node * kMilli + local * 100 * kMicro);
      for (int i = 0; i < 10; ++i) {
        REQUIRE(sync.lock(kLock, local + 1) == Status::ok);
        critical_section(world, node, guarded, 0);
        REQUIRE(sync.unlock(kLock, local + 1) == Status::ok);
      }
    });
    require_done(world.run());
    CHECK(guarded.entries == 40);
    CHECK(world.node(0).hook->releases() == 1);
    CHECK(world.node(1).hook->releases() == 0);
  });
}

TEST_CASE("mutex: a token that only comes and goes is released by who unlocks it, so that who asks need not wait") {
  SyncWorldOptions options;
  options.nodes = 2;
  SimSyncWorld world(1, options);
  Guarded guarded;
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    sync::Sync& sync = *world.node(node).sync;
    for (int round = 0; round < 10; ++round) {
      world.pause(node, (round * 2 + node) * kMilli - world.env(node).now());
      REQUIRE(sync.lock(kLock, 1) == Status::ok);
      critical_section(world, node, guarded, 0);
      const std::uint64_t before = world.node(node).hook->releases();
      REQUIRE(sync.unlock(kLock, 1) == Status::ok);
      // The first stay of each node is not known to be short.
      CHECK(world.node(node).hook->releases() - before == (round == 0 ? 0U : 1U));
    }
  });
  require_done(world.run());
  CHECK_FALSE(world.hooks_broken());
}

TEST_CASE("mutex: nodes get it in the order in which they asked") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 8;
    SimSyncWorld world(seed, options);
    std::vector<std::uint32_t> order;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      // A millisecond apart: later than any message takes. Node 0 holds until all have asked.
      const std::uint32_t turn = (node * 3) % 8;
      world.pause(node, turn * kMilli);
      REQUIRE(world.node(node).sync->lock(kLock, 1) == Status::ok);
      order.push_back(turn);
      if (turn == 0) world.pause(node, 20 * kMilli);
      REQUIRE(world.node(node).sync->unlock(kLock, 1) == Status::ok);
    });
    require_done(world.run());
    CHECK(order == std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7});
  });
}

TEST_CASE("mutex: threads of a node get it in the order in which they asked, and hand it on among themselves a bounded number of times") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 2;
    options.threads = 8;
    options.cohort = 3;
    SimSyncWorld world(seed, options);
    std::vector<std::uint32_t> order;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      // Node 0's threads queue up, then node 1's thread 0 asks, while node 0's thread 0 still holds.
      if (node == 1 && local != 0) return;
      world.pause(node, node == 0 ? local * kMilli : 10 * kMilli);
      REQUIRE(world.node(node).sync->lock(kLock, local + 1) == Status::ok);
      order.push_back(node * 100 + local);
      if (node == 0 && local == 0) world.pause(node, 20 * kMilli);
      REQUIRE(world.node(node).sync->unlock(kLock, local + 1) == Status::ok);
    });
    require_done(world.run());
    CHECK(order == std::vector<std::uint32_t>{0, 1, 2, 3, 100, 4, 5, 6, 7});
  });
}

TEST_CASE("mutex: a waiter whose deadline passes leaves, and blocks nobody") {
  for_each_seed(30, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 4;
    options.threads = 2;
    SimSyncWorld world(seed, options);
    Guarded guarded;
    std::uint32_t timed_out = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      sync::Sync& sync = *world.node(node).sync;
      if (node == 0 && local == 0) {
        REQUIRE(sync.lock(kLock, 1) == Status::ok);
        critical_section(world, node, guarded, 10 * kMilli);
        REQUIRE(sync.unlock(kLock, 1) == Status::ok);
        return;
      }
      world.pause(node, kMilli + static_cast<Nanos>(node) * 100 * kMicro);
      const Nanos deadline = world.env(node).now() + 2 * kMilli;
      // Nodes 1 and 2 give up, so the token passes through them; node 3 and the other thread of node 0 wait.
      const bool patient = node == 3 || node == 0;
      const Status status = sync.lock(kLock, local + 1, patient ? kForever : deadline);
      if (!patient) {
        CHECK(status == Status::timeout);
        CHECK(world.env(node).now() - deadline < kMilli);
        CHECK_FALSE(sync.held_here(kLock));
        ++timed_out;
        world.pause(node, 30 * kMilli);
        REQUIRE(sync.lock(kLock, local + 1) == Status::ok);
      } else {
        REQUIRE(status == Status::ok);
      }
      critical_section(world, node, guarded, 0);
      REQUIRE(sync.unlock(kLock, local + 1) == Status::ok);
    });
    require_done(world.run());
    CHECK(timed_out == 4);
    CHECK(guarded.entries == 8);
    CHECK_FALSE(world.hooks_broken());
  });
}

TEST_CASE("mutex: behind the end of a job a token that comes for nobody lies where it came, and nothing is applied or flushed") {
  for_each_seed(30, [](std::uint64_t seed) {
    SplitMix64 random(mix64(seed));
    SyncWorldOptions options;
    options.nodes = 2;
    SimSyncWorld world(seed, options);
    world.start(0, 0, [&] {
      REQUIRE(world.node(0).sync->lock(kLock, 1) == Status::ok);
      world.node(0).hook->write();
      world.pause(0, kMilli + static_cast<Nanos>(random.below(100)) * kMicro);
      REQUIRE(world.node(0).sync->unlock(kLock, 1) == Status::ok);
    });
    world.start(1, 0, [&] {
      world.node(1).hook->write();
      world.pause(1, 100 * kMicro);
      CHECK(world.node(1).sync->lock(kLock, 1, world.env(1).now() + 100 * kMicro) == Status::timeout);
      world.pause(1, kMilli);
      // Before or behind the token's arrival, or in the middle of what that begins.
      world.node(1).sync->settle();
      world.node(1).sync->end();
      const Clock known = world.node(1).hook->knows();
      const std::uint64_t releases = world.node(1).hook->releases();
      world.pause(1, 10 * kMilli);
      CHECK(world.node(1).hook->knows() == known);
      CHECK(world.node(1).hook->releases() == releases);
    });
    require_done(world.run());
  });
}

TEST_CASE("mutex: try_lock never waits for a holder, and gets a free mutex wherever its token is") {
  for_each_seed(30, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 3;
    SimSyncWorld world(seed, options);
    Guarded guarded;
    world.start(0, 0, [&] {
      const auto virgin = world.node(0).sync->try_lock(kLock, 1);
      REQUIRE(virgin.has_value());
      CHECK(*virgin);
      critical_section(world, 0, guarded, 10 * kMilli);
      REQUIRE(world.node(0).sync->unlock(kLock, 1) == Status::ok);
    });
    world.start(1, 0, [&] {
      world.pause(1, kMilli);
      for (int i = 0; i < 10; ++i) {
        const Nanos before = world.env(1).now();
        const auto held = world.node(1).sync->try_lock(kLock, 1);
        REQUIRE(held.has_value());
        CHECK_FALSE(*held);
        CHECK(world.env(1).now() - before < kMilli / 10);
      }
      world.pause(1, 20 * kMilli);
      const auto free = world.node(1).sync->try_lock(kLock, 1);
      REQUIRE(free.has_value());
      CHECK(*free);
      critical_section(world, 1, guarded, 0);
      REQUIRE(world.node(1).sync->unlock(kLock, 1) == Status::ok);
    });
    require_done(world.run());
    CHECK(guarded.entries == 2);
  });
}

TEST_CASE("mutex: lock, lock with a deadline and try_lock together, at random, on few mutexes") {
  for_each_seed(100, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    const SyncWorldOptions options = random_options(random);
    SimSyncWorld world(seed, options);
    std::vector<Guarded> guarded(2);
    std::uint64_t entered = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 mine(mix64(seed) + node * 100 + local);
      sync::Sync& sync = *world.node(node).sync;
      for (int round = 0; round < 15; ++round) {
        const std::uint64_t which = mine.below(guarded.size());
        bool holds = false;
        switch (mine.below(3)) {
          case 0: {
            REQUIRE(sync.lock(kLock + which, local + 1) == Status::ok);
            holds = true;
            break;
          }
          case 1: {
            const Status status = sync.lock(kLock + which, local + 1, world.env(node).now() + static_cast<Nanos>(mine.below(30) * kMicro));
            REQUIRE((status == Status::ok || status == Status::timeout));
            holds = status == Status::ok;
            break;
          }
          default: {
            const auto got = sync.try_lock(kLock + which, local + 1);
            REQUIRE(got.has_value());
            holds = *got;
          }
        }
        if (!holds) continue;
        ++entered;
        critical_section(world, node, guarded[which], static_cast<Nanos>(mine.below(2) * 5 * kMicro));
        REQUIRE(sync.unlock(kLock + which, local + 1) == Status::ok);
      }
      // Whatever gave up on the way, the mutexes still work for everybody.
      for (std::uint64_t which = 0; which < guarded.size(); ++which) {
        REQUIRE(sync.lock(kLock + which, local + 1) == Status::ok);
        ++entered;
        critical_section(world, node, guarded[which], 0);
        REQUIRE(sync.unlock(kLock + which, local + 1) == Status::ok);
      }
    });
    require_done(world.run());
    CHECK(guarded[0].entries + guarded[1].entries == entered);
    CHECK_FALSE(world.hooks_broken());
  });
}

TEST_CASE("mutex: misuse and a full table are answered, not suffered") {
  SyncWorldOptions options;
  options.nodes = 1;
  options.threads = 2;
  options.table_slots = 2;
  SimSyncWorld world(1, options);
  world.start(0, 0, [&] {
    sync::Sync& sync = *world.node(0).sync;
    CHECK(sync.unlock(kLock, 1) == Status::perm);  // nobody ever locked it
    REQUIRE(sync.lock(kLock, 1) == Status::ok);
    CHECK(sync.lock(kLock, 1) == Status::invalid);  // recursion
    CHECK(sync.unlock(kLock, 2) == Status::perm);   // another thread's
    REQUIRE(sync.unlock(kLock, 1) == Status::ok);
    CHECK(sync.unlock(kLock, 1) == Status::perm);  // no longer held
    REQUIRE(sync.lock(kLock + 1, 1) == Status::ok);
    CHECK(sync.lock(kLock + 2, 1) == Status::exhausted);
    CHECK(sync.try_lock(kLock + 3, 1).status() == Status::exhausted);
    CHECK(sync.lock(kLock + 2, 1) == Status::exhausted);
    CHECK(sync.unlock(kLock + 1, 1) == Status::ok);
  });
  require_done(world.run());
}

}  // namespace
}  // namespace netvm::test
