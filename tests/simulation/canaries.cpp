// A protocol with a bug is noticed: by random race-free programs within so many seeds.
#include "tests/support/canaries.hpp"

#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kMostSeeds = 1000;

// The first seed whose run shows the bug; 0 if none does.
std::uint64_t seeds_until_noticed(const Canary& canary) {
  for (std::uint64_t seed = 1; seed <= kMostSeeds; ++seed) {
    SplitMix64 random(mix64(seed ^ 0xca4a));
    SimClusterOptions options;
    options.seed = seed;
    options.pages = 512;
    options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
    options.threads = static_cast<std::uint32_t>(1 + random.below(2));
    put_in(canary, options);
    SimCluster cluster(options);
    if (!run_drf_program(cluster, {.protocol = canary.protocol, .seed = seed}).well) return seed;
  }
  return 0;
}

TEST_CASE("random race-free programs notice each protocol with a bug") {
  for (const Canary& canary : canaries()) {
    const std::uint64_t seeds = seeds_until_noticed(canary);
    const std::string name = std::string(canary.protocol) + " that " + std::string(canary.what);
    CHECK_MESSAGE(seeds != 0, "not noticed within " << kMostSeeds << " seeds: " << name);
    if (seeds != 0) MESSAGE(name, ": noticed with seed ", seeds);
  }
}

}  // namespace
}  // namespace netvm::test
