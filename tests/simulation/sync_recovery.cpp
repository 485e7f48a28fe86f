// pitfall 13: nodes that die at any moment among others that contend for mutexes. The survivors exclude each other, nobody waits for ever, a mutex whose token
// died is refused to all of them until one of them recovers it, and one whose token a survivor had goes on.
#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kLock = 0x4000;
constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;

struct Guarded {
  std::optional<std::uint32_t> inside;  // the node in its critical section
  std::uint64_t epoch = 0;              // of the last that entered
  std::uint64_t entries = 0;
  Clock known;
  bool must_live = false;  // a survivor was inside long after the last node died
  bool must_end = false;   // a node died inside
  bool had_ended = false;  // somebody was told so
};

/// A job in which nodes die. A node that has died does nothing any more: its NIC is shut down, and its threads return where they look next.
class Mortals {
 public:
  Mortals(std::uint64_t seed, const SyncWorldOptions& options, std::size_t locks)
      : options_(options), world_(seed, options), random_(mix64(seed ^ 0xdead)), dead_(options.nodes, false), locks_(locks) {}

  [[nodiscard]] SimSyncWorld& world() { return world_; }
  [[nodiscard]] Guarded& lock(std::size_t which) { return locks_[which]; }
  [[nodiscard]] bool is_dead(std::uint32_t node) const { return dead_[node]; }

  /// From now on; called by a thread that need not be the node's. The survivors learn of it later, some only from each other.
  void kill(std::uint32_t node) {
    dead_[node] = true;
    world_.node(node).nic->shut_down();
    for (Guarded& guarded : locks_) {
      if (guarded.inside == node) guarded.must_end = true;
      guarded.must_live = false;
    }
    all_told_ = world_.simulator().now() + kMilli;
    const std::uint32_t alive = static_cast<std::uint32_t>(std::count(dead_.begin(), dead_.end(), false));
    std::uint32_t told = 0;
    for (std::uint32_t n = 0; n < options_.nodes; ++n) {
      if (dead_[n]) continue;
      const bool last = ++told == alive;
      if (!last && random_.below(3) == 0) continue;
      const Nanos later = static_cast<Nanos>(random_.below(200)) * kMicro;
      world_.start(n, 90 + node, [this, n, later] {
        world_.pause(n, later);
        // All that have died: who was told of another may have died before it told anybody.
        for (std::uint32_t d = 0; d < options_.nodes && !dead_[n]; ++d) {
          if (dead_[d]) world_.node(n).sync->declare_dead(NodeId{d});
        }
      });
    }
  }

  /// Locks, looks that nobody else is inside, stays, unlocks. What came of it; cancelled: this node has died.
  Status visit(std::uint32_t node, std::uint64_t who, std::size_t which, Nanos stay, Nanos deadline) {
    sync::Sync& sync = *world_.node(node).sync;
    Guarded& guarded = locks_[which];
    const Status status = sync.lock(kLock + which, who, deadline);
    if (dead_[node]) return Status::cancelled;
    if (status == Status::owner_dead) {
      guarded.had_ended = true;
      CHECK_FALSE(guarded.must_live);
      CHECK(sync.epoch_of(kLock + which) > guarded.epoch);
    }
    if (status != Status::ok) return status;
    return enter_and_leave(node, who, which, stay);
  }

  Status enter_and_leave(std::uint32_t node, std::uint64_t who, std::size_t which, Nanos stay) {
    sync::Sync& sync = *world_.node(node).sync;
    Guarded& guarded = locks_[which];
    CHECK_FALSE(guarded.inside.has_value());
    CHECK_FALSE(guarded.must_end);
    CHECK_FALSE(guarded.had_ended);
    CHECK(sync.epoch_of(kLock + which) >= guarded.epoch);  // of all lives
    if (!guarded.known.empty()) CHECK(world_.node(node).hook->covers(guarded.known));
    guarded.epoch = sync.epoch_of(kLock + which);
    guarded.inside = node;
    guarded.must_live = world_.simulator().now() > all_told_;
    ++guarded.entries;
    if (stay > 0) world_.pause(node, stay);
    if (dead_[node]) return Status::cancelled;
    guarded.known = world_.node(node).hook->write();
    guarded.inside.reset();
    CHECK(sync.unlock(kLock + which, who) == Status::ok);
    return dead_[node] ? Status::cancelled : Status::ok;
  }

  /// A thread has recovered it: what was written under it before, it need not know.
  void revived(std::size_t which) {
    Guarded& guarded = locks_[which];
    CHECK((!guarded.inside || dead_[*guarded.inside]));
    guarded.inside.reset();
    guarded.known.clear();
    guarded.must_end = guarded.had_ended = false;
  }

 private:
  SyncWorldOptions options_;
  SimSyncWorld world_;
  SplitMix64 random_;
  std::vector<bool> dead_;
  Nanos all_told_ = 0;  // when everybody knows of the last death
  std::vector<Guarded> locks_;
};

SyncWorldOptions some_options(SplitMix64& random) {
  SyncWorldOptions options;
  options.nodes = 3 + static_cast<std::uint32_t>(random.below(4));
  options.threads = 1 + static_cast<std::uint32_t>(random.below(3));
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.cohort = 1 + static_cast<std::uint32_t>(random.below(4));
  options.silent = random.below(2) == 0;
  return options;
}

struct Outcome {
  std::uint64_t lived = 0;
  std::uint64_t ended = 0;
};

/// A run in which one or two nodes die while all contend for a few mutexes.
Outcome run_mortals(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x0b17));
  const SyncWorldOptions options = some_options(random);
  const std::size_t locks = 1 + random.below(3);
  Mortals mortals(seed, options, locks);
  SimSyncWorld& world = mortals.world();
  const std::uint32_t deaths = 1 + static_cast<std::uint32_t>(random.below(3) == 0 ? 1 : 0);
  const auto first = static_cast<std::uint32_t>(random.below(options.nodes));
  const Nanos when = static_cast<Nanos>(random.below(400)) * kMicro / 2;
  const Nanos between = static_cast<Nanos>(random.below(300)) * kMicro;
  std::set<std::size_t> seen_ended[8];
  world.start(first == 0 ? 1 : 0, 80, [&, first, when, between, deaths] {
    world.pause(first == 0 ? 1 : 0, when);
    mortals.kill(first);
    if (deaths == 1) return;
    world.pause(first == 0 ? 1 : 0, between);
    mortals.kill((first + 2) % options.nodes);
  });
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    SplitMix64 mine(mix64(seed) + node * 100 + local);
    const std::uint64_t who = local + 1;
    const auto look = [&](std::size_t which, Status status) {
      if (status == Status::owner_dead) seen_ended[node].insert(which);
      CHECK_FALSE((status == Status::ok && seen_ended[node].contains(which)));
      CHECK((status == Status::ok || status == Status::timeout || status == Status::owner_dead || status == Status::cancelled));
    };
    for (int round = 0; round < 20 && !mortals.is_dead(node); ++round) {
      const std::size_t which = mine.below(locks);
      const Nanos stay = static_cast<Nanos>(mine.below(3)) * 3 * kMicro;
      if (mine.below(4) == 0) {
        const auto got = world.node(node).sync->try_lock(kLock + which, who);
        if (mortals.is_dead(node)) return;
        if (!got) look(which, got.status());
        if (got && *got) look(which, mortals.enter_and_leave(node, who, which, stay));
      } else {
        const Nanos deadline = mine.below(4) == 0 ? world.env(node).now() + static_cast<Nanos>(mine.below(50)) * kMicro : kForever;
        look(which, mortals.visit(node, who, which, stay, deadline));
      }
      if (mine.below(3) == 0) world.pause(node, static_cast<Nanos>(mine.below(20)) * kMicro);
    }
    if (mortals.is_dead(node)) return;
    // When all is told: every survivor sees every mutex the same way.
    world.pause(node, 5 * kMilli);
    for (std::size_t which = 0; which < locks && !mortals.is_dead(node); ++which) {
      const Status status = mortals.visit(node, who, which, 0, kForever);
      if (status == Status::cancelled) return;
      look(which, status);
      CHECK((status == Status::owner_dead) == mortals.lock(which).had_ended);
      if (mortals.lock(which).must_end) CHECK(status == Status::owner_dead);
    }
  });
  const Simulator::Report report = world.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  CHECK_FALSE(world.hooks_broken());
  Outcome outcome;
  for (std::size_t which = 0; which < locks; ++which) ++(mortals.lock(which).had_ended ? outcome.ended : outcome.lived);
  return outcome;
}

TEST_CASE("pitfall 13: nodes die at any moment; the others exclude each other, go on where they can, and are told where not") {
  Outcome total;
  for_each_seed(100, [&](std::uint64_t seed) {
    const Outcome outcome = run_mortals(seed);
    total.lived += outcome.lived;
    total.ended += outcome.ended;
  });
  MESSAGE(total.lived, " mutexes went on, ", total.ended, " ended with a node");
}

/// Who is told that a mutex is lost recovers it, while two nodes die soon after each other. How often that was done.
std::uint64_t run_recoveries(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x4ec0));
  const SyncWorldOptions options = some_options(random);
  const std::size_t locks = 1 + random.below(3);
  Mortals mortals(seed, options, locks);
  SimSyncWorld& world = mortals.world();
  const auto first = static_cast<std::uint32_t>(random.below(options.nodes));
  const std::uint32_t second = (first + 1 + static_cast<std::uint32_t>(random.below(options.nodes - 1))) % options.nodes;
  std::uint32_t watcher = 0;
  while (watcher == first || watcher == second) ++watcher;
  const Nanos when = static_cast<Nanos>(random.below(400)) * kMicro / 2;
  const Nanos between = static_cast<Nanos>(random.below(600)) * kMicro;
  world.start(watcher, 80, [&] {
    world.pause(watcher, when);
    mortals.kill(first);
    world.pause(watcher, between);
    mortals.kill(second);
  });
  std::uint64_t recovered = 0;
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    SplitMix64 mine(mix64(seed) + node * 100 + local);
    const std::uint64_t who = local + 1;
    sync::Sync& sync = *world.node(node).sync;
    const auto use = [&](std::size_t which, Nanos stay, Nanos deadline) {
      Status status = Status::timeout;
      if (mine.below(4) == 0) {
        const Result<bool> got = sync.try_lock(kLock + which, who);
        if (!got) status = got.status();
        if (got && *got) status = Status::ok;
      } else {
        status = sync.lock(kLock + which, who, deadline);
      }
      if (mortals.is_dead(node)) return;
      if (status == Status::owner_dead) {
        if (mine.below(3) == 0) world.pause(node, static_cast<Nanos>(mine.below(60)) * kMicro);
        const Result<bool> mended = sync.recover(kLock + which, who);
        if (mortals.is_dead(node)) return;
        REQUIRE(mended.has_value());
        if (!*mended) return;
        ++recovered;
        mortals.revived(which);
        status = Status::ok;
      }
      if (status == Status::ok) status = mortals.enter_and_leave(node, who, which, stay);
      CHECK((status == Status::ok || status == Status::timeout || status == Status::cancelled));
    };
    for (int round = 0; round < 30 && !mortals.is_dead(node); ++round) {
      const Nanos deadline = mine.below(4) == 0 ? world.env(node).now() + static_cast<Nanos>(mine.below(50)) * kMicro : kForever;
      use(mine.below(locks), static_cast<Nanos>(mine.below(4)) * 5 * kMicro, deadline);
      if (mine.below(3) == 0) world.pause(node, static_cast<Nanos>(mine.below(20)) * kMicro);
    }
    // When all is told, and recovered: nobody takes a mutex for lost that lives.
    if (!mortals.is_dead(node)) world.pause(node, 5 * kMilli);
    for (std::size_t which = 0; which < locks && !mortals.is_dead(node); ++which) use(which, 0, kForever);
    if (!mortals.is_dead(node)) world.pause(node, 5 * kMilli);
    for (std::size_t which = 0; which < locks && !mortals.is_dead(node); ++which)
      CHECK(mortals.visit(node, who, which, 0, kForever) == Status::ok);
  });
  const Simulator::Report report = world.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  CHECK_FALSE(world.hooks_broken());
  return recovered;
}

TEST_CASE("a mutex that was recovered lives for all, whatever they heard of a death before or after, and whoever dies next") {
  std::uint64_t recovered = 0;
  for_each_seed(100, [&](std::uint64_t seed) { recovered += run_recoveries(seed); });
  // A verdict that came behind the news of the recovery, a try_lock that took away what its node had recovered, a request by a tail that a dying home had written, a life of which no survivor knew,
  // two that were queued behind one node, in this life and the one before.
  for (const std::uint64_t seed : {4953, 252, 19244, 6204, 28234}) recovered += run_recoveries(seed);
  MESSAGE(recovered, " mutexes recovered");
  CHECK(recovered > 0);
}

/// Node 0 holds; 1, 2 and 3 queue up behind it in this order; `victim` dies; then node 0 unlocks. Who got it, in order.
std::vector<std::uint32_t> queue_of_four(std::uint64_t seed, std::uint32_t victim, std::vector<Status>* what) {
  SyncWorldOptions options;
  options.nodes = 4;
  Mortals mortals(seed, options, 1);
  SimSyncWorld& world = mortals.world();
  std::vector<std::uint32_t> order;
  what->assign(4, Status::ok);
  world.start(victim == 0 ? 1 : 0, 80, [&] {
    world.pause(victim == 0 ? 1 : 0, 10 * kMilli);
    mortals.kill(victim);
  });
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    world.pause(node, static_cast<Nanos>(node) * kMilli);
    const Status status = world.node(node).sync->lock(kLock, 1);
    if (mortals.is_dead(node)) return;
    (*what)[node] = status;
    if (status != Status::ok) return;
    order.push_back(node);
    if (node == 0) world.pause(node, 20 * kMilli);
    if (!mortals.is_dead(node)) CHECK(world.node(node).sync->unlock(kLock, 1) == Status::ok);
  });
  const Simulator::Report report = world.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  return order;
}

TEST_CASE("pitfall 13: a waiter that dies is taken out of the queue, and the others keep their order") {
  for_each_seed(10, [](std::uint64_t seed) {
    std::vector<Status> what;
    CHECK(queue_of_four(seed, 1, &what) == std::vector<std::uint32_t>{0, 2, 3});
    CHECK(queue_of_four(seed, 2, &what) == std::vector<std::uint32_t>{0, 1, 3});
    CHECK(queue_of_four(seed, 3, &what) == std::vector<std::uint32_t>{0, 1, 2});
  });
}

TEST_CASE("pitfall 13: when the holder dies, all who wait are told so") {
  for_each_seed(10, [](std::uint64_t seed) {
    std::vector<Status> what;
    CHECK(queue_of_four(seed, 0, &what) == std::vector<std::uint32_t>{0});
    CHECK(what == std::vector<Status>{Status::ok, Status::owner_dead, Status::owner_dead, Status::owner_dead});
  });
}

TEST_CASE("pitfall 13: mutexes that survivors have outlive their home, others do not") {
  for_each_seed(10, [](std::uint64_t seed) {
    constexpr std::uint64_t kLocks = 24;
    SyncWorldOptions options;
    options.nodes = 3;
    Mortals mortals(seed, options, kLocks);
    SimSyncWorld& world = mortals.world();
    world.start(0, 0, [&] {
      // Node 0 has the first third, node 2 the second, and nobody the rest.
      for (std::uint64_t which = 0; which < kLocks / 3; ++which) CHECK(mortals.visit(0, 1, which, 0, kForever) == Status::ok);
      world.pause(0, 5 * kMilli);
      mortals.kill(1);
      world.pause(0, 5 * kMilli);
      std::uint64_t refused = 0;
      for (std::uint64_t which = 0; which < kLocks; ++which) {
        const Status status = mortals.visit(0, 1, which, 0, kForever);
        if (which < 2 * kLocks / 3) CHECK(status == Status::ok);
        refused += status == Status::owner_dead ? 1 : 0;
      }
      CHECK(refused > 0);  // of those whose home is dead nobody knows whether it had them
      CHECK(refused < kLocks / 3);
      world.pause(0, 5 * kMilli);
    });
    world.start(2, 0, [&] {
      for (std::uint64_t which = kLocks / 3; which < 2 * kLocks / 3; ++which) CHECK(mortals.visit(2, 1, which, 0, kForever) == Status::ok);
      world.pause(2, 20 * kMilli);
      for (std::uint64_t which = 0; which < kLocks; ++which) {
        const Status status = mortals.visit(2, 1, which, 0, kForever);
        CHECK((status == Status::owner_dead) == mortals.lock(which).had_ended);
      }
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  });
}

TEST_CASE("pitfall 13: a barrier that a dead node does not come to ends for the others") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 5;
    options.threads = 2;
    options.arity = 2;
    Mortals mortals(seed, options, 1);
    SimSyncWorld& world = mortals.world();
    const auto victim = static_cast<std::uint32_t>(seed % 5);
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      if (node == victim) {
        world.pause(node, kMilli);
        if (local == 0) mortals.kill(node);
        return;
      }
      CHECK(world.node(node).sync->barrier() == Status::peer_dead);
    });
    const Simulator::Report report = world.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  });
}

}  // namespace
}  // namespace netvm::test
