// Threads beside the section, for every protocol: they use locks while their node is at a barrier, and what they write then is lost to nobody.
#include <doctest/doctest.h>

#include <array>
#include <string>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kWords = 40;  // of a record: on two pages; under entry, several blocks
constexpr std::uint64_t kRecord = kWords * sizeof(std::uint64_t);

SimClusterOptions cluster_options(std::string_view protocol, std::uint64_t seed) {
  SimClusterOptions options;
  options.protocol = protocol;
  options.nodes = 3;
  options.pages = 64;
  options.seed = seed;
  options.all_threads_wait = [](NodeId) { return false; };
  return options;
}

// What a node writes after it has arrived at a barrier that barrier does not tell, and what it is given meanwhile goes on to nodes that have not come.
// Two threads of each node meet at barriers, a third does not; the two now and then give a lock up, so that its token comes while they are at the barrier. Between
// two barriers one thread writes a record without its lock.
class Outsiders {
 public:
  static constexpr std::uint32_t kInside = 2;
  static constexpr int kRounds = 12;

  Outsiders(std::string_view protocol, std::uint64_t seed) : seed_(seed), cluster_(options(protocol, seed)) {
    for (std::uint32_t node = 0; node < cluster_.nodes(); ++node) cluster_.node(node).sync->set_local_threads(kInside);
    // Of counters that share a page the barrier tells more than it must, so some have one of their own.
    for (Counter& counter : counters_) counter.at = cluster_.allocate(2 * kPageSize, {}) + kPageSize - kRecord / 2;
    locks_ = cluster_.allocate(kPageSize, {});
    owned_ = cluster_.allocate(kPageSize, {});
  }

  void run() {
    const Ending ending = cluster_.run_at_once([this](Worker& me) { me.local() < kInside ? inside(me) : outside(me); });
    CHECK_MESSAGE(ending.well, "seed ", seed_, ": ", ending.text);
  }

 private:
  static SimClusterOptions options(std::string_view protocol, std::uint64_t seed) {
    SimClusterOptions options = cluster_options(protocol, seed);
    options.threads = kInside + 1;
    options.network.max_delay = seed % 2 == 0 ? 40'000 : 5'000;
    return options;
  }
  struct Counter {
    Place at = 0;
    std::uint64_t value = 0;  // changed under its lock
  };

  [[nodiscard]] sync::Sync& sync(Worker& me) { return *cluster_.node(me.node()).sync; }
  [[nodiscard]] Place lock_of(std::size_t counter) const { return locks_ + 8 * counter; }
  static bool is_rwlock(std::size_t counter) { return counter % 2 != 0; }

  void bind(Worker& me) {
    for (std::size_t i = 0; i < counters_.size(); ++i) {
      const sync::SyncId id = is_rwlock(i) ? sync::SyncId::of_object(lock_of(i)) : sync::SyncId{lock_of(i)};
      REQUIRE(cluster_.node(me.node()).dsm->bind(id, counters_[i].at, kRecord));
    }
    me.bind(lock_of(0), owned_, kRecord);
  }

  void add(Worker& me, std::size_t index, Nanos deadline) {
    Counter& counter = counters_[index];
    const Place lock = lock_of(index);
    const Status taken = is_rwlock(index) ? me.objects().lock(lock, me.who(), deadline) : sync(me).lock(lock, me.who(), deadline);
    if (taken == Status::timeout) return;
    REQUIRE(taken == Status::ok);
    for (std::uint64_t w = 0; w < kWords; ++w) {
      CHECK_MESSAGE(me.load<std::uint64_t>(counter.at + 8 * w) == counter.value, "seed ", seed_, ": counter ", index);
      me.store(counter.at + 8 * w, counter.value + 1);
    }
    ++counter.value;
    REQUIRE((is_rwlock(index) ? me.objects().unlock(lock, me.who()) : sync(me).unlock(lock, me.who())) == Status::ok);
  }

  Nanos some_time(Worker& me, SplitMix64& random, std::uint64_t most) {
    return cluster_.simulator().env(NodeId{me.node()}).now() + static_cast<Nanos>(random.below(most));
  }

  void inside(Worker& me) {
    SplitMix64 random(mix64(seed_ * 100 + me.rank()));
    if (me.local() == 0) bind(me);
    me.barrier();
    ++begun_;
    for (int round = 0; round < kRounds; ++round) {
      const auto turn = static_cast<std::uint32_t>(round);
      if (me.local() == 0 && turn % me.nodes() == me.node()) me.store<std::uint64_t>(owned_, turn + 1);
      for (std::uint64_t step = random.below(3); step > 0; --step) {
        add(me, random.below(counters_.size()), random.below(2) == 0 ? kForever : some_time(me, random, 20'000));
        if (random.below(3) == 0) me.pause(static_cast<Nanos>(random.below(30'000)));
      }
      me.barrier();
      CHECK_MESSAGE(me.load<std::uint64_t>(owned_) == turn + 1, "seed ", seed_);
      me.barrier();
    }
    ++ended_;
    while (left_ != me.nodes()) me.pause(5'000);
    me.barrier();
    for (std::size_t i = 0; i < counters_.size(); ++i) {
      CHECK_MESSAGE(me.load<std::uint64_t>(counters_[i].at) == counters_[i].value, "seed ", seed_, ": counter ", i, " at the end");
    }
    me.barrier();
  }

  void outside(Worker& me) {
    SplitMix64 random(mix64(seed_ * 100 + me.rank()));
    while (begun_ != kInside * me.nodes()) me.pause(1'000);
    while (ended_ != kInside * me.nodes()) {
      add(me, random.below(counters_.size()), random.below(4) != 0 ? kForever : some_time(me, random, 20'000));
      me.pause(static_cast<Nanos>(random.below(30'000)));
    }
    ++left_;
  }

  std::uint64_t seed_;
  SimCluster cluster_;
  std::array<Counter, 4> counters_;  // of mutexes and reader-writer locks in turn
  Place locks_ = 0;
  Place owned_ = 0;
  std::uint32_t begun_ = 0;
  std::uint32_t ended_ = 0;
  std::uint32_t left_ = 0;
};

TEST_CASE(
    "a lock brings what was written under it while its node is at a barrier, to threads outside of it and to nodes that have not come") {
  for_each_protocol([](std::string_view protocol) { for_each_seed(60, [&](std::uint64_t seed) { Outsiders(protocol, seed).run(); }); });
}

// The barrier does not wait for the thread beside it, but for who has seen what it wrote.
TEST_CASE("what a thread beside the barrier wrote is seen after it by all nodes, if one came to it that had seen it") {
  constexpr std::uint64_t kRounds = 4;
  for_each_protocol([](std::string_view protocol) {
    for_each_seed(20, [&](std::uint64_t seed) {
      SimClusterOptions options = cluster_options(protocol, seed);
      options.nodes = 4;
      options.threads = 2;
      SimCluster cluster(options);
      for (std::uint32_t node = 0; node < options.nodes; ++node) cluster.node(node).sync->set_local_threads(1);
      const Place at = cluster.allocate(2 * kPageSize, {});
      const Place relayed = at + kPageSize;
      const Place lock = cluster.allocate(8, {});
      std::uint64_t arriving = 0;  // the round in which node 0 is about to come to the barrier, and
      std::uint64_t ahead = 0;     // in which its other thread has let the lock go
      std::uint64_t wrong = 0;
      const auto beside = [&](Worker& me) {
        for (std::uint64_t round = 1; round <= kRounds; ++round) {
          while (arriving != round) me.pause(1000);
          me.pause(static_cast<Nanos>(mix64(seed * kRounds + round) % 20'000));
          me.lock(lock);
          me.store(at, round);
          me.unlock(lock);
          ahead = round;
        }
      };
      const auto in_section = [&](Worker& me) {
        me.bind(lock, at, 2 * kPageSize);
        for (std::uint64_t round = 1; round <= kRounds; ++round) {
          wrong += me.load<std::uint64_t>(at) != round - 1 ? 1 : 0;  // everybody has a copy
          wrong += me.load<std::uint64_t>(relayed) != round - 1 ? 1 : 0;
          me.barrier();
          if (me.node() == 0) arriving = round;
          // Node 2 is told by node 0 before it arrives. Node 3 may be, by node 2.
          while (me.node() > 1 && ahead != round) me.pause(1000);
          if (me.node() > 1) me.lock(lock);
          if (me.node() == 2) {
            wrong += me.load<std::uint64_t>(at) != round ? 1 : 0;
            me.store(relayed, me.load<std::uint64_t>(at));
          }
          if (me.node() > 1) me.unlock(lock);
          me.barrier();
          wrong += me.load<std::uint64_t>(at) != round ? 1 : 0;
          wrong += me.load<std::uint64_t>(relayed) != round ? 1 : 0;
          me.barrier();
        }
      };
      const Ending ending = cluster.run_at_once([&](Worker& me) {
        if (me.local() == 0) {
          in_section(me);
        } else if (me.node() == 0) {
          beside(me);
        }
      });
      CHECK_MESSAGE(ending.well, "seed ", seed, ": ", ending.text);
      CHECK_MESSAGE(wrong == 0, "seed ", seed);
    });
  });
}

// The notice is of a unit that who gives it knows only from the lock.
TEST_CASE("what a thread beside the barrier wrote is seen after it if one came to it that had the lock, and never touched what is bound") {
  constexpr std::uint64_t kUnit = 4 * kPageSize;
  for_each_protocol([](std::string_view protocol) {
    for_each_seed(20, [&](std::uint64_t seed) {
      SimClusterOptions options = cluster_options(protocol, seed);
      options.threads = 2;
      SimCluster cluster(options);
      for (std::uint32_t node = 0; node < options.nodes; ++node) cluster.node(node).sync->set_local_threads(1);
      const Place at =
          cluster.allocate(kUnit, {.placement = dsm::Placement::at_node, .home = NodeId{0}, .granularity = kUnit}) + 2 * kPageSize;
      const Place lock = cluster.allocate(8, {});
      std::uint64_t steps = 0;
      const auto await_step = [&](Worker& me, std::uint64_t step) {
        while (steps != step) me.pause(1000);
      };
      const auto write_beside = [&](Worker& me) {
        await_step(me, 1);
        me.pause(200'000);  // its node is at the barrier
        me.lock(lock);
        me.store<std::uint64_t>(at, 1);
        me.unlock(lock);
        steps = 2;
      };
      const Ending ending = cluster.run_at_once([&](Worker& me) {
        if (me.local() != 0) {
          if (me.node() == 0) write_beside(me);
          return;
        }
        if (me.node() == 0) me.bind(lock, at, sizeof(std::uint64_t));
        if (me.node() == 1) CHECK(me.load<std::uint64_t>(at) == 0);
        me.barrier();
        if (me.node() == 0) steps = 1;
        if (me.node() == 2) {
          await_step(me, 2);
          me.lock(lock);
          me.unlock(lock);
        }
        me.barrier();
        if (me.node() == 1) {
          const auto found = me.load<std::uint64_t>(at);
          CHECK_MESSAGE(found == 1, "seed ", seed);
        }
        me.barrier();
      });
      CHECK_MESSAGE(ending.well, "seed ", seed, ": ", ending.text);
    });
  });
}

// Of a node that has not come to the barrier it is told before: who wrote early has an old image then, and must not hand it on.
TEST_CASE("what was written beside the barrier and overwritten before it is old after it, at who wrote it, too") {
  for_each_protocol([](std::string_view protocol) {
    for_each_seed(20, [&](std::uint64_t seed) {
      SimClusterOptions options = cluster_options(protocol, seed);
      options.nodes = 4;
      options.threads = 2;
      SimCluster cluster(options);
      for (std::uint32_t node = 0; node < options.nodes; ++node) cluster.node(node).sync->set_local_threads(1);
      const Place at = cluster.allocate(kPageSize, {.placement = dsm::Placement::at_node, .home = NodeId{1}});
      const Place lock = cluster.allocate(8, {});
      constexpr std::uint64_t kEarly = 1;
      constexpr std::uint64_t kLast = 2;
      std::uint64_t steps = 0;
      bool reads = false;  // without the lock, at node 3: nobody writes any more
      const auto await_step = [&](Worker& me, std::uint64_t step) {
        while (steps != step) me.pause(1000);
      };
      const auto look = [&](Worker& me, std::uint64_t expected) {
        me.lock(lock);
        const auto found = me.load<std::uint64_t>(at);  // not inside of CHECK_MESSAGE: its messages are no thread's own
        me.unlock(lock);
        CHECK_MESSAGE(found == expected, "seed ", seed, ": node ", me.node());
      };
      const auto in_section = [&](Worker& me) {
        me.bind(lock, at, 2 * sizeof(std::uint64_t));
        me.barrier();
        if (me.node() == 0) steps = 1;
        if (me.node() == 2) {
          await_step(me, 2);
          look(me, kEarly);
          me.lock(lock);
          me.store(at, kLast);
          me.unlock(lock);
        }
        me.barrier();
        CHECK(me.load<std::uint64_t>(at + kPageSize / 2) == 0);  // not bound: everybody has a copy
        const std::array<std::uint64_t, 4> turn{0, 2, 3, 1};     // of each node
        await_step(me, 2 + turn[me.node()]);
        if (me.node() == 3) reads = true;
        look(me, kLast);
        reads = false;
        ++steps;
        me.barrier();
      };
      const Ending ending = cluster.run_at_once([&](Worker& me) {
        if (me.local() == 0) return in_section(me);
        if (me.node() == 3) {
          while (!reads) me.pause(1000);
          while (reads) {
            const auto found = me.load<std::uint64_t>(at);
            CHECK_MESSAGE(found == kLast, "seed ", seed);
            me.pause(100);
          }
        }
        if (me.node() != 0) return;
        await_step(me, 1);
        me.pause(200'000);  // its node is at the barrier
        me.lock(lock);
        me.store(at, kEarly);
        me.unlock(lock);
        steps = 2;
      });
      CHECK_MESSAGE(ending.well, "seed ", seed, ": ", ending.text);
    });
  });
}

// The writer beside makes a twin at home, after which the page's home is told what others wrote before they arrived.
TEST_CASE("what is bound may be written without its lock while the lock comes from a node whose copy had changed beside the barrier") {
  for_each_protocol([](std::string_view protocol) {
    for_each_seed(20, [&](std::uint64_t seed) {
      SimClusterOptions options = cluster_options(protocol, seed);
      options.threads = 2;
      SimCluster cluster(options);
      for (std::uint32_t node = 0; node < options.nodes; ++node) cluster.node(node).sync->set_local_threads(1);
      const Place owned = cluster.allocate(kPageSize, {.placement = dsm::Placement::at_node, .home = NodeId{0}});
      const Place beside = owned + kPageSize / 2;
      const Place locks = cluster.allocate(16, {});
      std::uint64_t steps = 0;
      const auto await_step = [&](Worker& me, std::uint64_t step) {
        while (steps != step) me.pause(1000);
      };
      const auto write_beside = [&](Worker& me) {
        await_step(me, 1);
        me.pause(200'000);  // its node is at the barrier
        me.lock(locks + 8);
        me.store<std::uint64_t>(beside, 1);
        me.unlock(locks + 8);
        steps = 2;
      };
      const Ending ending = cluster.run_at_once([&](Worker& me) {
        if (me.local() != 0) {
          if (me.node() == 0) write_beside(me);
          return;
        }
        me.bind(locks, owned, sizeof(std::uint64_t));
        me.bind(locks + 8, beside, sizeof(std::uint64_t));
        me.barrier();
        if (me.node() == 0) steps = 1;
        if (me.node() == 1) {
          await_step(me, 2);
          me.store<std::uint64_t>(owned, 1);
        }
        me.barrier();
        if (me.node() == 0) {
          me.lock(locks);
          me.unlock(locks);
          steps = 3;
        }
        if (me.node() == 2) {
          await_step(me, 3);
          me.store<std::uint64_t>(owned, 2);
          me.lock(locks);
          const auto kept = me.load<std::uint64_t>(owned);
          me.unlock(locks);
          CHECK_MESSAGE(kept == 2, "seed ", seed);
        }
        me.barrier();
        const auto found = me.load<std::uint64_t>(owned);
        CHECK_MESSAGE(found == 2, "seed ", seed, ": node ", me.node());
        me.barrier();
      });
      CHECK_MESSAGE(ending.well, "seed ", seed, ": ", ending.text);
    });
  });
}

}  // namespace
}  // namespace netvm::test
