// lease in the simulator: what is renewed and what is read anew, and what synchronisation costs.
#include "dsm/protocols/lease.hpp"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/home_pages.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions cluster_options(std::uint32_t nodes, std::uint64_t seed) {
  SimClusterOptions options = home_cluster("lease", nodes, seed);
  options.read_ahead = false;  // each fault is a page's own
  return options;
}

TEST_CASE("where nobody writes, time stands still, and a barrier transfers nothing") {
  SimCluster cluster(cluster_options(2, 1));
  const Place at = cluster.allocate(200 * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t p = 0; p < 200; ++p) (void)me.load<std::uint64_t>(at + p * kPageSize);
    me.barrier();
    const Stats& stats = cluster.node(me.node()).stats;
    const std::uint64_t ops = stats.get(Stat::one_sided_ops);
    const std::uint64_t faults = stats.get(Stat::read_faults) + stats.get(Stat::write_faults);
    for (int i = 0; i < 50; ++i) me.barrier();
    CHECK(stats.get(Stat::one_sided_ops) == ops);
    for (std::uint64_t p = 0; p < 200; ++p) (void)me.load<std::uint64_t>(at + p * kPageSize);
    CHECK(stats.get(Stat::read_faults) + stats.get(Stat::write_faults) == faults);
    CHECK(stats.get(Stat::invalidations) == 0);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("leases of pages that nobody writes are renewed without data, and more and more seldom") {
  SimCluster cluster(cluster_options(2, 2));
  const Place read_only = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Place written = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    const Stats& stats = cluster.node(me.node()).stats;
    std::uint64_t faults[2] = {};  // node 1's, in the first and in the second half
    for (std::uint64_t round = 1; round <= 400; ++round) {
      if (me.node() == 0) store_all(me, written, round);
      me.barrier();
      if (me.node() == 1) {
        CHECK(count_other_than(me, written, round) == 0);
        const std::uint64_t before = stats.get(Stat::read_faults);
        CHECK(count_other_than(me, read_only, 0) == 0);
        faults[round <= 200 ? 0 : 1] += stats.get(Stat::read_faults) - before;
      }
      me.barrier();
    }
    if (me.node() != 1) return;
    MESSAGE("faults for read-only pages: ", faults[0], " in the first 200 rounds, ", faults[1], " in the next 200");
    CHECK(stats.get(Stat::pages_fetched) <= 402 * kHomePages);  // of the read-only ones each once
    CHECK(faults[0] > kHomePages);                              // they were renewed
    CHECK(faults[1] * 2 <= faults[0]);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("read-ahead renews what nobody writes, and does not read it anew") {
  SimClusterOptions options = cluster_options(2, 4);
  options.read_ahead = true;
  SimCluster cluster(options);
  const Place read_only = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Place written = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t round = 1; round <= 200; ++round) {
      if (me.node() == 0) store_all(me, written, round);
      me.barrier();
      if (me.node() == 1) {
        CHECK(count_other_than(me, written, round) == 0);
        CHECK(count_other_than(me, read_only, 0) == 0);
      }
      me.barrier();
    }
    if (me.node() != 1) return;
    const Stats& stats = cluster.node(1).stats;
    CHECK(stats.get(Stat::read_ahead_pages) > kHomePages);
    CHECK(stats.get(Stat::pages_fetched) <= 202 * kHomePages);  // of the read-only ones each once
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("a node that alone writes pages of another home keeps its copies") {
  SimCluster cluster(cluster_options(2, 3));
  const Place at = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t round = 1; round <= 50; ++round) {
      if (me.node() == 1) {
        CHECK(count_other_than(me, at, round - 1) == 0);
        store_all(me, at, round);
      }
      me.barrier();
    }
    if (me.node() == 1) CHECK(cluster.node(1).stats.get(Stat::pages_fetched) == kHomePages);
    if (me.node() == 1) CHECK(cluster.node(1).stats.get(Stat::read_faults) == kHomePages);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

// Nodes 1 and 2 write two bytes of one page and hand locks to node 0, and never take what another node held: their copies stay good for as long as time
// stands still for them, while the page's time at home moves on.
TEST_CASE("time goes on by steps of bounded length, however long a copy stays good while others write its page") {
  constexpr std::uint64_t kRounds = 100;
  SimCluster cluster(cluster_options(3, 5));
  const Place shared = cluster.allocate(kPageSize, at_node(0));
  const Place mutexes = cluster.allocate(2 * kRounds * sizeof(std::uint64_t), at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const auto mutex = [&](std::uint64_t writer) { return mutexes + (2 * round + writer - 1) * sizeof(std::uint64_t); };
      if (me.node() != 0) {
        me.lock(mutex(me.node()));
        me.store<std::uint64_t>(shared + me.node() * 64, round + 1);
        me.unlock(mutex(me.node()));
        me.pause(1'000'000);
        continue;
      }
      me.pause(500'000);
      for (const std::uint64_t writer : {1, 2}) {
        me.lock(mutex(writer));
        CHECK(me.load<std::uint64_t>(shared + writer * 64) >= round);  // the clocks of the three are not the same
        me.unlock(mutex(writer));
      }
      me.pause(500'000);
    }
    me.barrier();
    CHECK(me.load<std::uint64_t>(shared + 64) == kRounds);
    CHECK(me.load<std::uint64_t>(shared + 128) == kRounds);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

}  // namespace
}  // namespace netvm::test
