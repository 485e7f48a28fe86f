// hlrc in the simulator: what its home pages cost, and that nobody misses a write to them.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/protocols/hlrc.hpp"
#include "runtime/random.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/home_pages.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions cluster_options(std::uint32_t nodes, std::uint32_t threads, std::uint64_t seed) {
  SimClusterOptions options = home_cluster("hlrc", nodes, seed);
  options.threads = threads;
  options.pages = 512;
  return options;
}

/// Node 0 writes all its home pages round after round; the others begin to read at a round of their own. Reports what they saw that was not the newest.
std::uint64_t stale_reads(SimCluster& cluster, std::uint64_t seed) {
  const Place at = cluster.allocate(kHomePages * kPageSize, at_node(0));
  std::uint64_t stale = 0;
  const Ending ending = cluster.run([&](Worker& me) {
    SplitMix64 random(mix64(seed + me.rank()));
    const std::uint64_t begins = 1 + random.below(6);
    for (std::uint64_t round = 1; round <= 10; ++round) {
      if (me.node() == 0) {
        // Each thread of the home its own words.
        for (std::uint64_t p = 0; p < kHomePages; ++p) me.store(at + p * kPageSize + 8 * me.local(), round);
      }
      me.barrier();
      if (me.node() != 0 && round >= begins) {
        for (std::uint64_t p = 0; p < kHomePages; ++p) {
          for (std::uint32_t t = 0; t < me.threads(); ++t) stale += me.load<std::uint64_t>(at + p * kPageSize + 8 * t) != round ? 1 : 0;
          me.pause(static_cast<Nanos>(random.below(3000)));
        }
      }
      me.barrier();
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
  return stale;
}

/// The same through a lock, so that the first reads meet the home's writes at any moment.
std::uint64_t stale_reads_under_lock(SimCluster& cluster, std::uint64_t seed) {
  const Place at = cluster.allocate(2 * kPageSize, at_node(0));
  std::uint64_t stale = 0;
  const Ending ending = cluster.run([&](Worker& me) {
    SplitMix64 random(mix64(seed + me.rank()));
    for (int round = 0; round < 12; ++round) {
      me.pause(static_cast<Nanos>(random.below(4000)));
      // A neighbour of the protected words on the same page, by nobody else, without the lock: makes the page known at odd moments.
      if (random.below(2) == 0) (void)me.load<std::uint64_t>(at + 256 + 8 * me.rank());
      me.lock(64);
      const auto a = me.load<std::uint64_t>(at);
      const auto b = me.load<std::uint64_t>(at + kPageSize);
      stale += a != b ? 1 : 0;
      if (me.node() == 0 || random.below(4) == 0) {
        me.store(at, a + 1);
        me.store(at + kPageSize, a + 1);
      }
      me.unlock(64);
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
  return stale;
}

TEST_CASE("a home's writes to pages that others begin to read are never missed") {
  for_each_seed(40, [](std::uint64_t seed) {
    SimCluster by_barrier(cluster_options(3, 1 + seed % 2, seed));
    CHECK(stale_reads(by_barrier, seed) == 0);
    SimCluster by_lock(cluster_options(3, 1 + seed % 2, seed));
    CHECK(stale_reads_under_lock(by_lock, seed) == 0);
  });
}

TEST_CASE("a home's writes are never missed where its pages belong to several protocols") {
  constexpr std::string_view kProtocols[] = {"hlrc", "lease", "scope", "entry", "self"};
  for_each_seed(10, [&](std::uint64_t seed) {
    SimCluster cluster(cluster_options(3, 1 + seed % 2, seed));
    std::vector<Place> at;
    for (const std::string_view protocol : kProtocols) {
      dsm::AllocOptions options = at_node(0);
      options.protocol = protocol;
      at.push_back(cluster.allocate(kHomePages * kPageSize, options));
    }
    std::uint64_t stale = 0;
    const Ending ending = cluster.run([&](Worker& me) {
      SplitMix64 random(mix64(seed + me.rank()));
      std::uint64_t begins[std::size(kProtocols)];
      for (std::uint64_t& round : begins) round = 1 + random.below(6);
      for (std::uint64_t round = 1; round <= 8; ++round) {
        for (std::size_t i = 0; me.node() == 0 && i < at.size(); ++i) {
          for (std::uint64_t p = 0; p < kHomePages; ++p) me.store(at[i] + p * kPageSize + 8 * me.local(), round);
        }
        me.barrier();
        for (std::size_t i = 0; me.node() != 0 && i < at.size(); ++i) {
          for (std::uint64_t p = 0; round >= begins[i] && p < kHomePages; ++p) {
            stale += me.load<std::uint64_t>(at[i] + p * kPageSize) != round ? 1 : 0;
          }
        }
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    CHECK(stale == 0);
  });
}

class Unannounced final : public dsm::Hlrc {
 public:
  using Hlrc::Hlrc;
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<Unannounced>(env); }

 protected:
  [[nodiscard]] bool announces_reads() const override { return false; }
};

TEST_CASE("a reader that does not announce itself is noticed") {
  const Canary canary{"reads a home's page unannounced", "hlrc", Unannounced::make};
  SimClusterOptions options = cluster_options(2, 1, 1);
  put_in(canary, options);
  SimCluster cluster(options);
  CHECK(stale_reads(cluster, 1) != 0);
}

TEST_CASE("home pages that nobody else reads cost one fault each, and no notice, however often they are written") {
  SimCluster cluster(cluster_options(2, 1, 1));
  const Place at = cluster.allocate(2 * kHomePages * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    const Stats& stats = cluster.node(me.node()).stats;
    for (std::uint64_t round = 1; round <= 20; ++round) {
      if (me.node() == 0) {
        for (std::uint64_t p = 0; p < kHomePages; ++p) me.store(at + p * kPageSize, round);
      }
      me.barrier();
    }
    if (me.node() == 0) {
      CHECK(stats.get(Stat::write_faults) == kHomePages);
      CHECK(stats.get(Stat::notices_sent) == 0);
      CHECK(stats.get(Stat::twins) == 0);
    }
    me.barrier();
    // One page is read elsewhere: that page alone is protected and announced from now on.
    if (me.node() == 1) CHECK(me.load<std::uint64_t>(at) == 20);
    for (std::uint64_t round = 21; round <= 30; ++round) {
      me.barrier();
      if (me.node() == 0) {
        for (std::uint64_t p = 0; p < kHomePages; ++p) me.store(at + p * kPageSize, round);
      }
      me.barrier();
      if (me.node() == 1) CHECK(me.load<std::uint64_t>(at) == round);
    }
    if (me.node() == 0) CHECK(stats.get(Stat::write_faults) <= kHomePages + 10);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("a barrier without writes makes no fault, no notice and no transfer, whatever is cached") {
  SimCluster cluster(cluster_options(2, 1, 3));
  const Place at = cluster.allocate(200 * kPageSize, at_node(0));
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t p = 0; p < 200; ++p) (void)me.load<std::uint64_t>(at + p * kPageSize);
    for (int i = 0; i < 3; ++i) me.barrier();
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

}  // namespace
}  // namespace netvm::test
