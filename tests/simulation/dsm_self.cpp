// self in the simulator: which pages an acquire gives up, what synchronisation costs, and more nodes than the directory word has bits.
#include "dsm/protocols/self.hpp"

#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/home_pages.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions cluster_options(std::uint32_t nodes, std::uint64_t seed) { return home_cluster("self", nodes, seed); }

// A lock that goes from node to node: an acquire for each.
void pass_lock_around(Worker& me) {
  me.lock(64);
  me.pause(100);
  me.unlock(64);
}

TEST_CASE(
    "an acquire or a barrier gives up neither private pages nor those that nobody writes, however many are cached, and transfers nothing") {
  SimCluster cluster(cluster_options(3, 1));
  const Place read_only = cluster.allocate(200 * kPageSize, at_node(0));
  const Place mine = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t p = 0; p < 200; ++p) (void)me.load<std::uint64_t>(read_only + p * kPageSize);
    if (me.node() == 1) store_all(me, mine, 1);
    for (int i = 0; i < 3; ++i) me.barrier();
    const Stats& stats = cluster.node(me.node()).stats;
    const std::uint64_t faults = stats.get(Stat::read_faults) + stats.get(Stat::write_faults);
    const std::uint64_t fetched = stats.get(Stat::pages_fetched);
    me.barrier();
    const std::uint64_t ops = stats.get(Stat::one_sided_ops);
    for (int i = 0; i < 20; ++i) me.barrier();
    CHECK(stats.get(Stat::one_sided_ops) == ops + (me.node() == 1 ? kHomePages : 0));  // once: it has not written its pages for long
    for (int i = 0; i < 20; ++i) pass_lock_around(me);
    for (std::uint64_t p = 0; p < 200; ++p) (void)me.load<std::uint64_t>(read_only + p * kPageSize);
    if (me.node() == 1) CHECK(count_other_than(me, mine, 1) == 0);
    CHECK(stats.get(Stat::read_faults) + stats.get(Stat::write_faults) == faults);
    CHECK(stats.get(Stat::pages_fetched) == fetched);
    CHECK(stats.get(Stat::invalidations) == 0);
    CHECK(stats.get(Stat::notices_sent) == 0);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("a single writer keeps its pages, its readers give them up") {
  SimCluster cluster(cluster_options(3, 2));
  const Place at = cluster.allocate(kHomePages * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    const Stats& stats = cluster.node(me.node()).stats;
    for (std::uint64_t round = 1; round <= 10; ++round) {
      if (me.node() == 1) store_all(me, at, round);
      me.barrier();
      CHECK(count_other_than(me, at, round) == 0);
      me.barrier();
    }
    CHECK(stats.get(Stat::invalidations) == (me.node() == 2 ? 10 * kHomePages : 0));
    CHECK(stats.get(Stat::pages_fetched) == (me.node() == 0 ? 0 : me.node() == 1 ? kHomePages : 10 * kHomePages));
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("a private page becomes shared: the owner's writes are seen, and the owner sees the newcomer's") {
  for_each_seed(40, [](std::uint64_t seed) {
    SimClusterOptions options = cluster_options(4, seed);
    options.threads = static_cast<std::uint32_t>(1 + seed % 3);
    SimCluster cluster(options);
    const Place at = cluster.allocate(kHomePages * kPageSize, at_node(static_cast<std::uint32_t>(seed / 2 % 4)));
    std::uint64_t wrong = 0;
    const Ending ending = cluster.run([&](Worker& me) {
      SplitMix64 random(mix64(seed + me.rank()));
      for (int round = 0; round < 12; ++round) {
        me.pause(static_cast<Nanos>(random.below(4000)));
        // For long only one node uses the pages; then another one comes.
        if (me.node() > static_cast<std::uint32_t>(round) / 3) continue;
        me.lock(64);
        const auto value = me.load<std::uint64_t>(at);
        wrong += count_other_than(me, at, value);
        if (random.below(3) != 0) store_all(me, at, value + 1);
        me.unlock(64);
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    CHECK(wrong == 0);
  });
}

TEST_CASE("pages written once by one node and then only read are kept, after a while, until they are written again") {
  for (const std::uint32_t home : {0U, 1U}) {
    SimCluster cluster(cluster_options(3, 4 + home));
    const Place at = cluster.allocate(kHomePages * kPageSize, at_node(home));
    const Ending ending = cluster.run([&](Worker& me) {
      const Stats& stats = cluster.node(me.node()).stats;
      for (std::uint64_t generation = 1; generation <= 3; ++generation) {
        if (me.node() == 0) store_all(me, at, generation);
        for (std::uint64_t i = 0; i < 3 * dsm::Self::kPatience + 2; ++i) {
          me.barrier();
          CHECK(count_other_than(me, at, generation) == 0);
        }
        const std::uint64_t fetched = stats.get(Stat::pages_fetched);
        for (int i = 0; i < 20; ++i) {
          me.barrier();
          CHECK(count_other_than(me, at, generation) == 0);
        }
        CHECK(stats.get(Stat::pages_fetched) == fetched);
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
  }
}

// The upgrade sees in the word that nobody writes any more; the copy is older than what was written last.
TEST_CASE("a copy is given up though its writer has stopped, and this node has begun to write meanwhile") {
  for (const std::uint32_t home : {0U, 2U}) {
    SimCluster cluster(cluster_options(3, 6 + home));
    const Place at = cluster.allocate(kPageSize, at_node(home));
    const Ending ending = cluster.run([&](Worker& me) {
      if (me.node() == 0) me.store(at, std::uint64_t{1});
      me.barrier();
      if (me.node() == 1) CHECK(me.load<std::uint64_t>(at + 8) == 0);
      me.pause(me.node() == 0 ? 1'000'000 : 0);
      if (me.node() == 0) me.store(at, std::uint64_t{2});
      for (std::uint64_t i = 0; me.node() == 0 && i < 4 * dsm::Self::kPatience; ++i) pass_lock_around(me);
      me.pause(me.node() == 1 ? 10'000'000 : 0);
      if (me.node() == 1) me.store(at + 8, std::uint64_t{3});
      me.barrier();
      CHECK(me.load<std::uint64_t>(at) == 2);
      CHECK(me.load<std::uint64_t>(at + 8) == 3);
    });
    CHECK_MESSAGE(ending.well, ending.text);
  }
}

TEST_CASE("random race-free programs on more nodes than the directory word has bits") {
  for_each_seed(5, [](std::uint64_t seed) {
    SimClusterOptions options = cluster_options(40, seed);
    options.pages = 512;
    SimCluster cluster(options);
    const DrfResult result = run_drf_program(cluster, {.protocol = "self", .seed = seed});
    CHECK_MESSAGE(result.well, result.text);
  });
}

// Its word may be another protocol's then.
TEST_CASE("memory is not freed while a writer's bit is on its way to be taken back") {
  constexpr Nanos kCut = 5'000'000;
  SimClusterOptions options = cluster_options(3, 2);  // an even seed: packets, which can be cut off
  options.threads = 2;
  options.network.lossy = true;
  SimCluster cluster(options);
  for (std::uint32_t node = 0; node < options.nodes; ++node) cluster.node(node).sync->set_local_threads(1);
  const Place at = cluster.allocate(kPageSize, at_node(1));
  Nanos healed = 0;
  const Ending ending = cluster.run_at_once([&](Worker& me) {
    const auto now = [&] { return cluster.simulator().env(NodeId{me.node()}).now(); };
    if (me.local() == 0) {
      if (me.node() == 2) me.store<std::uint64_t>(at, 1);
      for (std::uint64_t i = 1; i < dsm::Self::kPatience; ++i) me.barrier();
      if (me.node() == 2) {
        healed = now() + kCut;
        cluster.network().partition({NodeId{1}, NodeId{2}, now(), healed});
      }
      me.barrier();
    } else if (me.node() == 0) {
      while (healed == 0) me.pause(1'000);
      me.pause(100'000);
      dsm::Dsm& dsm = *cluster.node(0).dsm;
      const std::uint64_t before = dsm.usage().available;
      me.free(at);
      while (dsm.usage().available == before) me.pause(10'000);  // until it may be handed out again
      CHECK(now() > healed);
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

}  // namespace
}  // namespace netvm::test
