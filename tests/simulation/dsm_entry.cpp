// entry in the simulator: reader-writer locks, and what becomes of bindings.
#include "dsm/protocols/entry.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kWords = 40;  // bound bytes: several blocks, on two pages
constexpr std::uint64_t kRecord = kWords * sizeof(std::uint64_t);

SimClusterOptions cluster_options(std::uint64_t seed) {
  SimClusterOptions options;
  options.protocol = "entry";
  options.nodes = 3;
  options.threads = 2;
  options.pages = 64;
  options.seed = seed;
  return options;
}

class Record {
 public:
  Record(SimCluster& cluster, Worker& me, Place mutex, Place at) : cluster_(cluster), me_(me), mutex_(mutex), at_(at) {}
  void bind() const {
    REQUIRE(cluster_.node(me_.node()).dsm->bind(sync::SyncId::of_object(me_.sync_offset(mutex_)), me_.sync_offset(at_), kRecord));
  }
  // A writer adds one to every word; between the locks all words are the same.
  void write() const {
    REQUIRE(me_.objects().lock(offset(), me_.who()) == Status::ok);
    const auto value = me_.load<std::uint64_t>(at_);
    check_all(value);
    for (std::uint64_t w = 0; w < kWords; ++w) me_.store(at_ + 8 * w, value + 1);
    REQUIRE(me_.objects().unlock(offset(), me_.who()) == Status::ok);
  }
  std::uint64_t read() const {
    REQUIRE(me_.objects().lock_shared(offset(), me_.who()) == Status::ok);
    const auto value = me_.load<std::uint64_t>(at_);
    check_all(value);
    REQUIRE(me_.objects().unlock_shared(offset(), me_.who()) == Status::ok);
    return value;
  }

 private:
  [[nodiscard]] std::uint64_t offset() const { return me_.sync_offset(mutex_); }
  void check_all(std::uint64_t value) const {
    std::uint64_t others = 0;
    for (std::uint64_t w = 0; w < kWords; ++w) others += me_.load<std::uint64_t>(at_ + 8 * w) != value ? 1 : 0;
    CHECK(others == 0);
  }
  SimCluster& cluster_;
  Worker& me_;
  Place mutex_;
  Place at_;
};

TEST_CASE("a reader-writer lock brings what is bound to it: to writers, to readers that waited, and to readers that joined") {
  for_each_seed(30, [](std::uint64_t seed) {
    SimCluster cluster(cluster_options(seed));
    const Place area = cluster.allocate(2 * kPageSize, {});
    const Place mutexes = cluster.allocate(kPageSize, {});
    const Place at = area + kPageSize - kRecord / 2;
    std::uint64_t writes = 0;
    const Ending ending = cluster.run([&](Worker& me) {
      const Record record(cluster, me, mutexes, at);
      if (me.local() == 0) record.bind();
      me.barrier();
      SplitMix64 random(seed * 100 + me.rank());
      std::uint64_t seen = 0;
      for (int round = 0; round < 30; ++round) {
        if (random.next() % 3 == 0) {
          record.write();
          ++writes;
        } else {
          const std::uint64_t now = record.read();
          CHECK(now >= seen);
          seen = now;
        }
        if (random.next() % 4 == 0) me.pause(static_cast<Nanos>(random.next() % 50'000));
        if (round % 10 == 9) me.barrier();
      }
      me.barrier();
      CHECK(record.read() == writes);
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

// What a node writes after it has arrived at a barrier that barrier does not tell, and what it is given meanwhile goes on to nodes that have not come.
// Two threads of each node meet at barriers, a third does not; the two now and then give a lock up, so that its token comes while they are at the barrier. Between
// two barriers one thread writes a record without its lock.
class Outsiders {
 public:
  static constexpr std::uint32_t kInside = 2;
  static constexpr int kRounds = 12;

  explicit Outsiders(std::uint64_t seed) : seed_(seed), cluster_(options(seed)) {
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
  static SimClusterOptions options(std::uint64_t seed) {
    SimClusterOptions options = cluster_options(seed);
    options.threads = kInside + 1;
    options.all_threads_wait = [](NodeId) { return false; };
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

TEST_CASE("a lock brings what is bound to it while its node is at a barrier, to threads outside of it and to nodes that have not come") {
  for_each_seed(60, [](std::uint64_t seed) { Outsiders(seed).run(); });
}

// As when small objects are freed and handed out again: nobody tells the other nodes, but everybody binds anew.
TEST_CASE("bytes that are bound to another lock leave the one that they were bound to") {
  for_each_seed(20, [](std::uint64_t seed) {
    SimCluster cluster(cluster_options(seed));
    const Place at = cluster.allocate(kPageSize, {});
    const Place locks = cluster.allocate(kPageSize, {});
    const Ending ending = cluster.run([&](Worker& me) {
      const auto count = [&](Place lock, std::uint64_t times) {
        for (std::uint64_t i = 0; i < times; ++i) {
          me.lock(lock);
          me.store(at, me.load<std::uint64_t>(at) + 1);
          me.unlock(lock);
          me.pause(5'000);
        }
      };
      if (me.local() == 0) me.bind(locks, at, 64);
      me.barrier();
      count(locks, 10);
      me.barrier();
      if (me.local() == 0) me.bind(locks + 8, at, 64);
      me.barrier();
      // The first lock goes on from node to node, and carries the bytes no more.
      for (std::uint64_t i = 0; i < 10; ++i) {
        count(locks + 8, 1);
        me.lock(locks);
        me.unlock(locks);
      }
      me.barrier();
      CHECK(me.load<std::uint64_t>(at) == 20 * me.count());
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("locks whose data was freed are forgotten") {
  SimCluster cluster(cluster_options(1));
  const Place locks = cluster.allocate(kPageSize, {});
  std::uint64_t after_few = 0;
  std::uint64_t after_many = 0;
  for (std::uint64_t round = 0; round < 40; ++round) {
    const Place data = cluster.allocate(2 * kPageSize, {});
    const Place lock = locks + round * 8;
    const Ending ending = cluster.run([&](Worker& me) {
      if (me.local() == 0) me.bind(lock, data, 2 * kPageSize);
      me.barrier();
      me.lock(lock);
      for (std::uint64_t p = 0; p < 2; ++p) {
        for (std::uint64_t w = 0; w < 512; w += 8) me.store<std::uint64_t>(data + p * kPageSize + 8 * w, me.rank());
      }
      me.unlock(lock);
      me.barrier();
    });
    REQUIRE_MESSAGE(ending.well, ending.text);
    cluster.free(data);
    const auto reports = cluster.node(0).dsm->memory_report().peak_protocol_bytes;
    REQUIRE(reports.size() == 1);
    (round < 5 ? after_few : after_many) = reports[0].second;
  }
  CHECK(after_few > 2 * kPageSize);  // the image
  CHECK(after_many <= 2 * after_few);
}

}  // namespace
}  // namespace netvm::test
