// Random racy programs in the simulator: under protocols that promise sequential consistency one order must explain what all threads saw.
#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/history_program.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions choose_cluster(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x4151));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(4));
  options.threads = options.nodes > 3 ? 1 : static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = 512;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  options.network.max_delay = random.below(3) == 0 ? 40'000 : 5'000;
  if (!options.network.in_order && random.below(3) == 0) options.network.duplicate_ppm = 50'000;
  if (random.below(8) == 0) options.network = lossy(options.network);
  return options;
}

// Several programs, one after the other, in memory that is freed and handed out again.
HistoryResult run_once(SimCluster& cluster, std::string_view protocol, std::uint64_t seed) {
  HistoryResult sum;
  for (std::uint64_t program = 0; program < 4; ++program) {
    const HistoryResult result = run_history_program(cluster, {.protocol = protocol, .seed = mix64(seed) + program});
    sum.well = result.well;
    sum.verdict = result.verdict;
    sum.text = result.text;
    sum.trace_hash = result.trace_hash;
    sum.operations += result.operations;
    sum.states += result.states;
    if (result.verdict != Verdict::sequential) return sum;
  }
  return sum;
}
HistoryResult run_once(std::string_view protocol, std::uint64_t seed) {
  SimCluster cluster(choose_cluster(protocol, seed));
  return run_once(cluster, protocol, seed);
}

void run_all(std::string_view protocol) {
  std::uint64_t operations = 0;
  std::uint64_t states = 0;
  for_each_seed(50, [&](std::uint64_t seed) {
    const HistoryResult result = run_once(protocol, seed);
    CHECK_MESSAGE(result.verdict == Verdict::sequential, result.text);
    operations += result.operations;
    states += result.states;
    if (seed % 5 != 0) return;
    CHECK_MESSAGE(run_once(protocol, seed).trace_hash == result.trace_hash, "two runs with one seed took different ways");
  });
  MESSAGE(std::string(protocol), ": ", operations, " loads and stores explained; ", states, " states searched");
}

TEST_CASE("one order explains what racy programs see, under protocols that promise it") {
  for_each_protocol(run_all, [](const dsm::Traits& traits) { return traits.consistency == dsm::Consistency::sequential; });
}

TEST_CASE("racy programs find that hlrc is not sequentially consistent: the checker can fail") {
  std::uint64_t noticed = 0;
  for (std::uint64_t seed = 1; seed <= 300 && noticed == 0; ++seed) {
    const HistoryResult result = run_once("hlrc", seed);
    REQUIRE_MESSAGE(result.verdict != Verdict::undecided, result.text);
    if (result.verdict == Verdict::violated) {
      noticed = seed;
      MESSAGE("noticed with seed ", seed, ": ", result.text);
    }
  }
  CHECK(noticed != 0);
}

TEST_CASE("racy programs notice sequentially consistent protocols with a bug") {
  for (const Canary& canary : canaries()) {
    const dsm::Traits& traits = dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(canary.protocol))].traits;
    if (traits.consistency != dsm::Consistency::sequential) continue;
    const std::string name = std::string(canary.protocol) + " that " + std::string(canary.what);
    std::uint64_t noticed = 0;
    for (std::uint64_t seed = 1; seed <= 1000 && noticed == 0; ++seed) {
      SimClusterOptions options = choose_cluster(canary.protocol, seed);
      put_in(canary, options);
      SimCluster cluster(options);
      const HistoryResult result = run_once(cluster, canary.protocol, seed);
      if (!result.well || result.verdict == Verdict::violated) noticed = seed;
    }
    CHECK_MESSAGE(noticed != 0, "not noticed within 1000 seeds: " << name);
    if (noticed != 0) MESSAGE(name, ": noticed with seed ", noticed);
  }
}

}  // namespace
}  // namespace netvm::test
