// Every litmus test in the simulator, over many seeds: a seed chooses nodes and threads, layout, placement, delays and interleaving.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "runtime/random.hpp"
#include "tests/litmus/litmus.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::litmus {
namespace {

test::SimClusterOptions choose_cluster(const Litmus& litmus, std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0xc105));
  test::SimClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  const auto threads = static_cast<std::uint32_t>(litmus.threads.size());
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  const std::uint32_t least = (threads + options.threads - 1) / options.threads;
  options.nodes = static_cast<std::uint32_t>(std::max<std::uint64_t>(2, least + random.below(threads - least + 2)));
  options.pages = 512;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  options.network.max_delay = random.below(3) == 0 ? 40'000 : 5'000;
  options.read_ahead_from = 1 + static_cast<std::uint32_t>(mix64(seed ^ 0x4ead) % 2);
  return options;
}

void run_all(std::string_view protocol) {
  Report report;
  for (const Litmus& litmus : table()) {
    Tally sum;
    test::for_each_seed(100, [&](std::uint64_t seed) {
      test::SimCluster cluster(choose_cluster(litmus, protocol, seed));
      const Tally tally = run(cluster, litmus, {.protocol = protocol, .seed = seed});
      CHECK_MESSAGE(tally.failure.empty(), tally.failure);
      if (!may_show(litmus, protocol)) CHECK_MESSAGE(tally.weak == 0, tally.first_weak);
      sum.runs += tally.runs;
      sum.weak += tally.weak;
    });
    report.add(litmus, protocol, sum);
  }
  report.print("litmus tests in the simulator");
}

TEST_CASE("in the simulator a protocol shows only what it may") { test::for_each_protocol(run_all); }

TEST_CASE("in the simulator hlrc does show the weak outcomes of MP and SB: the tests can see them") {
  for (const Litmus& litmus : table()) {
    if (litmus.name != "MP racy" && litmus.name != "SB racy") continue;
    std::uint64_t weak = 0;
    for (std::uint64_t seed = 1; seed <= 300 && weak == 0; ++seed) {
      test::SimCluster cluster(choose_cluster(litmus, "hlrc", seed));
      weak += run(cluster, litmus, {.protocol = "hlrc", .seed = seed}).weak;
    }
    CHECK_MESSAGE(weak > 0, litmus.name);
  }
}

// The first seed with which some test fails that must not; 0 if none does.
std::uint64_t seeds_until_noticed(const test::Canary& canary, std::string* by) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    for (const Litmus& litmus : table()) {
      test::SimClusterOptions options = choose_cluster(litmus, canary.protocol, seed);
      put_in(canary, options);
      test::SimCluster cluster(options);
      const Tally tally = run(cluster, litmus, {.protocol = canary.protocol, .seed = seed});
      if (tally.failure.empty() && (tally.weak == 0 || may_show(litmus, canary.protocol))) continue;
      *by = litmus.name;
      return seed;
    }
  }
  return 0;
}

TEST_CASE("litmus tests notice a protocol that drops an invalidation") {
  for (const test::Canary& canary : test::canaries()) {
    if (canary.what != "drops an invalidation") continue;
    std::string by;
    const std::uint64_t seeds = seeds_until_noticed(canary, &by);
    CHECK_MESSAGE(seeds != 0, canary.protocol);
    if (seeds != 0) MESSAGE(std::string(canary.protocol), ": noticed with seed ", seeds, " by \"", by, "\"");
  }
}

}  // namespace
}  // namespace netvm::litmus
