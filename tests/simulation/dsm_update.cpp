// erc and update in the simulator: who has a copy gets changes, who does not use it stops getting them.
#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kPages = 8;

SimClusterOptions options_for(std::string_view protocol, std::uint32_t nodes, std::uint64_t seed) {
  SimClusterOptions options;
  options.nodes = nodes;
  options.protocol = protocol;
  options.seed = seed;
  options.pages = 512;
  options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = seed % 3 != 0;
  return options;
}

void write_round(Worker& me, Place at, std::uint64_t round) {
  for (std::uint64_t p = 0; p < kPages; ++p) me.store(at + p * kPageSize + 8 * (round % 512), round);
}
void read_round(Worker& me, Place at, std::uint64_t round) {
  for (std::uint64_t p = 0; p < kPages; ++p) CHECK(me.load<std::uint64_t>(at + p * kPageSize + 8 * (round % 512)) == round);
}

dsm::AllocOptions at_node_0() {
  dsm::AllocOptions options;
  options.placement = dsm::Placement::at_node;
  return options;
}

void for_both(const std::function<void(std::string_view)>& body) {
  for (const std::string_view protocol : {"erc", "update"}) {
    INFO("protocol ", std::string(protocol));
    body(protocol);
  }
}

TEST_CASE("a stable consumer faults ever more rarely, and never for a page's bytes") {
  for_both([](std::string_view protocol) {
    SimCluster cluster(options_for(protocol, 3, 1));
    const Place at = cluster.allocate(kPages * kPageSize, at_node_0());
    const Ending ending = cluster.run([&](Worker& me) {
      const Stats& stats = cluster.node(me.node()).stats;
      std::uint64_t fetched = 0;
      std::uint64_t faults = 0;
      for (std::uint64_t round = 1; round <= 400; ++round) {
        if (me.node() == 0) write_round(me, at, round);
        me.barrier();
        if (me.node() != 0) read_round(me, at, round);
        me.barrier();
        if (round == 1) fetched = stats.get(Stat::pages_fetched);
        if (round == 130) faults = stats.get(Stat::read_faults);
      }
      if (me.node() == 0) return;
      CHECK(stats.get(Stat::pages_fetched) == fetched);
      CHECK(stats.get(Stat::read_faults) - faults <= 2 * kPages);
      CHECK(stats.get(Stat::invalidations) == 0);
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("a consumer that reads no more leaves, and comes back when it reads again") {
  for_both([](std::string_view protocol) {
    SimCluster cluster(options_for(protocol, 2, 2));
    const Place at = cluster.allocate(kPages * kPageSize, at_node_0());
    const Ending ending = cluster.run([&](Worker& me) {
      const Stats& mine = cluster.node(me.node()).stats;
      if (me.node() == 1) (void)me.load<std::uint64_t>(at);
      me.barrier();
      std::uint64_t traffic = 0;
      for (std::uint64_t round = 1; round <= 100; ++round) {
        if (me.node() == 0) write_round(me, at, round);
        me.barrier();
        if (round == 50 && me.node() == 0) traffic = mine.get(Stat::diffs) + mine.get(Stat::twins);
      }
      // Nobody has a copy any more: the home's pages are its own again.
      if (me.node() == 0) CHECK(mine.get(Stat::diffs) + mine.get(Stat::twins) == traffic);
      if (me.node() == 1) CHECK(mine.get(Stat::invalidations) == 1);
      me.barrier();
      if (me.node() == 1) read_round(me, at, 100);
      me.barrier();
      for (std::uint64_t round = 101; round <= 110; ++round) {
        if (me.node() == 0) write_round(me, at, round);
        me.barrier();
        if (me.node() == 1) read_round(me, at, round);
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("a release of many pages with as many pieces as there can be arrives whole") {
  constexpr std::uint64_t kMany = 150;
  for_both([](std::string_view protocol) {
    for (const std::uint64_t seed : {1, 2}) {
      SimCluster cluster(options_for(protocol, 3, seed));
      const Place at = cluster.allocate(kMany * kPageSize, {});
      const Ending ending = cluster.run([&](Worker& me) {
        for (std::uint64_t p = 0; p < kMany; ++p) (void)me.load<std::uint8_t>(at + p * kPageSize);
        me.barrier();
        std::vector<std::byte> bytes(kPageSize);
        for (std::uint64_t p = 0; me.node() < 2 && p < kMany; ++p) {
          for (std::uint64_t b = me.node(); b < kPageSize; b += 2) me.store(at + p * kPageSize + b, static_cast<std::uint8_t>(p + b + 1));
        }
        me.barrier();
        for (std::uint64_t p = 0; p < kMany; ++p) {
          me.load_bytes(at + p * kPageSize, bytes.data(), bytes.size());
          std::uint64_t wrong = 0;
          for (std::uint64_t b = 0; b < kPageSize; ++b) wrong += bytes[b] != static_cast<std::byte>(p + b + 1) ? 1 : 0;
          CHECK(wrong == 0);
        }
      });
      CHECK_MESSAGE(ending.well, ending.text);
    }
  });
}

// Copies come and go at odd moments, while two nodes write neighbouring bytes.
TEST_CASE("members that come and go miss no change") {
  for_both([](std::string_view protocol) {
    for_each_seed(40, [&](std::uint64_t seed) {
      SimCluster cluster(options_for(protocol, 4, seed));
      const Place at = cluster.allocate(2 * kPageSize, {});
      const Ending ending = cluster.run([&](Worker& me) {
        SplitMix64 random(mix64(seed) + me.rank());
        std::uint64_t quiet_until = 0;
        for (std::uint64_t round = 1; round <= 60; ++round) {
          if (me.node() < 2) {
            for (std::uint64_t p = 0; p < 2; ++p)
              me.store(at + p * kPageSize + 2 * (round % 100) + me.node(), static_cast<std::uint8_t>(round));
          }
          me.barrier();
          if (round >= quiet_until) {
            for (std::uint64_t b = 0; b < 2; ++b) {
              CHECK(me.load<std::uint8_t>(at + random.below(2) * kPageSize + 2 * (round % 100) + b) == static_cast<std::uint8_t>(round));
            }
            if (random.below(4) == 0) quiet_until = round + random.below(20);
          }
          me.barrier();
        }
      });
      CHECK_MESSAGE(ending.well, ending.text);
    });
  });
}

}  // namespace
}  // namespace netvm::test
