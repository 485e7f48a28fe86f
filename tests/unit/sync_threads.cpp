// sync/ with real threads: several nodes of several threads in this process, over the shared-memory fabric. Run it under ThreadSanitizer, too.
#include <doctest/doctest.h>

#include <atomic>
#include <vector>

#include "runtime/random.hpp"
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
        if (sync.barrier() != Status::ok) ++failures;
        if (plain[(rank + 1) % everybody] != round) ++failures;
        std::uint64_t value = rank + round;
        const auto add = [](std::span<std::byte> sum, std::span<const std::byte> other) {
          std::uint64_t a = 0;
          std::uint64_t b = 0;
          std::memcpy(&a, sum.data(), sizeof a);
          std::memcpy(&b, other.data(), sizeof b);
          a += b;
          std::memcpy(sum.data(), &a, sizeof a);
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
