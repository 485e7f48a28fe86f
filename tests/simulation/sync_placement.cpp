// Chosen homes, and locks that are made again when they were lost: among nodes that contend, at any moment, also while nodes die.
#include <doctest/doctest.h>

#include <optional>
#include <vector>

#include "runtime/random.hpp"
#include "sync/home_rules.hpp"
#include "sync/objects.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

using sync::HomeRule;
using sync::MemoryRange;
using Kind = HomeRule::Kind;

constexpr std::uint64_t kAt = 0x8000;
constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;

TEST_CASE("home rules: elements go where they are told; what is placed anew takes the place of what was said before") {
  sync::HomeRules rules(4);
  CHECK_FALSE(rules.home_of(kAt).has_value());
  rules.set({kAt, 80}, {Kind::cyclic, {}, 8});
  rules.set({kAt + 16, 8}, {Kind::at, NodeId{3}, 8});
  CHECK_FALSE(rules.home_of(kAt - 1).has_value());
  CHECK_FALSE(rules.home_of(kAt + 80).has_value());
  const std::vector<std::uint32_t> expected = {0, 1, 3, 3, 0, 1, 2, 3, 0, 1};
  for (std::uint32_t i = 0; i < 10; ++i) CHECK(rules.home_of(kAt + 8 * i + i % 8)->value == expected[i]);
  rules.set({kAt + 200, 80}, {Kind::block, {}, 8});
  const std::vector<std::uint32_t> blocks = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3};
  for (std::uint32_t i = 0; i < 10; ++i) CHECK(rules.home_of(kAt + 200 + 8 * i)->value == blocks[i]);
  CHECK(rules.any_in({kAt + 79, 200}));
  CHECK_FALSE(rules.any_in({kAt + 80, 120}));
  rules.set({0, UINT64_MAX / 2}, {});
  CHECK_FALSE(rules.any_in({0, UINT64_MAX / 2}));
}

TEST_CASE("an object that nobody has used survives every node but its home") {
  for (const std::uint32_t home : {0U, 1U, 2U}) {
    CAPTURE(home);
    SyncWorldOptions options;
    options.nodes = 3;
    SimSyncWorld world(home + 1, options);
    constexpr std::uint64_t kLocks = 32;  // by their addresses a third of them would live at node 2
    world.start(0, 0, [&] {
      sync::Sync& sync = *world.node(0).sync;
      CHECK(sync.place({kAt, 8 * kLocks}, {Kind::at, NodeId{home}, 8}) == Status::ok);
      CHECK(sync.place({kAt, 8}, {Kind::at, NodeId{3}, 8}) == Status::invalid);
      world.node(2).nic->shut_down();
      sync.declare_dead(NodeId{2});
      world.pause(0, kMilli);
      for (std::uint64_t i = 0; i < kLocks; ++i) {
        const Status status = sync.lock(kAt + 8 * i, 1);
        CHECK(status == (home == 2 ? Status::owner_dead : Status::ok));
        CHECK(sync.objects().release(kAt + 8 * i, 1, 1, 9, [] { return std::uint64_t{0}; }) == status);
      }
      CHECK(sync.place({kAt, 8}, {Kind::at, NodeId{2}, 8}) == Status::peer_dead);
      // What nobody had asked for before can be given another home.
      CHECK(sync.place({kAt, 8 * kLocks + 8}, {Kind::at, NodeId{1}, 8}) == Status::ok);
      CHECK(sync.lock(kAt + 8 * kLocks, 1) == Status::ok);
      CHECK((sync.lock(kAt, 2, 0) == Status::owner_dead) == (home == 2));  // lost is lost, wherever its tail is
    });
    const Simulator::Report report = world.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  }
}

TEST_CASE("the home alone is asked: a node locks what was placed at it without a word to anybody") {
  SyncWorldOptions options;
  options.nodes = 3;
  SimSyncWorld world(7, options);
  world.start(1, 0, [&] {
    sync::Sync& sync = *world.node(1).sync;
    constexpr std::uint64_t kLocks = 30;
    CHECK(sync.place({kAt, 8 * kLocks}, {Kind::cyclic, {}, 8}) == Status::ok);
    world.pause(1, kMilli);
    const auto said = [&] { return world.total(Stat::one_sided_ops) + world.total(Stat::messages_sent); };
    const std::uint64_t before = said();  // node 1 happens to be who must be told of the page's use, too
    for (std::uint64_t i = 1; i < kLocks; i += 3) CHECK(sync.lock(kAt + 8 * i, 1) == Status::ok);
    CHECK(said() == before);
    CHECK(sync.lock(kAt, 1) == Status::ok);
    CHECK(said() > before);
  });
  const Simulator::Report report = world.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
}

TEST_CASE("freed memory forgets where its objects lived, and that they were lost") {
  SyncWorldOptions options;
  options.nodes = 3;
  SimSyncWorld world(7, options);
  world.start(2, 0, [&] {
    CHECK(world.node(2).sync->lock(kAt, 1) == Status::ok);
    world.pause(2, kMilli);
  });
  world.start(0, 0, [&] {
    sync::Sync& sync = *world.node(0).sync;
    world.pause(0, kMilli / 2);  // node 2 has it by now
    CHECK(sync.place({kAt, 64}, {Kind::at, NodeId{1}, 8}) == Status::ok);
    world.pause(0, 2 * kMilli);
    world.node(2).nic->shut_down();
    sync.declare_dead(NodeId{2});
    CHECK(sync.lock(kAt, 1) == Status::owner_dead);
    CHECK_FALSE(sync.free_memory(kAt, 64, 1)->has_value());
    CHECK(sync.lock(kAt, 1) == Status::ok);
  });
  const Simulator::Report report = world.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
}

/// Nodes that contend for a few mutexes while these are placed here and there, nodes die, and who finds one lost makes it again.
class Movers {
 public:
  explicit Movers(std::uint64_t seed)
      : seed_(seed), random_(mix64(seed ^ 0x907e)), options_(some_options(random_)), world_(seed, options_), dead_(options_.nodes, false) {}

  void run() {
    const auto victim = static_cast<std::uint32_t>(random_.below(options_.nodes));
    const std::uint32_t teller = victim == 0 ? 1 : 0;
    const bool somebody_dies = random_.below(4) != 0;
    if (somebody_dies) {
      world_.start(teller, 80, [this, victim, teller, when = static_cast<Nanos>(random_.below(300)) * kMicro] {
        world_.pause(teller, when);
        dead_[victim] = true;
        world_.node(victim).nic->shut_down();
        for (std::uint64_t which = 0; which < kLocks; ++which) {
          if (inside_[which] == victim) inside_[which].reset();
          // What nobody else has used may be lost, or be placed anew by somebody who never heard of it.
          if (known_[which].empty() || users_[which] != std::uint32_t{1} << victim) continue;
          known_[which] = {};
          epoch_[which] = 0;
        }
        world_.node(teller).sync->declare_dead(NodeId{victim});
      });
    }
    world_.start_all([this](std::uint32_t node, std::uint32_t local) { contend(node, local); });
    const Simulator::Report report = world_.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK_FALSE(world_.hooks_broken());
  }
  std::uint64_t placed = 0, busy = 0, recovered = 0;

 private:
  static constexpr std::uint64_t kLocks = 3;
  static SyncWorldOptions some_options(SplitMix64& random) {
    SyncWorldOptions options;
    options.nodes = 3 + static_cast<std::uint32_t>(random.below(3));
    options.threads = 1 + static_cast<std::uint32_t>(random.below(2));
    options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
    options.silent = random.below(2) == 0;
    return options;
  }

  void contend(std::uint32_t node, std::uint32_t local) {
    SplitMix64 mine(mix64(seed_) + node * 100 + local);
    for (int round = 0; round < 20 && !dead_[node]; ++round) {
      if (mine.below(4) == 0) {
        place(node, mine);
      } else {
        visit(node, local + 1, mine.below(kLocks), static_cast<Nanos>(mine.below(3)) * 3 * kMicro);
      }
      if (!dead_[node] && mine.below(2) == 0) world_.pause(node, static_cast<Nanos>(mine.below(20)) * kMicro);
    }
    if (dead_[node]) return;
    world_.pause(node, 5 * kMilli);
    for (std::uint64_t which = 0; which < kLocks && !dead_[node]; ++which) visit(node, local + 1, which, 0);
  }

  void place(std::uint32_t node, SplitMix64& mine) {
    const auto kind = static_cast<Kind>(mine.below(4));
    const auto home = NodeId{static_cast<std::uint32_t>(mine.below(options_.nodes))};
    const std::uint64_t first = mine.below(kLocks);
    const Status status = world_.node(node).sync->place({kAt + 8 * first, 8 * (1 + mine.below(kLocks - first))}, {kind, home, 8});
    if (dead_[node]) return;
    CHECK((status == Status::ok || status == Status::invalid || (status == Status::peer_dead && kind == Kind::at)));
    ++(status == Status::ok ? placed : busy);
  }

  void visit(std::uint32_t node, std::uint64_t who, std::uint64_t which, Nanos stay) {
    sync::Sync& sync = *world_.node(node).sync;
    const std::uint64_t lock = kAt + 8 * which;
    for (;;) {
      const Status status = sync.lock(lock, who);
      if (dead_[node] || status == Status::cancelled) return;
      if (status == Status::ok) break;
      REQUIRE(status == Status::owner_dead);
      const netvm::Result<bool> mended = sync.recover(lock, who);
      if (dead_[node]) return;
      REQUIRE(mended.has_value());
      if (!*mended) continue;
      ++recovered;
      known_[which] = {};  // what the dead had written under it may be gone
      break;
    }
    CHECK_FALSE(inside_[which].has_value());
    CHECK(sync.epoch_of(lock) >= epoch_[which]);
    if (!known_[which].empty()) CHECK(world_.node(node).hook->covers(known_[which]));
    epoch_[which] = sync.epoch_of(lock);
    inside_[which] = node;
    users_[which] |= std::uint32_t{1} << node;
    if (stay > 0) world_.pause(node, stay);
    if (dead_[node]) return;
    known_[which] = world_.node(node).hook->write();
    inside_[which].reset();
    CHECK(sync.unlock(lock, who) == Status::ok);
  }

  const std::uint64_t seed_;
  SplitMix64 random_;
  const SyncWorldOptions options_;
  SimSyncWorld world_;
  std::vector<bool> dead_;
  std::optional<std::uint32_t> inside_[kLocks];
  std::uint64_t epoch_[kLocks] = {};
  std::uint32_t users_[kLocks] = {};  // a bit for each node
  Clock known_[kLocks];
};

TEST_CASE("mutexes that are placed while they are used, and made again when they are lost, exclude as ever") {
  std::uint64_t placed = 0;
  std::uint64_t busy = 0;
  std::uint64_t recovered = 0;
  for_each_seed(100, [&](std::uint64_t seed) {
    Movers movers(seed);
    movers.run();
    placed += movers.placed;
    busy += movers.busy;
    recovered += movers.recovered;
  });
  MESSAGE(placed, " placements, ", busy, " refused, ", recovered, " mutexes made again");
  CHECK(placed > 0);
  CHECK(busy > 0);
}

TEST_CASE("objects that are lost or broken begin anew when they are constructed, once for all, and lock tokens rise") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 3;
    SimSyncWorld world(seed, options);
    const auto none = [] { return std::uint64_t{0}; };
    constexpr std::uint64_t kSemaphore = kAt, kLock = kAt + 8, kBarrier = kAt + 16;
    std::uint64_t token = 0;
    world.start(2, 0, [&] {
      sync::Objects& objects = world.node(2).sync->objects();
      CHECK(objects.release(kSemaphore, 1, 5, 9, none) == Status::ok);
      CHECK(objects.lock(kLock, 1) == Status::ok);
      token = objects.fencing_token(kLock, 1).value();
      CHECK(objects.arrive(kBarrier, 1, [] { return std::uint64_t{2}; }, {}).has_value());
    });
    for (std::uint32_t node = 0; node < 2; ++node) {
      world.start(node, 0, [&, node] {
        sync::Objects& objects = world.node(node).sync->objects();
        world.pause(node, kMilli);
        if (node == 0) {
          world.node(2).nic->shut_down();
          world.node(0).sync->declare_dead(NodeId{2});
        }
        CHECK(objects.lock(kLock, 1) == Status::owner_dead);
        CHECK(objects.acquire(kSemaphore, 1, none) == Status::owner_dead);
        CHECK(objects.arrive_and_wait(kBarrier, 1, none, {}) == Status::owner_dead);
        world.pause(node, kMilli);
        // Both do it; the one that comes late begins anew once more.
        CHECK(objects.init(kBarrier, 1, sync::ObjectKind::barrier, 2) == Status::ok);
        CHECK(objects.init(kSemaphore, 1, sync::ObjectKind::semaphore, 0) == Status::ok);
        const Status status = objects.init(kLock, 1, sync::ObjectKind::rwlock, 0);
        CHECK((status == Status::ok || status == Status::invalid));  // the other has it by now
        CHECK(objects.lock(kLock, 1) == Status::ok);
        CHECK(objects.fencing_token(kLock, 1).value() > token);
        token = objects.fencing_token(kLock, 1).value();
        CHECK(objects.unlock(kLock, 1) == Status::ok);
        world.pause(node, kMilli);
        CHECK(objects.arrive_and_wait(kBarrier, 1, none, {}) == Status::ok);
        if (node == 0) CHECK(objects.release(kSemaphore, 1, 1, 9, none) == Status::ok);
        if (node == 1) CHECK(objects.acquire(kSemaphore, 1, none) == Status::ok);
      });
    }
    const Simulator::Report report = world.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  });
}

}  // namespace
}  // namespace netvm::test
