// Random race-free programs on nodes made of real threads: every load is compared with what was stored last. What the simulator runs too
// (tests/simulation/random_programs.cpp), but here the threads of a node, its engine and its evictor run at the same time.
#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::test {
namespace {

ClusterOptions choose_cluster(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x7e4d));
  ClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
  options.threads = static_cast<std::uint32_t>(1 + random.below(3));
  options.pages = 1024;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.read_ahead_from = 1 + static_cast<std::uint32_t>(random.below(2));
  if (random.below(3) == 0) {
    options.budget_pages = 12 + random.below(24);
    options.evict_every = 1 + static_cast<Nanos>(random.below(100'000));
  }
  return options;
}

struct Counts {
  std::uint64_t loads = 0;
  std::uint64_t given_up = 0;
  std::uint64_t evictions = 0;
  std::uint64_t read_ahead = 0;
};

// A program, one of another protocol in the memory that it freed, and one of the first again.
void run_programs(std::string_view protocol, std::uint64_t seed, Counts& counts) {
  const ClusterOptions options = choose_cluster(protocol, seed);
  ThreadCluster cluster(options);
  SplitMix64 random(mix64(seed ^ 0x41c4));
  const std::string_view other = dsm::protocols()[random.below(dsm::protocols().size())].traits.name;
  for (const std::string_view next : {protocol, other, protocol}) {
    DrfOptions program = everything(next, random.next());
    const DrfResult result = run_drf_program(cluster, program);
    counts.loads += result.loads;
    counts.given_up += result.given_up;
    CHECK_MESSAGE(result.well, result.text);
    if (!result.well) return;
  }
  for (std::uint32_t node = 0; node < options.nodes; ++node) {
    counts.evictions += cluster.node(node).stats.get(Stat::evictions);
    counts.read_ahead += cluster.node(node).stats.get(Stat::read_ahead_pages);
  }
}

TEST_CASE("random race-free programs on threads") {
  for_each_protocol([](std::string_view protocol) {
    Counts counts;
    for_each_seed(5, [&](std::uint64_t seed) { run_programs(protocol, seed, counts); });
    MESSAGE(std::string(protocol), ": ", counts.loads, " loads compared, ", counts.given_up, " locks given up, ", counts.evictions,
            " evictions, ", counts.read_ahead, " pages fetched ahead");
  });
}

// Each found a bug once, in one run of several.
TEST_CASE("random race-free programs on threads with seeds that found bugs") {
  for_each_protocol([](std::string_view protocol) {
    if (protocol != "entry") return;
    Counts counts;
    run_programs(protocol, 44, counts);  // old images that went out with a lock, over what was written without it
    run_programs(protocol, 52, counts);  // a notice that named a page inside of a unit
  });
}

}  // namespace
}  // namespace netvm::test
