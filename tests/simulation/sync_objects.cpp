// Semaphores, reader-writer locks, wait queues, barriers, latches, flags and once between simulated nodes over a network that reorders: what they promise,
// what a passing thread knows, order, timeouts, messages.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

using sync::ObjectKind;
using sync::Objects;

constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;
constexpr std::uint64_t kAt = 0x7000;
constexpr std::uint64_t kMost = UINT64_MAX;

std::uint64_t nothing() { return 0; }
std::uint64_t one() { return 1; }
Objects& objects(SimSyncWorld& world, std::uint32_t node) { return world.node(node).sync->objects(); }

void require_done(SimSyncWorld& world, const Simulator::Report& report) {
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  CHECK_FALSE(world.hooks_broken());
}

SyncWorldOptions random_options(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x0b1ec7));
  SyncWorldOptions options;
  options.nodes = 1 + static_cast<std::uint32_t>(random.below(6));
  options.threads = 1 + static_cast<std::uint32_t>(random.below(3));
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.cohort = 1 + static_cast<std::uint32_t>(random.below(4));
  return options;
}

void merge(Clock& into, const Clock& other) {
  into.resize(other.size(), 0);
  for (std::size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}
bool knows(SimSyncWorld& world, std::uint32_t node, const Clock& clock) { return clock.empty() || world.node(node).hook->covers(clock); }

/// A random deadline: for ever, in a moment, or one that has passed.
Nanos some_deadline(SimSyncWorld& world, std::uint32_t node, SplitMix64& random) {
  const std::uint64_t kind = random.below(4);
  return kind < 2 ? kForever : world.env(node).now() + (kind == 2 ? static_cast<Nanos>(random.below(30) * kMicro) : 0);
}

// ---- semaphore -----------------------------------------------------------------------------------------------------------------

TEST_CASE("semaphore: no more inside than permits, each knows what those before it wrote, whatever times out") {
  for_each_seed(60, [](std::uint64_t seed) {
    const SyncWorldOptions options = random_options(seed);
    SimSyncWorld world(seed, options);
    const std::uint64_t permits = 1 + seed % 3;
    std::uint64_t inside = 0;
    std::uint64_t entries = 0;
    Clock known;  // of those who left, when there is one permit
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 100 + local);
      for (int round = 0; round < 10; ++round) {
        const Nanos deadline = some_deadline(world, node, random);
        const Status got = objects(world, node)
                               .acquire(
                                   kAt, local + 1, [&] { return permits; }, deadline);
        if (got == Status::timeout) continue;
        REQUIRE(got == Status::ok);
        ++entries;
        CHECK(++inside <= permits);
        if (permits == 1) CHECK(knows(world, node, known));
        world.pause(node, static_cast<Nanos>(random.below(3) * kMicro));
        const Clock mine = world.node(node).hook->write();
        if (permits == 1) known = mine;
        --inside;
        REQUIRE(objects(world, node).release(kAt, local + 1, 1, permits, [&] { return permits; }) == Status::ok);
      }
    });
    require_done(world, world.run());
    CHECK(entries > 0);
  });
}

TEST_CASE("semaphore: first come, first served, and nobody barges in") {
  for_each_seed(20, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 6;
    SimSyncWorld world(seed, options);
    std::vector<std::uint32_t> order;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      const std::uint32_t turn = (node * 5) % 6;
      if (turn == 0) {
        world.pause(node, 10 * kMilli);
        for (int i = 0; i < 5; ++i) {
          REQUIRE(objects(world, node).release(kAt, 1, 1, kMost, nothing) == Status::ok);
          // The permit is the first waiter's already, whether it has noticed or not.
          if (i < 4) CHECK(objects(world, node).acquire(kAt, 1, nothing, 0) == Status::timeout);
          world.pause(node, kMilli);
        }
        return;
      }
      world.pause(node, turn * kMilli);
      REQUIRE(objects(world, node).acquire(kAt, 1, nothing) == Status::ok);
      order.push_back(turn);
    });
    require_done(world, world.run());
    CHECK(order == std::vector<std::uint32_t>{1, 2, 3, 4, 5});
  });
}

TEST_CASE("semaphore: what many produce many consume, once each") {
  for_each_seed(30, [](std::uint64_t seed) {
    SyncWorldOptions options = random_options(seed);
    options.nodes = std::max(options.nodes, 2U);
    SimSyncWorld world(seed, options);
    std::vector<Clock> published;
    std::uint64_t consumed = 0;
    const std::uint64_t producers = options.nodes / 2 * options.threads;
    const std::uint64_t consumers = (options.nodes - options.nodes / 2) * options.threads;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 100 + local);
      if (node < options.nodes / 2) {
        for (std::uint64_t i = 0; i < consumers; ++i) {
          published.push_back(world.node(node).hook->write());
          REQUIRE(objects(world, node).release(kAt, local + 1, 1, kMost, nothing) == Status::ok);
          if (random.below(2) == 0) world.pause(node, static_cast<Nanos>(random.below(20) * kMicro));
        }
        return;
      }
      for (std::uint64_t i = 0; i < producers; ++i) {
        REQUIRE(objects(world, node).acquire(kAt, local + 1, nothing) == Status::ok);
        ++consumed;
        CHECK(consumed <= published.size());
        // The n-th acquire follows n releases, by whomever: so many of the writes at least are known.
        const Clock now = world.node(node).hook->knows();
        std::uint64_t writes = 0;
        for (std::uint32_t n = 0; n < options.nodes / 2; ++n) writes += now[n];
        CHECK(writes >= i + 1);
      }
    });
    require_done(world, world.run());
    CHECK(consumed == producers * consumers);
  });
}

TEST_CASE("semaphore: misuse") {
  SimSyncWorld world(1, {});
  world.start(0, 0, [&] {
    Objects& mine = objects(world, 0);
    CHECK(mine.release(kAt, 1, 3, 4, one) == Status::ok);  // one and three
    CHECK(mine.release(kAt, 1, 1, 4, one) == Status::invalid);
    CHECK(mine.release(kAt, 1, kMost, 4, one) == Status::invalid);
    for (int i = 0; i < 4; ++i) CHECK(mine.acquire(kAt, 1, one, 0) == Status::ok);
    CHECK(mine.acquire(kAt, 1, one, 0) == Status::timeout);
    CHECK(mine.permits(kAt, 1, one).value() == 0);
    CHECK(mine.set_flag(kAt, 1, true) == Status::invalid);  // another kind
    CHECK(mine.kind_of(kAt) == ObjectKind::semaphore);
    CHECK(world.node(0).sync->lock(kAt, 1) == Status::ok);  // a mutex at the same address is another thing
    CHECK(world.node(0).sync->unlock(kAt, 1) == Status::ok);
    CHECK(mine.init(kAt, 1, ObjectKind::flag, 0) == Status::ok);
    CHECK(mine.set_flag(kAt, 1, true) == Status::ok);
  });
  require_done(world, world.run());
}

// ---- reader-writer lock ------------------------------------------------------------------------------------------------------------

TEST_CASE("reader-writer lock: writers alone, readers together, and everybody knows what writers wrote before") {
  for_each_seed(80, [](std::uint64_t seed) {
    const SyncWorldOptions options = random_options(seed);
    SimSyncWorld world(seed, options);
    int readers = 0;
    int writers = 0;
    int most_readers = 0;
    Clock known;         // of the last writer
    Clock readers_knew;  // of readers who left since
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 100 + local);
      Objects& mine = objects(world, node);
      for (int round = 0; round < 12; ++round) {
        const Nanos deadline = some_deadline(world, node, random);
        if (random.below(3) == 0) {
          const Status got = mine.lock(kAt, local + 1, deadline);
          if (got == Status::timeout) continue;
          REQUIRE(got == Status::ok);
          CHECK(mine.lock(kAt, local + 1) == Status::invalid);
          CHECK((++writers == 1 && readers == 0));
          CHECK(knows(world, node, known));
          CHECK(knows(world, node, readers_knew));
          world.pause(node, static_cast<Nanos>(random.below(3) * kMicro));
          known = world.node(node).hook->write();
          readers_knew.clear();
          --writers;
          REQUIRE(mine.unlock(kAt, local + 1) == Status::ok);
          CHECK(mine.unlock(kAt, local + 1) == Status::perm);
        } else {
          const Status got = mine.lock_shared(kAt, local + 1, deadline);
          if (got == Status::timeout) continue;
          REQUIRE(got == Status::ok);
          most_readers = std::max(most_readers, ++readers);
          CHECK(writers == 0);
          CHECK(knows(world, node, known));
          world.pause(node, static_cast<Nanos>(random.below(5) * kMicro));
          merge(readers_knew, world.node(node).hook->write());  // not to what it guards
          --readers;
          REQUIRE(mine.unlock_shared(kAt, local + 1) == Status::ok);
          CHECK(mine.unlock_shared(kAt, local + 1) == Status::perm);
        }
      }
    });
    require_done(world, world.run());
  });
}

TEST_CASE("reader-writer lock: in order of arrival, readers next to each other enter together") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 7;
    SimSyncWorld world(seed, options);
    std::vector<int> order;  // who entered; -1: a batch of readers is complete
    int inside = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      // writer, reader, reader, writer, reader, reader, writer
      world.pause(node, node * kMilli);
      Objects& mine = objects(world, node);
      const bool writes = node % 3 == 0;
      REQUIRE((writes ? mine.lock(kAt, 1) : mine.lock_shared(kAt, 1)) == Status::ok);
      order.push_back(writes ? static_cast<int>(node) : 100);
      if (!writes && ++inside == 2) {
        order.push_back(-1);
        inside = 0;
      }
      world.pause(node, node == 0 ? 20 * kMilli : kMilli);
      REQUIRE((writes ? mine.unlock(kAt, 1) : mine.unlock_shared(kAt, 1)) == Status::ok);
    });
    require_done(world, world.run());
    CHECK(order == std::vector<int>{0, 100, 100, -1, 3, 100, 100, -1, 6});
  });
}

TEST_CASE("reader-writer lock: a writer that gives up lets the readers behind it in; readers of a node cannot starve a writer") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 3;
    options.threads = 2;
    SimSyncWorld world(seed, options);
    bool reads = false;
    bool wrote = false;
    world.start(0, 0, [&] {
      REQUIRE(objects(world, 0).lock_shared(kAt, 1) == Status::ok);
      world.pause(0, 20 * kMilli);
      CHECK(reads);
      REQUIRE(objects(world, 0).unlock_shared(kAt, 1) == Status::ok);
    });
    world.start(1, 0, [&] {
      world.pause(1, kMilli);
      CHECK(objects(world, 1).lock(kAt, 1, world.env(1).now() + 5 * kMilli) == Status::timeout);
      REQUIRE(objects(world, 1).lock(kAt, 1) == Status::ok);
      wrote = true;
      REQUIRE(objects(world, 1).unlock(kAt, 1) == Status::ok);
    });
    world.start(2, 0, [&] {
      world.pause(2, 2 * kMilli);
      REQUIRE(objects(world, 2).lock_shared(kAt, 1) == Status::ok);
      reads = true;
      REQUIRE(objects(world, 2).unlock_shared(kAt, 1) == Status::ok);
    });
    // Two readers of one node that overlap all the time.
    for (std::uint64_t local = 0; local < 2; ++local) {
      world.start(0, 1 + static_cast<std::uint32_t>(local), [&, local] {
        world.pause(0, (10 + static_cast<Nanos>(local)) * kMilli);
        while (!wrote) {
          REQUIRE(objects(world, 0).lock_shared(kAt, 10 + local) == Status::ok);
          world.pause(0, 2 * kMilli);
          REQUIRE(objects(world, 0).unlock_shared(kAt, 10 + local) == Status::ok);
          world.pause(0, kMicro);
          REQUIRE(world.env(0).now() < 1'000 * kMilli);
        }
      });
    }
    require_done(world, world.run());
  });
}

// ---- wait queue ---------------------------------------------------------------------------------------------------------------------

TEST_CASE("wait queue under a mutex: no wake-up is lost, none is made up, and who is woken knows what the waker wrote") {
  for_each_seed(60, [](std::uint64_t seed) {
    SyncWorldOptions options = random_options(seed);
    options.nodes = std::max(options.nodes, 2U);
    SimSyncWorld world(seed, options);
    constexpr std::uint64_t kMutex = 0x100;
    int items = 0;
    std::uint64_t made = 0;
    std::uint64_t taken = 0;
    std::uint64_t waited = 0;
    Clock known;
    const std::uint64_t wanted = std::uint64_t{options.nodes - 1} * options.threads * 6;
    const auto enter = [&](std::uint32_t node, std::uint64_t who) {
      REQUIRE(world.node(node).sync->lock(kMutex, who) == Status::ok);
      CHECK(knows(world, node, known));
    };
    const auto leave = [&](std::uint32_t node, std::uint64_t who) {
      known = world.node(node).hook->write();
      REQUIRE(world.node(node).sync->unlock(kMutex, who) == Status::ok);
    };
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 100 + local);
      const std::uint64_t who = local + 1;
      if (node == 0) {
        while (made < wanted) {
          enter(node, who);
          const bool more = made < wanted;
          if (more) ++made, ++items;
          leave(node, who);
          if (more) REQUIRE(objects(world, node).wake(kAt, who, random.below(4) == 0 ? kMost : 1).has_value());
          if (random.below(3) == 0) world.pause(node, static_cast<Nanos>(random.below(20) * kMicro));
        }
        return;
      }
      for (int round = 0; round < 6; ++round) {
        enter(node, who);
        while (items == 0) {
          const auto ticket = objects(world, node).enqueue(kAt, who);
          REQUIRE(ticket.has_value());
          leave(node, who);
          const Nanos deadline = random.below(3) == 0 ? world.env(node).now() + static_cast<Nanos>(random.below(50) * kMicro) : kForever;
          const Status got = objects(world, node).wait(kAt, who, *ticket, deadline);
          REQUIRE((got == Status::ok || (deadline != kForever && got == Status::timeout)));
          ++waited;
          enter(node, who);
        }
        --items;
        ++taken;
        leave(node, who);
      }
    });
    require_done(world, world.run());
    CHECK(taken == wanted);
  });
}

TEST_CASE("wait queue: wakes in order, as many as it is told, and interrupt() ends a wait") {
  for_each_seed(10, [](std::uint64_t seed) {
    SyncWorldOptions options;
    options.nodes = 6;
    SimSyncWorld world(seed, options);
    std::vector<std::uint32_t> order;
    std::uint64_t ticket_of_3 = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      Objects& mine = objects(world, node);
      world.pause(node, node * kMilli);
      if (node == 0) {
        CHECK(*mine.wake(kAt, 1, kMost) == 0);
        world.pause(node, 20 * kMilli);
        CHECK(*mine.wake(kAt, 1, 2) == 2);
        world.pause(node, 5 * kMilli);
        CHECK(*mine.wake(kAt, 1, kMost) == 2);  // 4 and 5: 3 has left
        CHECK(*mine.wake(kAt, 1, 1) == 0);
        return;
      }
      const std::uint64_t ticket = *mine.enqueue(kAt, 1);
      if (node == 3) ticket_of_3 = ticket;
      const Status got = mine.wait(kAt, 1, ticket);
      CHECK(got == (node == 3 ? Status::timeout : Status::ok));
      if (node != 3) order.push_back(node);
    });
    world.start(3, 1, [&] {
      world.pause(3, 22 * kMilli);
      objects(world, 3).interrupt(ticket_of_3);
      objects(world, 3).interrupt(ticket_of_3 + 100);  // nobody
    });
    require_done(world, world.run());
    CHECK(order.size() == 4);
    CHECK(std::min(order[0], order[1]) == 1);
    CHECK(std::max(order[0], order[1]) == 2);
  });
}

// ---- barrier, latch, flag, once ---------------------------------------------------------------------------------------------------------

TEST_CASE("barrier: any set of threads, phase after phase; nobody passes early, everybody knows what all wrote") {
  for_each_seed(60, [](std::uint64_t seed) {
    const SyncWorldOptions options = random_options(seed);
    SimSyncWorld world(seed, options);
    const std::uint64_t all = std::uint64_t{options.nodes} * options.threads;
    const std::uint64_t count = 1 + mix64(seed) % all;
    constexpr std::uint64_t kPhases = 6;
    std::vector<std::uint64_t> arrived(kPhases, 0);
    std::vector<Clock> wrote(kPhases);
    std::uint64_t completions = 0;
    const std::function<void()> complete = [&] {
      CHECK(arrived[completions] == count);
      ++completions;
    };
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      if (node + local * options.nodes >= count) return;  // some threads of many nodes
      SplitMix64 random(mix64(seed) + node * 100 + local);
      Objects& mine = objects(world, node);
      const auto initial = [&] { return count; };
      for (std::uint64_t phase = 0; phase < kPhases; ++phase) {
        world.pause(node, static_cast<Nanos>(random.below(20) * kMicro));
        merge(wrote[phase], world.node(node).hook->write());
        ++arrived[phase];
        const Objects::Arrival arrival{.on_completion = &complete};
        if (random.below(2) == 0) {
          REQUIRE(mine.arrive_and_wait(kAt, local + 1, initial, arrival) == Status::ok);
        } else {
          const auto ticket = mine.arrive(kAt, local + 1, initial, arrival);
          REQUIRE(ticket.has_value());
          CHECK(*ticket == phase);
          world.pause(node, static_cast<Nanos>(random.below(20) * kMicro));
          while (mine.await_phase(kAt, local + 1, *ticket, some_deadline(world, node, random)) == Status::timeout)
            world.pause(node, kMicro);
        }
        CHECK(arrived[phase] == count);
        CHECK(completions > phase);
        CHECK(knows(world, node, wrote[phase]));
      }
    });
    require_done(world, world.run());
    CHECK(completions == kPhases);
  });
}

TEST_CASE("barrier: re-initialised, dropped from, and told of misuse") {
  SyncWorldOptions options;
  options.nodes = 3;
  SimSyncWorld world(1, options);
  const auto three = [] { return std::uint64_t{3}; };
  std::uint64_t passed = 0;
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    Objects& mine = objects(world, node);
    REQUIRE(mine.arrive_and_wait(kAt, 1, three, {}) == Status::ok);
    if (node == 2) {
      CHECK(mine.arrive_and_wait(kAt, 1, three, {.must_be_of = 4}) == Status::invalid);
      CHECK(mine.arrive(kAt, 1, three, {.arrivals = 4}).status() == Status::invalid);
      REQUIRE(mine.arrive(kAt, 1, three, {.drops = true}).has_value());
      return;
    }
    for (int i = 0; i < 3; ++i) REQUIRE(mine.arrive_and_wait(kAt, 1, three, {.must_be_of = 0}) == Status::ok);
    ++passed;
    if (node == 1) return;
    world.pause(0, 10 * kMilli);
    REQUIRE(mine.init(kAt, 1, ObjectKind::barrier, 1) == Status::ok);
    for (int i = 0; i < 3; ++i) REQUIRE(mine.arrive_and_wait(kAt, 1, three, {.must_be_of = 1}) == Status::ok);
  });
  require_done(world, world.run());
  CHECK(passed == 2);
}

TEST_CASE("an object that threads wait for, or have, is not initialised again") {
  SyncWorldOptions options;
  options.nodes = 2;
  SimSyncWorld world(1, options);
  world.start(0, 0, [&] {
    REQUIRE(objects(world, 0).await_flag(kAt, 1) == Status::ok);
    REQUIRE(objects(world, 0).lock_shared(kAt + 8, 1) == Status::ok);
    CHECK(objects(world, 0).init(kAt + 8, 1, ObjectKind::rwlock, 0) == Status::invalid);
    REQUIRE(objects(world, 0).unlock_shared(kAt + 8, 1) == Status::ok);
    CHECK(objects(world, 0).init(kAt + 8, 1, ObjectKind::rwlock, 0) == Status::ok);
  });
  world.start(1, 0, [&] {
    world.pause(1, kMilli);
    CHECK(objects(world, 1).init(kAt, 1, ObjectKind::latch, 3) == Status::invalid);
    REQUIRE(objects(world, 1).set_flag(kAt, 1, true) == Status::ok);
    CHECK(objects(world, 1).init(kAt, 1, ObjectKind::latch, 3) == Status::ok);
  });
  require_done(world, world.run());
}

TEST_CASE("latch, flag and once: who passes knows what was written before") {
  for_each_seed(40, [](std::uint64_t seed) {
    const SyncWorldOptions options = random_options(seed);
    SimSyncWorld world(seed, options);
    const std::uint64_t all = std::uint64_t{options.nodes} * options.threads;
    const auto count = [&] { return all; };
    std::uint64_t down = 0;
    bool set = false;
    std::uint64_t runs = 0;
    bool done = false;
    Clock before_latch;
    Clock before_flag;
    Clock of_once;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 random(mix64(seed) + node * 100 + local);
      Objects& mine = objects(world, node);
      const std::uint64_t who = local + 1;
      merge(before_latch, world.node(node).hook->write());
      ++down;
      REQUIRE(mine.count_down(kAt, who, count, 1) == Status::ok);
      while (mine.await_latch(kAt, who, count, some_deadline(world, node, random)) == Status::timeout) world.pause(node, kMicro);
      CHECK(down == all);
      CHECK(knows(world, node, before_latch));
      CHECK(mine.count_down(kAt, who, count, 1) == Status::invalid);

      if (node == 0 && local == 0) {
        CHECK(mine.await_flag(kAt + 8, who, 0) == Status::timeout);
        before_flag = world.node(node).hook->write();
        set = true;
        REQUIRE(mine.set_flag(kAt + 8, who, true) == Status::ok);
      }
      while (mine.await_flag(kAt + 8, who, some_deadline(world, node, random)) == Status::timeout) world.pause(node, kMicro);
      CHECK(set);
      CHECK(knows(world, node, before_flag));

      const auto must = mine.begin_once(kAt + 16, who);
      REQUIRE(must.has_value());
      if (*must) {
        CHECK_FALSE(done);
        world.pause(node, static_cast<Nanos>(random.below(10) * kMicro));
        of_once = world.node(node).hook->write();
        ++runs;
        done = runs == 2 || all == 1;  // the first attempt fails
        REQUIRE(mine.end_once(kAt + 16, who, done) == Status::ok);
        return;
      }
      CHECK(done);
      CHECK(knows(world, node, of_once));
    });
    require_done(world, world.run());
    CHECK(runs == std::min<std::uint64_t>(all, 2));
  });
}

// ---- what it costs ------------------------------------------------------------------------------------------------------------------------

TEST_CASE("an object that this node used last costs no message; a wake-up where the token is costs none beside those of the token") {
  SyncWorldOptions options;
  options.nodes = 2;
  options.dawdle = false;
  SimSyncWorld world(1, options);
  bool woken = false;
  world.start(0, 0, [&] {
    Objects& mine = objects(world, 0);
    REQUIRE(mine.release(kAt, 1, 1, kMost, nothing) == Status::ok);
    const std::uint64_t operations = world.total(Stat::one_sided_ops);
    for (int i = 0; i < 50; ++i) {
      REQUIRE(mine.acquire(kAt, 1, nothing) == Status::ok);
      REQUIRE(mine.release(kAt, 1, 1, kMost, nothing) == Status::ok);
      REQUIRE(mine.lock_shared(kAt + 8, 1) == Status::ok);
      REQUIRE(mine.unlock_shared(kAt + 8, 1) == Status::ok);
    }
    CHECK(world.total(Stat::messages_sent) == 0);
    CHECK(world.total(Stat::one_sided_ops) <= operations + 2);  // the lock's first use
    REQUIRE(mine.acquire(kAt, 1, nothing) == Status::ok);
    world.pause(0, 10 * kMilli);  // node 1 takes the token and waits
    CHECK(world.total(Stat::messages_sent) == 2);
    REQUIRE(mine.release(kAt, 1, 1, kMost, nothing) == Status::ok);  // rides ahead: node 1 is woken there, and the token comes back
    CHECK(woken);
    CHECK(world.total(Stat::messages_sent) == 4);
  });
  world.start(1, 0, [&] {
    world.pause(1, 5 * kMilli);
    REQUIRE(objects(world, 1).acquire(kAt, 1, nothing) == Status::ok);
    woken = true;
  });
  require_done(world, world.run());
}

TEST_CASE("objects: the same seed gives the same run") {
  for_each_seed(5, [](std::uint64_t seed) {
    const auto hash = [seed] {
      SyncWorldOptions options;
      options.nodes = 4;
      options.threads = 2;
      SimSyncWorld world(seed, options);
      world.start_all([&](std::uint32_t node, std::uint32_t local) {
        for (int round = 0; round < 5; ++round) {
          REQUIRE(objects(world, node).acquire(kAt, local + 1, one) == Status::ok);
          REQUIRE(objects(world, node).release(kAt, local + 1, 1, 1, one) == Status::ok);
          REQUIRE(objects(world, node).arrive_and_wait(kAt + 8, local + 1, [] { return std::uint64_t{8}; }, {}) == Status::ok);
        }
      });
      const Simulator::Report report = world.run();
      require_done(world, report);
      return report.trace_hash;
    };
    CHECK(hash() == hash());
  });
}

}  // namespace
}  // namespace netvm::test
