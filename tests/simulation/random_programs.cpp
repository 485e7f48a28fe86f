// Random race-free programs in the simulator: every load is compared with what was stored last, for all protocols, over many seeds.
#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions choose_cluster(std::string_view protocol, std::uint64_t seed, bool loses) {
  SplitMix64 random(mix64(seed ^ 0x9a4d));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(4));
  options.threads = static_cast<std::uint32_t>(1 + random.below(3));
  options.pages = 512;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  options.network.max_delay = random.below(3) == 0 ? 40'000 : 5'000;
  if (!options.network.in_order && random.below(3) == 0) options.network.duplicate_ppm = 50'000;
  options.read_ahead_from = 1 + static_cast<std::uint32_t>(mix64(seed ^ 0x4ead) % 2);
  if (loses) options.network = lossy(options.network);
  return options;
}

DrfResult run_once(std::string_view protocol, std::uint64_t seed, bool loses) {
  SimCluster cluster(choose_cluster(protocol, seed, loses));
  DrfResult result = run_drf_program(cluster, {.protocol = protocol, .seed = seed});
  if (!result.well) return result;
  // A second program in the memory of the first.
  const std::uint64_t loads = result.loads;
  result = run_drf_program(cluster, {.protocol = protocol, .seed = mix64(seed)});
  result.loads += loads;
  return result;
}

void run_all(std::string_view protocol, bool loses, std::uint64_t seeds) {
  std::uint64_t loads = 0;
  for_each_seed(seeds, [&](std::uint64_t seed) {
    const DrfResult result = run_once(protocol, seed, loses);
    CHECK_MESSAGE(result.well, result.text);
    loads += result.loads;
    if (seed % 5 != 0) return;
    const DrfResult again = run_once(protocol, seed, loses);
    CHECK_MESSAGE(again.trace_hash == result.trace_hash, "two runs with one seed took different ways");
  });
  MESSAGE(std::string(protocol), ": ", loads, " loads compared");
}

TEST_CASE("random race-free programs read what was written last") {
  for_each_protocol([](std::string_view protocol) { run_all(protocol, false, 50); });
}
// Each found a bug once.
TEST_CASE("random race-free programs with seeds that found bugs") {
  struct Pinned {
    std::string_view protocol;
    std::uint64_t seed;
    bool loses;
  };
  constexpr Pinned kPinned[] = {
      {"entry", 47, false},   // the home told, as changed, bound data that somebody else had written without the lock
      {"entry", 340, false},  // bound data that the home had told and then written again without the lock, and no write notice for it
      {"entry", 883, true},   // the same
      {"entry", 359, false},  // a page fetched while the home's thread had changed a bound byte, and changed it back before it released
      {"entry", 2615, false}, {"entry", 2718, false},
      {"entry", 111, true},  // freed memory taken out of a binding took along what was known of the rest
  };
  for (const Pinned& pinned : kPinned) {
    const DrfResult result = run_once(pinned.protocol, pinned.seed, pinned.loses);
    CHECK_MESSAGE(result.well, result.text);
  }
}
// A rich program of the protocol, one of another in the memory that was freed, and one of the first again; often with a memory budget.
DrfResult run_rich(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x41c4));
  SimClusterOptions options = choose_cluster(protocol, seed, random.below(8) == 0);
  if (random.below(3) == 0) {
    options.budget_pages = 8 + random.below(8);
    options.evict_every = random.below(2) == 0 ? 0 : 20'000;
    options.store_time = random.below(3) == 0 ? 0 : 30'000;
  }
  SimCluster cluster(options);
  DrfResult result;
  std::uint64_t loads = 0;
  const std::string_view other = dsm::protocols()[random.below(dsm::protocols().size())].traits.name;
  for (const std::string_view next : {protocol, other, protocol}) {
    const bool pages_only = options.budget_pages != 0;  // a large unit needs many frames at once
    result = run_drf_program(
        cluster, {.protocol = next, .seed = random.next(), .phases = 3, .max_pages = 6, .any_granularity = !pages_only, .rich = true});
    loads += result.loads;
    if (!result.well) break;
  }
  result.loads = loads;
  return result;
}

TEST_CASE("rich random race-free programs: regions of several protocols, freed memory under another, evictions") {
  for_each_protocol([](std::string_view protocol) {
    std::uint64_t loads = 0;
    for_each_seed(8, [&](std::uint64_t seed) {
      const DrfResult result = run_rich(protocol, seed);
      CHECK_MESSAGE(result.well, result.text);
      loads += result.loads;
      if (seed % 10 != 0) return;
      CHECK_MESSAGE(run_rich(protocol, seed).trace_hash == result.trace_hash, "two runs with one seed took different ways");
    });
    MESSAGE(std::string(protocol), ": ", loads, " loads compared");
  });
}
// Freed memory was handed out with old bytes: a flush under way reached the home's frame after that had been dropped.
TEST_CASE("rich random race-free programs with seeds that found bugs") {
  struct Pinned {
    std::string_view protocol;
    std::uint64_t seed;
  };
  for (const Pinned& pinned : {Pinned{"update", 295}, {"update", 677}, {"lrc", 722}, {"lease", 677}}) {
    const DrfResult result = run_rich(pinned.protocol, pinned.seed);
    CHECK_MESSAGE(result.well, result.text);
  }
}
// A program with objects of all kinds, and a second in its memory.
DrfResult run_objects(std::string_view protocol, std::uint64_t seed) {
  SimCluster cluster(choose_cluster(protocol, seed, mix64(seed ^ 0x10e5) % 6 == 0));
  DrfResult result = run_drf_program(cluster, {.protocol = protocol, .seed = seed, .rich = seed % 2 == 0, .objects = true});
  if (!result.well) return result;
  const std::uint64_t loads = result.loads;
  result = run_drf_program(cluster, {.protocol = protocol, .seed = mix64(seed), .objects = true});
  result.loads += loads;
  return result;
}

TEST_CASE("random race-free programs with semaphores, reader-writer locks, wait queues, latches, flags and barriers of some threads") {
  const auto carries = [](const dsm::Traits& traits) {
    return traits.consistency != dsm::Consistency::entry;
  };  // it moves what is bound to mutexes
  for_each_protocol(
      [](std::string_view protocol) {
        std::uint64_t loads = 0;
        for_each_seed(20, [&](std::uint64_t seed) {
          const DrfResult result = run_objects(protocol, seed);
          CHECK_MESSAGE(result.well, result.text);
          loads += result.loads;
          if (seed % 10 != 0) return;
          CHECK_MESSAGE(run_objects(protocol, seed).trace_hash == result.trace_hash, "two runs with one seed took different ways");
        });
        MESSAGE(std::string(protocol), ": ", loads, " loads compared");
      },
      carries);
}
// Runs of pages, waits that are given up, threads beside the section, all in one; and a second program in the memory of the first.
DrfResult run_everything(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0xe5e7));
  SimClusterOptions options = choose_cluster(protocol, seed, random.below(8) == 0);
  options.pages = 1024;
  if (random.below(3) == 0) {
    options.budget_pages = 12 + random.below(24);
    options.evict_every = random.below(2) == 0 ? 0 : 20'000;
    options.store_time = random.below(3) == 0 ? 0 : 30'000;
  }
  SimCluster cluster(options);
  DrfResult result = run_drf_program(cluster, everything(protocol, seed));
  if (!result.well) return result;
  const std::uint64_t loads = result.loads;
  result = run_drf_program(cluster, everything(protocol, mix64(seed)));
  result.loads += loads;
  return result;
}

TEST_CASE("random race-free programs with runs of pages, waits that are given up and threads beside the section") {
  for_each_protocol([](std::string_view protocol) {
    std::uint64_t loads = 0;
    std::uint64_t given_up = 0;
    for_each_seed(6, [&](std::uint64_t seed) {
      const DrfResult result = run_everything(protocol, seed);
      CHECK_MESSAGE(result.well, result.text);
      loads += result.loads;
      given_up += result.given_up;
      if (seed % 6 != 0) return;
      CHECK_MESSAGE(run_everything(protocol, seed).trace_hash == result.trace_hash, "two runs with one seed took different ways");
    });
    MESSAGE(std::string(protocol), ": ", loads, " loads compared, ", given_up, " locks given up");
  });
}
// lrc's changes were put in out of order: what a thread beside the section had written while its node was at a barrier, and a lock had taken to a node that
// arrived later, was not told at the barrier.
TEST_CASE("random race-free programs with threads beside the section, with seeds that found bugs") {
  struct Pinned {
    std::string_view protocol;
    std::uint64_t seed;
  };
  // sc-directory's ended with a task of a mutex that had just been started: outside of the simulation it never ran.
  for (const Pinned& pinned : {Pinned{"entry", 57}, {"sc-fixed", 57}, {"sc-directory", 21001}}) {
    const DrfResult result = run_everything(pinned.protocol, pinned.seed);
    CHECK_MESSAGE(result.well, result.text);
  }
}
TEST_CASE("random race-free programs over a network that loses packets") {
  for_each_protocol([](std::string_view protocol) { run_all(protocol, true, 10); });
}

}  // namespace
}  // namespace netvm::test
