// entry in the simulator: reader-writer locks, and what becomes of bindings.
#include "dsm/protocols/entry.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

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

// The home has not released its lock when the page is fetched, and when it does nothing has changed. Only the node that fetched has no threads beside the section:
// what others do in the barrier it learns from the barrier.
TEST_CASE(
    "bytes that a thread at home changed while its node was at a barrier, and changed back, are not left to who read them meanwhile") {
  for_each_seed(5, [](std::uint64_t seed) {
    SimClusterOptions options = cluster_options(seed);
    options.nodes = 2;
    options.all_threads_wait = [](NodeId node) { return node.value != 0; };
    SimCluster cluster(options);
    for (std::uint32_t node = 0; node < options.nodes; ++node) cluster.node(node).sync->set_local_threads(1);
    const Place at = cluster.allocate(kPageSize, {.placement = dsm::Placement::at_node, .home = NodeId{0}});
    const Place lock = cluster.allocate(8, {});
    enum Step { begun, home_waits, changed, fetched, over };
    Step step = begun;
    const auto await = [&](Worker& me, Step until) {
      while (step < until) me.pause(1'000);
    };
    const Ending ending = cluster.run_at_once([&](Worker& me) {
      if (me.local() == 0) {
        me.bind(lock, at, kRecord);
        me.barrier();
        if (me.node() == 0) {
          step = home_waits;
        } else {
          await(me, changed);
          CHECK(me.load<std::uint64_t>(at) == 1);  // without the lock: whatever is there
          step = fetched;
        }
        me.barrier();
        if (me.node() == 1) {
          step = over;
          me.lock(lock);
          CHECK(me.load<std::uint64_t>(at) == 0);
          me.unlock(lock);
        }
        me.barrier();
      } else if (me.node() == 0) {
        await(me, home_waits);
        me.pause(100'000);
        me.lock(lock);
        me.store<std::uint64_t>(at, 1);
        step = changed;
        await(me, over);
        me.store<std::uint64_t>(at, 0);
        me.unlock(lock);
      }
    });
    CHECK_MESSAGE(ending.well, "seed ", seed, ": ", ending.text);
  });
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

// Takes its time over the first bytes that it patches at node 2, as where they must be read from a disk.
class SlowEntry final : public dsm::Entry {
 public:
  using Entry::Entry;
  static inline std::function<void()> take_time;

 private:
  [[nodiscard]] bool patches_twins() const override {
    if (take_time) std::exchange(take_time, {})();
    return Entry::patches_twins();
  }
};

TEST_CASE("what came with a lock is not patched into memory that is another allocation's by now") {
  SimClusterOptions options = cluster_options(1);
  options.factories.assign(dsm::protocols().size(), nullptr);
  options.factories[static_cast<std::size_t>(dsm::find_protocol("entry"))] = [](dsm::ProtocolEnv& env) -> std::unique_ptr<dsm::Protocol> {
    return std::make_unique<SlowEntry>(env);
  };
  SimCluster cluster(options);
  const dsm::AllocOptions at_home{.placement = dsm::Placement::at_node, .home = NodeId{0}};
  const Place kept = cluster.allocate(kPageSize, at_home);
  const Place data = cluster.allocate(kPageSize, at_home);
  const Place lock = cluster.allocate(kPageSize, at_home);
  enum Step { begun, read, written, patching, had_again, stored, granted };
  Step step = begun;
  const auto await = [&](Worker& me, Step until) {
    while (step < until) me.pause(1'000);
  };
  const Ending ending = cluster.run_at_once([&](Worker& me) {
    if (me.node() == 0 && me.local() == 0) {
      me.bind(lock, kept, kRecord);
      me.bind(lock, data, kRecord);
      await(me, read);
      me.lock(lock);
      me.store<std::uint64_t>(data, 1);
      me.store<std::uint64_t>(kept, 1);
      me.unlock(lock);
      step = written;
      await(me, patching);
      dsm::Dsm& dsm = *cluster.node(0).dsm;
      const std::uint64_t available = dsm.usage().available;
      me.free(data);
      while (dsm.usage().available == available) me.pause(1'000);
      REQUIRE(me.allocate(kPageSize, at_home) == data);
      step = had_again;
    } else if (me.node() == 2 && me.local() == 0) {
      me.store<std::uint64_t>(kept + kPageSize / 2, 1);  // not bound; the page has a twin
      step = read;
      await(me, written);
      SlowEntry::take_time = [&] {
        step = patching;
        await(me, stored);
      };
      me.lock(lock);
      CHECK(step == stored);
      CHECK(me.load<std::uint64_t>(kept) == 1);
      step = granted;
      me.unlock(lock);
    } else if (me.node() == 2) {
      await(me, had_again);
      me.store<std::uint64_t>(data, 2);
      step = stored;
      await(me, granted);
      CHECK(me.load<std::uint64_t>(data) == 2);
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
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
