// Mutexes, reader-writer locks, semaphores and wait queues between simulated nodes: one order of everything that was called explains what everybody
// got (tests/support/linearizability.hpp), over networks that reorder, duplicate and lose, with timeouts.
#include "tests/support/linearizability.hpp"

#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_models.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

constexpr Nanos kMicro = 1'000;
constexpr std::uint64_t kAt = 0x7000;
constexpr int kRounds = 6;  // of each thread

/// A run of some threads on some nodes, all of them at one object.
struct Run {
  explicit Run(std::uint64_t the_seed) : seed(the_seed), world(the_seed, options_for(the_seed), network_for(the_seed)) {}

  static SyncWorldOptions options_for(std::uint64_t seed) {
    SplitMix64 random(mix64(seed ^ 0x11ea));
    SyncWorldOptions options;
    options.nodes = 2 + static_cast<std::uint32_t>(random.below(3));
    options.threads = 1 + static_cast<std::uint32_t>(random.below(2));
    options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
    options.cohort = 1 + static_cast<std::uint32_t>(random.below(3));
    return options;
  }
  static nic::SimNetworkOptions network_for(std::uint64_t seed) {
    nic::SimNetworkOptions network;
    if (seed % 3 == 0) network = lossy(network);
    return network;
  }
  /// For ever, not at all, or for some time.
  [[nodiscard]] Nanos deadline(std::uint32_t node, SplitMix64& random) {
    const std::uint64_t kind = random.below(4);
    return kind < 2 ? kForever : kind == 2 ? 0 : world.env(node).now() + static_cast<Nanos>((1 + random.below(20)) * kMicro);
  }
  /// body(node, who, random), some times on each thread.
  template <class Body>
  void all(Body&& body) {
    world.start_all([&, body](std::uint32_t node, std::uint32_t local) {
      const std::uint64_t who = node * 10 + local + 1;
      SplitMix64 random(mix64(seed) + who);
      for (int round = 0; round < kRounds; ++round) {
        body(node, who, random);
        world.pause(node, static_cast<Nanos>(random.below(10) * kMicro));
      }
    });
    const Simulator::Report report = world.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  }
  sync::Objects& objects(std::uint32_t node) { return world.node(node).sync->objects(); }

  const std::uint64_t seed;
  SimSyncWorld world;
};

bool succeeded(Status status) {
  REQUIRE((status == Status::ok || status == Status::timeout));
  return status == Status::ok;
}

template <class Model>
struct Checked {
  Linearization found;
  std::string text;
  std::size_t operations = 0;
  explicit Checked(const HistoryRecorder<Model>& record, typename Model::State initial)
      : found(linearize<Model>(record.history(), std::move(initial))), operations(record.history().size()) {
    if (found.verdict != Linearizable::yes) text = describe(record.history(), found);
  }
};

// `broken`: nodes do not agree on where the mutex lies.
Checked<LockModel> run_mutex(std::uint64_t seed, bool broken) {
  Run run(seed);
  HistoryRecorder<LockModel> record;
  run.all([&](std::uint32_t node, std::uint64_t who, SplitMix64& random) {
    sync::Sync& sync = *run.world.node(node).sync;
    const std::uint64_t at = broken && node == 0 ? kAt + 8 : kAt;
    const bool got = record({LockModel::Kind::lock, who}, [&] { return succeeded(sync.lock(at, who)); });
    REQUIRE(got);
    run.world.pause(node, static_cast<Nanos>(random.below(3) * kMicro));
    record({LockModel::Kind::unlock, who}, [&] { return succeeded(sync.unlock(at, who)); });
  });
  return Checked<LockModel>(record, {});
}

Checked<LockModel> run_rwlock(std::uint64_t seed, bool broken) {
  Run run(seed);
  HistoryRecorder<LockModel> record;
  run.all([&](std::uint32_t node, std::uint64_t who, SplitMix64& random) {
    using Kind = LockModel::Kind;
    sync::Objects& objects = run.objects(node);
    const bool writes = random.below(3) == 0;
    const std::uint64_t at = broken && node == 0 ? kAt + 8 : kAt;
    const Nanos until = run.deadline(node, random);
    const bool timed = until != 0 && until != kForever;
    const bool got = writes ? record({Kind::lock, who, timed}, [&] { return succeeded(objects.lock(at, who, until)); })
                            : record({Kind::lock_shared, who, timed}, [&] { return succeeded(objects.lock_shared(at, who, until)); });
    if (!got) return;
    run.world.pause(node, static_cast<Nanos>(random.below(3) * kMicro));
    if (writes) {
      record({Kind::unlock, who}, [&] { return succeeded(objects.unlock(at, who)); });
    } else {
      record({Kind::unlock_shared, who}, [&] { return succeeded(objects.unlock_shared(at, who)); });
    }
  });
  return Checked<LockModel>(record, {});
}

// `broken`: now and then a permit comes from nowhere.
Checked<SemaphoreModel> run_semaphore(std::uint64_t seed, bool broken) {
  Run run(seed);
  const std::uint64_t permits = 1 + seed % 2;
  HistoryRecorder<SemaphoreModel> record;
  run.all([&](std::uint32_t node, std::uint64_t who, SplitMix64& random) {
    sync::Objects& objects = run.objects(node);
    const auto initial = [&] { return permits; };
    const Nanos until = run.deadline(node, random);
    if (!record({who, 0, until != 0 && until != kForever}, [&] { return succeeded(objects.acquire(kAt, who, initial, until)); })) return;
    run.world.pause(node, static_cast<Nanos>(random.below(3) * kMicro));
    if (broken && random.below(4) == 0) REQUIRE(objects.release(kAt, who, 1, UINT64_MAX, initial) == Status::ok);
    record({who, 1}, [&] { return succeeded(objects.release(kAt, who, 1, UINT64_MAX, initial)); });
  });
  return Checked<SemaphoreModel>(record, permits);
}

// `broken`: now and then somebody is woken of whom nobody says so.
Checked<WaitQueueModel> run_queue(std::uint64_t seed, bool broken) {
  Run run(seed);
  HistoryRecorder<WaitQueueModel> record;
  std::uint64_t tickets = 0;
  run.all([&](std::uint32_t node, std::uint64_t who, SplitMix64& random) {
    using Kind = WaitQueueModel::Kind;
    sync::Objects& objects = run.objects(node);
    if (random.below(2) == 0) {
      const std::uint64_t most = 1 + random.below(3);
      record({Kind::wake, 0, most}, [&] { return objects.wake(kAt, who, most).value(); });
      if (broken && random.below(4) == 0) REQUIRE(objects.wake(kAt, who, 1).has_value());
      return;
    }
    const std::uint64_t me = ++tickets;
    std::uint64_t ticket = 0;
    record({Kind::enqueue, me}, [&] {
      ticket = objects.enqueue(kAt, who).value();
      return std::uint64_t{0};
    });
    const Nanos until = run.world.env(node).now() + static_cast<Nanos>(random.below(60) * kMicro);
    record({Kind::wait, me}, [&] { return std::uint64_t{succeeded(objects.wait(kAt, who, ticket, until)) ? 1U : 0U}; });
  });
  return Checked<WaitQueueModel>(record, {});
}

template <class RunOnce>
void explains(const char* what, std::uint64_t seeds, RunOnce&& run_once) {
  std::uint64_t operations = 0;
  std::uint64_t states = 0;
  for_each_seed(seeds, [&](std::uint64_t seed) {
    const auto checked = run_once(seed, false);
    CHECK_MESSAGE(checked.found.verdict == Linearizable::yes, checked.text);
    operations += checked.operations;
    states += checked.found.states;
  });
  MESSAGE(std::string(what), ": ", operations, " operations put in order; ", states, " states searched");
}

TEST_CASE("mutexes are linearizable") { explains("mutex", 200, run_mutex); }
TEST_CASE("reader-writer locks are linearizable") { explains("reader-writer lock", 200, run_rwlock); }
TEST_CASE("semaphores are linearizable") { explains("semaphore", 200, run_semaphore); }
TEST_CASE("wait queues are linearizable") { explains("wait queue", 200, run_queue); }

TEST_CASE("objects that are broken are found out") {
  const auto noticed = [](const char* what, auto&& run_once) {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      if (run_once(seed, true).found.verdict != Linearizable::no) continue;
      MESSAGE(std::string(what), ": noticed with seed ", seed);
      return;
    }
    FAIL_CHECK("not noticed within 50 seeds: " << what);
  };
  noticed("a mutex that one node looks for elsewhere", run_mutex);
  noticed("a reader-writer lock that one node looks for elsewhere", run_rwlock);
  noticed("a semaphore with a permit too many", run_semaphore);
  noticed("a wait queue that wakes one more than it says", run_queue);
}

}  // namespace
}  // namespace netvm::test
