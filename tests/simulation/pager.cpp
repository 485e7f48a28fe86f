// Memory budgets in the simulator: random race-free programs over more memory than the nodes may have, while pages are taken away at any moment.
#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kBudget = 8;

SimClusterOptions choose_cluster(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0xbadc));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = 512;
  options.budget_pages = kBudget;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  if (!options.network.in_order && random.below(3) == 0) options.network.duplicate_ppm = 50'000;
  options.evict_every = random.below(2) == 0 ? 0 : 20'000;
  options.read_ahead_from = 1 + static_cast<std::uint32_t>(mix64(seed ^ 0x4ead) % 2);
  options.store_time = random.below(3) == 0 ? 0 : 30'000;
  return options;
}

struct Counts {
  std::uint64_t loads = 0;
  std::uint64_t page_ins = 0;
  std::uint64_t evictions = 0;
  std::uint64_t dropped = 0;
};

DrfResult run_once(std::string_view protocol, std::uint64_t seed, Counts& counts) {
  const SimClusterOptions options = choose_cluster(protocol, seed);
  SimCluster cluster(options);
  DrfResult result;
  for (const std::uint64_t program : {seed, mix64(seed)}) {  // the second in the memory of the first
    result = run_drf_program(cluster, {.protocol = protocol, .seed = program, .max_pages = 40, .max_objects = 80});
    counts.loads += result.loads;
    if (!result.well) return result;
  }
  for (std::uint32_t node = 0; node < options.nodes; ++node) {
    CHECK(cluster.node(node).vm->resident_pages() <= kBudget);
    counts.page_ins += cluster.node(node).stats.get(Stat::page_ins);
    counts.evictions += cluster.node(node).stats.get(Stat::evictions);
    counts.dropped += cluster.node(node).stats.get(Stat::dropped_pages);
  }
  return result;
}

void run_all(std::string_view protocol) {
  Counts counts;
  for_each_seed(30, [&](std::uint64_t seed) {
    const DrfResult result = run_once(protocol, seed, counts);
    CHECK_MESSAGE(result.well, result.text);
    if (seed % 5 != 0) return;
    const DrfResult again = run_once(protocol, seed, counts);
    CHECK_MESSAGE(again.trace_hash == result.trace_hash, "two runs with one seed took different ways");
  });
  MESSAGE(std::string(protocol), ": ", counts.loads, " loads compared, ", counts.evictions, " evictions (", counts.dropped,
          " without a copy), ", counts.page_ins, " page-ins");
}

TEST_CASE("random race-free programs with a memory budget") { for_each_protocol(run_all); }

// Every node writes its share of a region of four times the budget, and reads everybody's.
void four_times_the_budget(std::string_view protocol) {
  for_each_seed(10, [&](std::uint64_t seed) {
    SimClusterOptions options;
    options.seed = seed;
    options.protocol = protocol;
    options.pages = 1024;
    options.budget_pages = 32;
    options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
    options.evict_every = seed % 3 == 0 ? 50'000 : 0;
    options.store_time = seed % 4 == 0 ? 0 : 20'000;
    SimCluster cluster(options);
    constexpr std::uint64_t kPages = 4 * 32;
    const Place region = cluster.allocate(kPages * kPageSize, {});
    const Ending ending = cluster.run([&](Worker& me) {
      for (std::uint64_t round = 1; round <= 2; ++round) {
        for (std::uint64_t p = me.rank(); p < kPages; p += me.count()) me.store(region + p * kPageSize + 8 * (p % 512), p * round);
        me.barrier();
        for (std::uint64_t p = 0; p < kPages; ++p) {
          CHECK(me.load<std::uint64_t>(region + p * kPageSize + 8 * (p % 512)) == p * round);
          CHECK(cluster.node(me.node()).vm->resident_pages() <= 32 + 2);  // and what is pinned at the moment
        }
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    for (std::uint32_t node = 0; node < 2; ++node) CHECK(cluster.node(node).stats.get(Stat::evictions) > kPages / 2);
  });
}

TEST_CASE("a region of four times the budget is read as it was written") { for_each_protocol(four_times_the_budget); }

}  // namespace
}  // namespace netvm::test
