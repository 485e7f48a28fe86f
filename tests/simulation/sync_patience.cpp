// Nodes that do not answer for seconds, as if they had been stopped: who tries, or whose time is over, does not wait for them, and what was given up is put right
// when they answer again.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

using sync::kPatience;
using sync::Objects;

constexpr Nanos kMilli = 1'000'000, kSecond = 1'000'000'000;
constexpr std::uint64_t kAt = 0x1000;

std::uint64_t none() { return 0; }
std::uint64_t one() { return 1; }

SyncWorldOptions options_of(std::uint64_t seed, std::uint32_t nodes, std::uint32_t threads = 1) {
  SyncWorldOptions options;
  options.nodes = nodes;
  options.threads = threads;
  options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
  options.silent = seed % 4 > 1;
  return options;
}

/// Nothing passes between nodes 0 and 1 from `from` on.
nic::SimNetworkOptions silence(Nanos from, Nanos until) {
  nic::SimNetworkOptions network;
  network.lossy = true;
  network.partitions.push_back({NodeId{0}, NodeId{1}, from, until});
  return network;
}

void require_done(const Simulator::Report& report) { REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text); }

void pause_until(SimSyncWorld& world, std::uint32_t node, Nanos moment) {
  world.pause(node, std::max<Nanos>(moment - world.env(node).now(), 0));
}

// Each takes an object, without waiting beyond its deadline; and lets go what it has taken.
struct Form {
  std::string name;
  std::function<Status(sync::Sync&, std::uint64_t at, Nanos deadline)> take;
  std::function<Status(sync::Sync&, std::uint64_t at)> let_go;
};

std::vector<Form> forms() {
  return {
      {"mutex", [](sync::Sync& sync, std::uint64_t at, Nanos deadline) { return sync.lock(at, 1, deadline); },
       [](sync::Sync& sync, std::uint64_t at) { return sync.unlock(at, 1); }},
      {"semaphore", [](sync::Sync& sync, std::uint64_t at, Nanos deadline) { return sync.objects().acquire(at, 1, one, deadline); },
       [](sync::Sync& sync, std::uint64_t at) { return sync.objects().release(at, 1, 1, 1, one); }},
      {"writer", [](sync::Sync& sync, std::uint64_t at, Nanos deadline) { return sync.objects().lock(at, 1, deadline); },
       [](sync::Sync& sync, std::uint64_t at) { return sync.objects().unlock(at, 1); }},
      {"reader", [](sync::Sync& sync, std::uint64_t at, Nanos deadline) { return sync.objects().lock_shared(at, 1, deadline); },
       [](sync::Sync& sync, std::uint64_t at) { return sync.objects().unlock_shared(at, 1); }},
      {"latch", [](sync::Sync& sync, std::uint64_t at, Nanos deadline) { return sync.objects().await_latch(at, 1, none, deadline); },
       [](sync::Sync&, std::uint64_t) { return Status::ok; }},
  };
}

TEST_CASE("a node that is silent holds up nobody beyond a deadline, wherever it has the token, the state or the tail") {
  for_each_seed(20, [](std::uint64_t seed) {
    constexpr std::uint64_t kEach = 4;  // objects of a kind: some of their tails lie at either node
    const Nanos begins = 50 * kMilli, ends = 25 * kSecond;
    SimSyncWorld world(seed, options_of(seed, 2), silence(begins, ends));
    const std::vector<Form> all = forms();
    const auto at = [&](std::size_t form, std::uint64_t which) { return kAt + (form * kEach + which) * 64; };
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      sync::Sync& sync = *world.node(node).sync;
      for (std::size_t form = 0; node == 0 && form < all.size(); ++form) {
        for (std::uint64_t which = 0; which < kEach; which += 2) {  // the others are new to all
          REQUIRE(all[form].take(sync, at(form, which), kForever) == Status::ok);
          REQUIRE(all[form].let_go(sync, at(form, which)) == Status::ok);
        }
      }
      REQUIRE(sync.barrier() == Status::ok);
      pause_until(world, node, begins + kMilli);
      const auto in_time = [&](const std::string& what, Nanos limit, const std::function<Status()>& take, std::size_t form,
                               std::uint64_t which) {
        const Nanos began = world.env(node).now();
        const Status status = take();
        CAPTURE(what);
        CHECK(world.env(node).now() - began <= limit + kPatience + kMilli);
        CHECK((status == Status::timeout || (status == Status::ok && all[form].let_go(sync, at(form, which)) == Status::ok)));
      };
      for (std::size_t form = 0; node == 1 && form < all.size(); ++form) {
        for (std::uint64_t which = 0; which < kEach; ++which) {
          if (form == 0) {
            in_time(
                "try_lock", 0,
                [&] {
                  const Result<bool> got = sync.try_lock(at(form, which), 1);
                  return !got ? got.status() : *got ? Status::ok : Status::timeout;
                },
                form, which);
          }
          for (const Nanos limit : {Nanos{0}, 3 * kMilli}) {
            in_time(
                all[form].name, limit, [&] { return all[form].take(sync, at(form, which), world.env(node).now() + limit); }, form, which);
          }
        }
      }
      CHECK(world.env(node).now() < ends);
      pause_until(world, node, ends + kSecond);
      for (std::size_t form = 0; form < all.size(); ++form) {
        for (std::uint64_t which = 0; which < kEach; ++which) {
          REQUIRE(all[form].take(sync, at(form, which), kForever) == Status::ok);
          REQUIRE(all[form].let_go(sync, at(form, which)) == Status::ok);
        }
      }
    });
    require_done(world.run());
    CHECK_FALSE(world.hooks_broken());
  });
}

TEST_CASE("what comes for a thread that has given up goes to the next") {
  // `stop` becomes true at the deadline; for ever: null.
  using Stop = const std::atomic<bool>*;
  struct Kind {
    std::string name;
    std::function<Status(Objects&, Nanos deadline, Stop stop)> wait;
    std::function<Status(Objects&)> hold;  // node 0 has it, and lets go
    std::function<Status(Objects&)> release;
  };
  const auto free = [](Objects&) { return Status::ok; };
  const auto hold = [](Objects& o) { return o.lock(kAt, 1); };
  const auto unlock = [](Objects& o) { return o.unlock(kAt, 1); };
  const auto queue_up = [](Objects& o, Nanos deadline, Stop) {
    const auto ticket = o.enqueue(kAt, 1);
    return ticket ? o.wait(kAt, 1, *ticket, deadline) : ticket.status();
  };
  const auto try_once = [](Objects& o, Nanos, Stop stop) {
    const auto mine = o.begin_once(kAt, 1, stop);
    return mine && *mine ? o.end_once(kAt, 1, true) : mine.status();
  };
  const Kind kinds[] = {
      {"semaphore", [](Objects& o, Nanos deadline, Stop) { return o.acquire(kAt, 1, none, deadline); }, free,
       [](Objects& o) { return o.release(kAt, 1, 1, 9, none); }},
      {"semaphore, stopped", [](Objects& o, Nanos, Stop stop) { return o.acquire(kAt, 1, none, kForever, stop); }, free,
       [](Objects& o) { return o.release(kAt, 1, 1, 9, none); }},
      {"writer", [](Objects& o, Nanos deadline, Stop) { return o.lock(kAt, 1, deadline); }, hold, unlock},
      {"reader before a writer",
       [](Objects& o, Nanos deadline, Stop stop) { return stop == nullptr ? o.lock(kAt, 1) : o.lock_shared(kAt, 1, deadline); }, hold,
       unlock},
      {"wait queue", queue_up, free, [](Objects& o) { return o.wake(kAt, 1, 1).status(); }},
      {"once", try_once, [](Objects& o) { return o.begin_once(kAt, 1).status(); }, [](Objects& o) { return o.end_once(kAt, 1, false); }},
  };
  for (const Kind& kind : kinds) {
    CAPTURE(kind.name);
    for_each_seed(10, [&](std::uint64_t seed) {
      const Nanos begins = 50 * kMilli, ends = 4 * kSecond;
      SimSyncWorld world(seed, options_of(seed, 3), silence(begins, ends));
      std::vector<Status> ended(3, Status::invalid);
      world.start_all([&](std::uint32_t node, std::uint32_t) {
        Objects& objects = world.node(node).sync->objects();
        if (node == 0) {
          REQUIRE(kind.hold(objects) == Status::ok);
          pause_until(world, node, begins - 5 * kMilli);
          (void)objects.await_phase(kAt, 1, 0, 1);  // of another kind: refused; but it fetches the state
          pause_until(world, node, 2 * kSecond);
          ended[0] = kind.release(objects);
        } else {
          pause_until(world, node, static_cast<Nanos>(node) * 10 * kMilli);  // node 1 stands in front
          const Nanos deadline = node == 1 ? begins + 10 * kMilli : kForever;
          std::atomic<bool> stop{false};
          if (node == 1) {
            world.start(1, 50, [&] {
              pause_until(world, 1, deadline);
              stop.store(true);
              objects.look_again(kAt);
            });
          }
          ended[node] = kind.wait(objects, deadline, node == 1 ? &stop : nullptr);
          if (node == 1) CHECK(world.env(1).now() <= deadline + kPatience + kMilli);
        }
      });
      require_done(world.run());
      CHECK(ended == std::vector<Status>{Status::ok, Status::timeout, Status::ok});
    });
  }
}

// What a thread does with an object: a mutex, a semaphore of two permits, a reader-writer lock; limits and stops at random.
TEST_CASE("nodes fall silent for a while, again and again: exclusion holds, nobody waits beyond its time, and nothing is lost") {
  for_each_seed(15, [](std::uint64_t seed) {
    constexpr std::uint32_t kNodes = 4, kThreads = 2;
    constexpr std::uint64_t kMutex = 0x1000, kPermits = 0x2000, kReaders = 0x3000, kMost = 2;
    const auto most = [] { return kMost; };
    nic::SimNetworkOptions network;
    network.lossy = true;
    SplitMix64 cuts(mix64(seed));
    for (int i = 0; i < 8; ++i) {
      const auto a = static_cast<std::uint32_t>(cuts.below(kNodes));
      const auto from = static_cast<Nanos>(cuts.below(6'000)) * kMilli;
      network.partitions.push_back({NodeId{a}, NodeId{(a + 1 + static_cast<std::uint32_t>(cuts.below(kNodes - 1))) % kNodes}, from,
                                    from + static_cast<Nanos>(1 + cuts.below(3'000)) * kMilli});
    }
    SimSyncWorld world(seed, options_of(seed, kNodes, kThreads), network);
    int alone = 0, permits = 0, writers = 0, readers = 0, in_time = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 100 + local);
      sync::Sync& sync = *world.node(node).sync;
      Objects& objects = sync.objects();
      const std::uint64_t who = local + 1;
      const auto rest = [&] { world.pause(node, static_cast<Nanos>(random.below(20)) * kMilli); };
      while (world.env(node).now() < 8 * kSecond) {
        const Nanos began = world.env(node).now();
        const std::uint64_t kind = random.below(4);
        const Nanos limit = kind == 0 ? 0 : static_cast<Nanos>(random.below(300)) * kMilli;
        const Nanos deadline = kind == 3 ? kForever : began + limit;
        Status status = Status::ok;
        const auto note_time = [&] {
          if (kind == 3) return;
          CHECK(world.env(node).now() - began <= limit + kPatience + kMilli);
          ++in_time;
        };
        switch (random.below(5)) {
          case 0: {
            const Result<bool> got = kind == 0 ? sync.try_lock(kMutex, who) : Result<bool>(true);
            status = kind == 0 ? (!got ? got.status() : *got ? Status::ok : Status::timeout) : sync.lock(kMutex, who, deadline);
            note_time();
            if (status != Status::ok) break;
            CHECK(++alone == 1);
            rest();
            --alone;
            CHECK(sync.unlock(kMutex, who) == Status::ok);
            break;
          }
          case 1:
            status = objects.acquire(kPermits, who, most, deadline);
            note_time();
            if (status != Status::ok) break;
            CHECK(++permits <= static_cast<int>(kMost));
            rest();
            --permits;
            CHECK(objects.release(kPermits, who, 1, kMost, most) == Status::ok);
            break;
          case 2:
            status = objects.lock(kReaders, who, deadline);
            note_time();
            if (status != Status::ok) break;
            CHECK((++writers == 1 && readers == 0));
            rest();
            --writers;
            CHECK(objects.unlock(kReaders, who) == Status::ok);
            break;
          default:
            status = objects.lock_shared(kReaders, who, deadline);
            note_time();
            if (status != Status::ok) break;
            CHECK((++readers > 0 && writers == 0));
            rest();
            --readers;
            CHECK(objects.unlock_shared(kReaders, who) == Status::ok);
            break;
        }
        CHECK((status == Status::ok || (status == Status::timeout && kind != 3)));
        world.pause(node, static_cast<Nanos>(random.below(50)) * kMilli);
      }
      REQUIRE(sync.barrier() == Status::ok);
      world.pause(node, 5 * kSecond);  // whatever was left to tasks has been done
      if (node != 0 || local != 0) return;
      CHECK(objects.permits(kPermits, who, most).value() == kMost);
      REQUIRE(objects.lock(kReaders, who) == Status::ok);
      REQUIRE(objects.unlock(kReaders, who) == Status::ok);
      REQUIRE(sync.lock(kMutex, who) == Status::ok);
      REQUIRE(sync.unlock(kMutex, who) == Status::ok);
    });
    require_done(world.run());
    CHECK(in_time > 0);
    CHECK_FALSE(world.hooks_broken());
  });
}

}  // namespace
}  // namespace netvm::test
