// Waits that end early, and waits that do not end: a stop request, the watchdog, and what many threads on few cores do.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "nic/queue_pair.hpp"
#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/fairness.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;
constexpr std::uint64_t kLock = 0x1000;

TEST_CASE("mutex: a waiter that is asked to give up leaves the queue, and blocks nobody") {
  for_each_seed(50, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 4;
    options.threads = 3;
    options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
    options.silent = seed % 4 > 1;
    SimSyncWorld world(seed, options);
    int inside = 0;
    std::uint32_t gave_up = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 10 + local);
      sync::Sync& sync = *world.node(node).sync;
      for (int round = 0; round < 10; ++round) {
        std::atomic<bool> give_up{false};
        bool over = false;
        if (random.below(2) == 0) {
          const Nanos when = static_cast<Nanos>(random.below(40)) * kMicro;
          world.start(node, 50 + local, [&world, &give_up, &over, &sync, node, when] {
            world.pause(node, when);
            give_up.store(true);
            sync.look_again(kLock);
            over = true;
          });
        } else {
          over = true;
        }
        const Status status = sync.lock(kLock, local + 1, kForever, &give_up);
        REQUIRE((status == Status::ok || (status == Status::timeout && give_up)));
        if (status == Status::ok) {
          CHECK(++inside == 1);
          world.pause(node, static_cast<Nanos>(random.below(5)) * kMicro);
          CHECK(--inside == 0);
          CHECK(sync.unlock(kLock, local + 1) == Status::ok);
        } else {
          ++gave_up;
        }
        while (!over) world.pause(node, 10 * kMicro);
      }
      REQUIRE(sync.lock(kLock, local + 1) == Status::ok);  // it still works for everybody
      REQUIRE(sync.unlock(kLock, local + 1) == Status::ok);
    });
    const Simulator::Report report = world.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK(gave_up > 0);
  });
}

/// What the watchdogs of two nodes say while `body` runs on a thread of each.
std::vector<std::string> watched(const std::function<void(SimSyncWorld&, std::uint32_t)>& body,
                                 const nic::SimNetworkOptions& network = {}) {
  std::vector<std::string> lines;
  SyncWorldOptions options;
  options.nodes = 2;
  options.watchdog = 10 * kMilli;
  options.report = [&lines](const std::vector<std::string>& more) { lines.insert(lines.end(), more.begin(), more.end()); };
  SimSyncWorld world(1, options, network);
  world.start_all([&](std::uint32_t node, std::uint32_t) { body(world, node); });
  const Simulator::Report report = world.run();
  CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
  return lines;
}

TEST_CASE("watchdog: says once who waits for whom, across nodes, and is quiet about short waits") {
  const std::vector<std::string> lines = watched([](SimSyncWorld& world, std::uint32_t node) {
    sync::Sync& sync = *world.node(node).sync;
    for (const Nanos hold : {5 * kMilli, 100 * kMilli}) {
      world.pause(node, node * kMilli);
      CHECK(sync.lock(kLock, 5) == Status::ok);
      if (node == 0) world.pause(node, hold);
      CHECK(sync.unlock(kLock, 5) == Status::ok);
      CHECK(sync.barrier() == Status::ok);
    }
  });
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].starts_with("thread 4 of node 1 has waited 0.0 s for the mutex at offset 0x1000, which thread 4 of node 0 holds"));
}

// Its token came when nobody waited for it any more, and the thread came into its queue at rest.
TEST_CASE("watchdog: an object has a name also at a node that has met it with its token alone") {
  const std::vector<std::string> lines = watched([](SimSyncWorld& world, std::uint32_t node) {
    sync::Objects& objects = world.node(node).sync->objects();
    if (node == 0) CHECK(objects.wait(kLock, 1, objects.enqueue(kLock, 1).value(), world.env(node).now()) == Status::timeout);
    CHECK(world.node(node).sync->barrier() == Status::ok);
    if (node == 0) return;
    CHECK(objects.enqueue(kLock, 1, world.env(node).now() + 1).status() == Status::timeout);
    world.pause(node, kMilli);
    const auto place = objects.enqueue(kLock, 1);
    CHECK(objects.wait(kLock, 1, place.value(), world.env(node).now() + 50 * kMilli) == Status::timeout);
  });
  REQUIRE(lines.size() == 1);
  CHECK_MESSAGE(
      lines[0].starts_with("thread 0 of node 1 has waited 0.0 s for the condition at offset 0x1000; 1 thread waits to be notified"),
      lines[0]);
}

TEST_CASE("watchdog: finds a deadlock between nodes") {
  const std::vector<std::string> lines = watched([](SimSyncWorld& world, std::uint32_t node) {
    sync::Sync& sync = *world.node(node).sync;
    CHECK(sync.lock(kLock + node, 1) == Status::ok);
    world.pause(node, kMilli);
    const Nanos deadline = world.env(node).now() + (node == 0 ? 200 : 300) * kMilli;
    const Status status = sync.lock(kLock + 1 - node, 1, deadline);
    CHECK(status == (node == 0 ? Status::timeout : Status::ok));
    if (status == Status::ok) CHECK(sync.unlock(kLock + 1 - node, 1) == Status::ok);
    CHECK(sync.unlock(kLock + node, 1) == Status::ok);
  });
  CHECK(lines.size() == 4);  // a line for each wait, and for each node that looks the circle
  CHECK(std::count_if(lines.begin(), lines.end(), [](const std::string& line) { return line.starts_with("this is a deadlock: "); }) == 2);
}

TEST_CASE("watchdog: waits for event counters are told, however the thread waits, and short ones are not") {
  for (const nic::WaitMode mode : {nic::WaitMode::spin, nic::WaitMode::block, nic::WaitMode::adaptive}) {
    std::vector<nic::RemoteCounter> counters(2);
    const std::vector<std::string> lines = watched([&](SimSyncWorld& world, std::uint32_t node) {
      counters[node] = world.node(node).nic->counter_create().value();
      CHECK(world.node(node).sync->barrier() == Status::ok);
      nic::Nic& nic = *world.node(node).nic;
      if (node == 0) {
        CHECK(nic.notify(counters[1], 2) == Status::ok);
        world.pause(node, 100 * kMilli);
        CHECK(nic.waits().empty());
        CHECK(nic.notify(counters[1], 1) == Status::ok);
      } else {
        CHECK(nic.counter_wait(counters[1], 2, mode) == Status::ok);
        CHECK(nic.counter_wait(counters[1], 3, mode, kForever, 6) == Status::ok);
        CHECK(nic.waits().empty());
      }
    });
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].starts_with("thread 5 of node 1 has waited 0.0 s for event counter 0 to reach 3, which is at 2"));
  }
}

TEST_CASE("watchdog: waits for what has been posted are told, with the node that has not answered") {
  using Post = std::function<void(nic::Nic&, const nic::RemoteCounter& away, const nic::RemoteCounter& here)>;
  const Post blocking = [](nic::Nic& nic, const nic::RemoteCounter& away, const nic::RemoteCounter&) {
    nic::Completion done;
    nic.post_notify(away, 1, &done);
    CHECK(nic.wait(done) == Status::ok);
  };
  const Post pair = [](nic::Nic& nic, const nic::RemoteCounter& away, const nic::RemoteCounter&) {
    auto made = nic::QueuePair::create(nic, {.target = NodeId{0}});
    REQUIRE(made);
    CHECK((*made)->post({.op = nic::QpOp::notify, .counter = away, .increment = 1}).status == Status::ok);
    CHECK((*made)->flush() == Status::ok);
  };
  const Post trigger = [](nic::Nic& nic, const nic::RemoteCounter& away, const nic::RemoteCounter& here) {
    nic::Completion done;
    REQUIRE(nic.post_triggered(here, 1, nic::TriggeredOperation::notify(away, 1), &done));
    CHECK(nic.wait(done) == Status::ok);
  };
  struct Case {
    Post post;
    std::string what;
  };
  const Case cases[] = {{blocking, "an operation at node 0, which has not answered"},
                        {pair, "what a queue pair has posted to node 0, which has not answered"},
                        {trigger, "an operation that is still to be triggered"}};
  for (const Case& one : cases) {
    std::vector<nic::RemoteCounter> counters(2);
    nic::SimNetworkOptions network;
    network.lossy = true;
    network.partitions.push_back({NodeId{0}, NodeId{1}, 5 * kMilli, 100 * kMilli});
    const std::vector<std::string> lines = watched(
        [&](SimSyncWorld& world, std::uint32_t node) {
          nic::Nic& nic = *world.node(node).nic;
          counters[node] = nic.counter_create().value();
          CHECK(world.node(node).sync->barrier() == Status::ok);
          world.pause(node, 10 * kMilli);
          if (node == 1) {
            one.post(nic, counters[0], counters[1]);
            CHECK(nic.waits().empty());
          } else {
            CHECK(nic.notify(counters[1], 1) == Status::ok);
          }
        },
        network);
    REQUIRE(!lines.empty());
    CHECK_MESSAGE(lines[0].starts_with("a thread of node 1 has waited 0.0 s for " + one.what), lines[0]);
    CHECK(std::count_if(lines.begin(), lines.end(), [](const std::string& line) { return line.find("has waited") != std::string::npos; }) ==
          1);
  }
}

TEST_CASE("mutex: memory that holds a mutex in use is told from other memory") {
  SyncWorldOptions options;
  options.nodes = 2;
  SimSyncWorld world(1, options);
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    sync::Sync& sync = *world.node(node).sync;
    const auto busy = [&](std::uint64_t from, std::uint64_t bytes) { return sync.busy_in(from, bytes).value_or(sync::SyncId{}).offset; };
    CHECK(busy(0, 1 << 20) == 0);
    if (node == 0) {
      for (std::uint64_t i = 0; i < 100; ++i) {
        CHECK(sync.lock(kLock + 64 * i, 1) == Status::ok);
        CHECK(busy(kLock + 64 * i, 8) == kLock + 64 * i);
        CHECK(busy(0, 1 << 30) == kLock + 64 * i);
        if (i != 99) CHECK(sync.unlock(kLock + 64 * i, 1) == Status::ok);
      }
      CHECK(busy(0, kLock + 64 * 99) == 0);
      CHECK(busy(kLock + 64 * 99 + 8, 1 << 30) == 0);
      world.pause(0, 10 * kMilli);
      CHECK(sync.unlock(kLock + 64 * 99, 1) == Status::ok);
      return;
    }
    world.pause(1, 5 * kMilli);
    CHECK(sync.lock(kLock + 64 * 99, 1) == Status::ok);
    CHECK(sync.unlock(kLock + 64 * 99, 1) == Status::ok);
    CHECK(busy(0, 1 << 30) == 0);
  });
  const Simulator::Report report = world.run();
  CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
}

TEST_CASE("memory with an object that is used anywhere is not freed; freed, all that was known of it is gone on all nodes") {
  using sync::Objects;
  SyncWorldOptions options;
  options.nodes = 3;
  SimSyncWorld world(1, options);
  constexpr std::uint64_t kFlag = 0x2000, kGuard = 0x2008, kPermits = 0x2010, kMutex = 0x2018, kCount = 0x2020;
  const auto none = [] { return std::uint64_t{0}; };
  std::uint32_t done = 0;
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    sync::Sync& sync = *world.node(node).sync;
    Objects& mine = sync.objects();
    const auto refused = [&](std::uint64_t at, std::uint64_t bytes, sync::SyncId expected, std::uint32_t where) {
      const auto use = sync.free_memory(at, bytes, 1);
      REQUIRE(use.has_value());
      REQUIRE(use->has_value());
      CHECK((*use)->object == expected);
      CHECK((*use)->node == NodeId{where});
    };
    if (node == 0) {
      CHECK(mine.await_flag(kFlag, 1, 0) == Status::timeout);
      CHECK(mine.init(kPermits, 1, sync::ObjectKind::semaphore, 5) == Status::ok);
      CHECK(sync.lock(kMutex, 1) == Status::ok);
      CHECK(sync.unlock(kMutex, 1) == Status::ok);
      CHECK(mine.lock_shared(kGuard, 1) == Status::ok);
      refused(kGuard, 8, sync::SyncId::of_object(kGuard), 0);
      CHECK(mine.unlock_shared(kGuard, 1) == Status::ok);
      world.pause(0, 10 * kMilli);  // the others wait, hold, read
      refused(kFlag, 8, sync::SyncId::of_object(kFlag), 1);
      refused(kMutex, 8, sync::SyncId{kMutex}, 2);
      refused(kGuard, 8, sync::SyncId::of_object(kGuard), 2);
      refused(kPermits, 4096, sync::SyncId{kMutex}, 2);  // more than it knows of itself
      CHECK(mine.permits(kPermits, 1, none).value() == 3);
      CHECK(mine.set_flag(kFlag, 1, true) == Status::ok);
      while (done < 2) world.pause(0, kMilli);
      const auto freed = sync.free_memory(kFlag, 64, 1);
      REQUIRE(freed.has_value());
      CHECK_FALSE(freed->has_value());
      CHECK_FALSE(sync.free_memory(0x9000, 64, 1)->has_value());  // nobody ever used it
      ++done;
    } else {
      world.pause(node, kMilli * node);
      CHECK(mine.acquire(kPermits, 1, none) == Status::ok);
      if (node == 1) {
        CHECK(mine.count_down(
                  kCount, 1, [] { return std::uint64_t{2}; }, 1) == Status::ok);
        CHECK(mine.await_flag(kFlag, 1) == Status::ok);
      } else {
        CHECK(sync.lock(kMutex, 1) == Status::ok);
        CHECK(mine.lock_shared(kGuard, 1) == Status::ok);
        world.pause(node, 30 * kMilli);
        CHECK(mine.unlock_shared(kGuard, 1) == Status::ok);
        CHECK(sync.unlock(kMutex, 1) == Status::ok);
      }
      ++done;
      while (done < 3) world.pause(node, kMilli);
    }
    // A new life, of whatever kind, for whoever comes first.
    world.pause(node, (3 - node) * kMilli);
    CHECK(mine.await_flag(kFlag, 1, 0) == Status::timeout);
    CHECK(mine.permits(kPermits, 1, none).value() == 0);
    CHECK(mine.wake(kCount, 1, 1).value() == 0);
  });
  const Simulator::Report report = world.run();
  CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
}

TEST_CASE("mutex: nodes that contend get it equally often, with one request and one grant each time") {
  for (const std::uint32_t nodes : {2U, 3U, 4U, 8U, 16U}) {
    for (const std::uint32_t threads : {1U, 4U}) {
      SyncWorldOptions options;
      options.nodes = nodes;
      options.threads = threads;
      options.cohort = 4;
      SimSyncWorld world(nodes * 10 + threads, options);
      std::vector<std::uint64_t> entries(nodes, 0);
      const Nanos end = 20 * kMilli;
      world.start_all([&](std::uint32_t node, std::uint32_t local) {
        sync::Sync& sync = *world.node(node).sync;
        while (world.env(node).now() < end) {
          REQUIRE(sync.lock(kLock, local + 1) == Status::ok);
          ++entries[node];
          world.pause(node, 10 * kMicro);  // longer than a request takes: those who want it are queued
          REQUIRE(sync.unlock(kLock, local + 1) == Status::ok);
        }
      });
      const Simulator::Report report = world.run();
      REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
      const double jain = fairness(entries);
      CHECK_MESSAGE(jain >= 0.95, nodes << " nodes of " << threads << " threads: " << jain);
      std::uint64_t hand_overs = 0;
      for (std::uint32_t n = 0; n < nodes; ++n) hand_overs = std::max(hand_overs, world.node(n).sync->epoch_of(kLock));
      CHECK(world.total(Stat::messages_sent) == 2 * hand_overs);
    }
  }
}

}  // namespace
}  // namespace netvm::test
