// sync/ with real threads: several nodes of several threads in this process, over the shared-memory fabric. Run it under ThreadSanitizer, too.
#include <doctest/doctest.h>

#include <atomic>
#include <vector>

#include "runtime/cpu.hpp"
#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kLock = 0x2000;

// Touched under its mutex only; ThreadSanitizer sees it if exclusion fails.
struct Guarded {
  std::uint64_t entries = 0;
  Clock known;
};

std::vector<SyncWorldOptions> shapes() {
  std::vector<SyncWorldOptions> made;
  for (const ShmMode mode : {ShmMode::packet, ShmMode::direct}) {
    made.push_back({.nodes = 1, .threads = 4, .mode = mode});
    made.push_back({.nodes = 4, .threads = 1, .mode = mode});
    made.push_back({.nodes = 3, .threads = 1, .mode = mode, .silent = true});
    made.push_back({.nodes = 3, .threads = 2, .mode = mode, .arity = 2});
  }
  return made;
}

TEST_CASE("mutexes between real threads: exclusion, and each holder knows what the ones before it wrote") {
  for (const SyncWorldOptions& options : shapes()) {
    ThreadSyncWorld world(options);
    std::vector<Guarded> guarded(2);
    std::atomic<std::uint64_t> failures{0};
    constexpr int kRounds = 300;
    world.run_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(node * 10 + local + 1);
      sync::Sync& sync = *world.node(node).sync;
      ClockHook& hook = *world.node(node).hook;
      for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t which = random.below(guarded.size());
        if (sync.lock(kLock + which, local + 1) != Status::ok) ++failures;
        Guarded& mine = guarded[which];
        ++mine.entries;
        if (!mine.known.empty() && !hook.covers(mine.known)) ++failures;
        mine.known = hook.write();
        if (sync.unlock(kLock + which, local + 1) != Status::ok) ++failures;
      }
    });
    CHECK(failures == 0);
    CHECK(guarded[0].entries + guarded[1].entries == std::uint64_t{options.nodes} * options.threads * kRounds);
  }
}

TEST_CASE("mutexes between real threads: deadlines and try_lock at random") {
  for (const SyncWorldOptions& options : shapes()) {
    ThreadSyncWorld world(options);
    Guarded guarded;
    std::atomic<std::uint64_t> failures{0};
    std::atomic<std::uint64_t> entered{0};
    world.run_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(node * 10 + local + 1);
      sync::Sync& sync = *world.node(node).sync;
      for (int round = 0; round < 200; ++round) {
        bool holds = false;
        if (random.below(2) == 0) {
          const Status status = sync.lock(kLock, local + 1, world.env().now() + static_cast<Nanos>(random.below(50'000)));
          if (status != Status::ok && status != Status::timeout) ++failures;
          holds = status == Status::ok;
        } else {
          const auto got = sync.try_lock(kLock, local + 1);
          if (!got) ++failures;
          holds = got && *got;
        }
        if (!holds) continue;
        ++entered;
        ++guarded.entries;
        if (!guarded.known.empty() && !world.node(node).hook->covers(guarded.known)) ++failures;
        guarded.known = world.node(node).hook->write();
        if (sync.unlock(kLock, local + 1) != Status::ok) ++failures;
      }
      if (sync.lock(kLock, local + 1) != Status::ok) ++failures;  // it still works for everybody
      if (sync.unlock(kLock, local + 1) != Status::ok) ++failures;
    });
    CHECK(failures == 0);
    CHECK(guarded.entries == entered);
    CHECK(entered != 0);
  }
}

TEST_CASE("who only locks and unlocks sees that another node asks, without an engine") {
  SyncWorldOptions options{.nodes = 2, .threads = 1, .mode = ShmMode::direct};
  options.engines = false;
  ThreadSyncWorld world(options);
  std::atomic<bool> begun{false};
  std::atomic<bool> had_it{false};
  std::atomic<bool> ended{false};
  std::uint64_t failures = 0;
  std::uint64_t rounds = 0;
  constexpr std::uint64_t kMostRounds = 100'000'000;  // some seconds: then it has failed
  world.run_all([&](std::uint32_t node, std::uint32_t) {
    sync::Sync& sync = *world.node(node).sync;
    if (node == 0) {
      for (; !had_it.load() && rounds < kMostRounds; ++rounds) {
        if (sync.lock(kLock, 1) != Status::ok || sync.unlock(kLock, 1) != Status::ok) ++failures;
        begun.store(true);
      }
      ended.store(true);
    } else {
      while (!begun.load()) cpu_pause();
      CHECK(sync.lock(kLock, 1, world.env().now() + 60'000'000'000) == Status::ok);
      had_it.store(true);
      CHECK(sync.unlock(kLock, 1) == Status::ok);
    }
    while (!ended.load()) (void)world.node(node).nic->drive();
  });
  CHECK(failures == 0);
  CHECK(rounds < kMostRounds);
}

TEST_CASE("objects between real threads: semaphore, reader-writer lock, barrier, wait queue and flag at once, with deadlines") {
  using sync::Objects;
  for (const SyncWorldOptions& options : shapes()) {
    ThreadSyncWorld world(options);
    const std::uint64_t all = std::uint64_t{options.nodes} * options.threads;
    const auto one = [] { return std::uint64_t{1}; };
    const auto everybody = [&] { return all; };
    Guarded by_semaphore;
    Guarded by_writers;
    std::atomic<std::uint64_t> failures{0};
    std::atomic<std::uint64_t> acquired{0};
    std::atomic<std::uint64_t> written{0};
    const auto use = [&](Guarded& guarded, ClockHook& hook) {
      ++guarded.entries;
      if (!guarded.known.empty() && !hook.covers(guarded.known)) ++failures;
      guarded.known = hook.write();
    };
    world.run_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(node * 10 + local + 1);
      Objects& mine = world.node(node).sync->objects();
      ClockHook& hook = *world.node(node).hook;
      const std::uint64_t who = local + 1;
      const auto require = [&](bool condition) { failures += condition ? 0 : 1; };
      for (int round = 0; round < 100; ++round) {
        const Nanos soon = random.below(2) == 0 ? kForever : world.env().now() + static_cast<Nanos>(random.below(50'000));
        const Status permit = mine.acquire(0x100, who, one, soon);
        require(permit == Status::ok || (permit == Status::timeout && soon != kForever));
        if (permit == Status::ok) {
          ++acquired;
          use(by_semaphore, hook);
          require(mine.release(0x100, who, 1, 1, one) == Status::ok);
        }
        if (random.below(3) == 0) {
          const Status alone = mine.lock(0x108, who, soon);
          require(alone == Status::ok || (alone == Status::timeout && soon != kForever));
          if (alone == Status::ok) {
            ++written;
            use(by_writers, hook);
            require(mine.unlock(0x108, who) == Status::ok);
          }
        } else {
          const Status shared = mine.lock_shared(0x108, who, soon);
          require(shared == Status::ok || (shared == Status::timeout && soon != kForever));
          if (shared == Status::ok) {
            require(by_writers.known.empty() || hook.covers(by_writers.known));
            require(mine.unlock_shared(0x108, who) == Status::ok);
          }
        }
        const auto ticket = mine.enqueue(0x110, who);
        require(ticket.has_value());
        require(mine.wake(0x110, who, 1).has_value());  // perhaps another's; then this one's deadline ends its wait
        if (ticket) (void)mine.wait(0x110, who, *ticket, world.env().now() + 20'000);
        if (round % 10 == 0) require(mine.arrive_and_wait(0x118, who, everybody, {}) == Status::ok);
      }
      if (node == 0 && local == 0) require(mine.set_flag(0x120, who, true) == Status::ok);
      require(mine.await_flag(0x120, who) == Status::ok);
    });
    CHECK(failures == 0);
    CHECK(by_semaphore.entries == acquired);
    CHECK(by_writers.entries == written);
    CHECK(acquired != 0);
  }
}

TEST_CASE("collectives between real threads") {
  for (const SyncWorldOptions& options : shapes()) {
    ThreadSyncWorld world(options);
    const std::uint64_t everybody = std::uint64_t{options.nodes} * options.threads;
    constexpr std::uint64_t kRounds = 200;
    std::atomic<std::uint64_t> failures{0};
    std::vector<std::uint64_t> plain(everybody, 0);  // not atomic: the barriers order the accesses
    world.run_all([&](std::uint32_t node, std::uint32_t local) {
      sync::Sync& sync = *world.node(node).sync;
      const std::uint64_t rank = node * options.threads + local;
      for (std::uint64_t round = 1; round <= kRounds; ++round) {
        plain[rank] = round;
        if ((round + rank) % 3 == 0) {
          if (sync.barrier() != Status::ok) ++failures;
        } else {
          const Result<sync::SplitBarrier> token = sync.arrive();
          if (!token || sync.wait(*token) != Status::ok) ++failures;
        }
        if (plain[(rank + 1) % everybody] != round) ++failures;
        std::uint64_t value = rank + round;
        const auto add = [](std::span<std::byte> sum, std::span<const std::byte> other) {
          std::uint64_t a = 0;
          std::uint64_t b = 0;
          std::memcpy(&a, sum.data(), sizeof a);
          std::memcpy(&b, other.data(), sizeof b);
          a += b;
          std::memcpy(sum.data(), &a, sizeof a);
          return std::string();
        };
        if (sync.all_reduce(std::as_writable_bytes(std::span(&value, 1)), add) != Status::ok) ++failures;
        if (value != everybody * (everybody - 1) / 2 + everybody * round) ++failures;
        const NodeId root{static_cast<std::uint32_t>(round % options.nodes)};
        std::uint64_t told = node == root.value ? round * 17 : 0;
        if (sync.broadcast(root, std::as_writable_bytes(std::span(&told, 1))) != Status::ok) ++failures;
        if (told != round * 17) ++failures;
      }
    });
    CHECK(failures == 0);
  }
}

}  // namespace
}  // namespace netvm::test
