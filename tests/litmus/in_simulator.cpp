// Every litmus test in the simulator, over many seeds: a seed chooses nodes and threads, layout, placement, delays and interleaving.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "runtime/random.hpp"
#include "runtime/sanitizers.hpp"
#include "tests/litmus/litmus.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::litmus {
namespace {

// Of each litmus test. Sanitizers look for other things, and take ten times as long.
constexpr std::uint64_t kSeeds = NETVM_ASAN || NETVM_TSAN ? 8 : 60;

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

// docs/litmus.md as the runs of this process would have it; --document=FILE writes it.
constexpr std::string_view kDocument = "docs/litmus.md";
constexpr std::string_view kCommand = "netvm_litmus --source-file='*in_simulator.cpp' --document=docs/litmus.md";

void run_all(std::string_view protocol, Report& report) {
  for (const Litmus& litmus : table()) {
    Tally sum;
    test::for_each_seed(kSeeds, [&](std::uint64_t seed) {
      test::SimCluster cluster(choose_cluster(litmus, protocol, seed));
      const Tally tally = run(cluster, litmus, {.protocol = protocol, .seed = seed});
      CHECK_MESSAGE(tally.failure.empty(), tally.failure);
      if (!may_show(litmus, protocol)) CHECK_MESSAGE(tally.weak == 0, tally.first_weak);
      sum.runs += tally.runs;
      sum.weak += tally.weak;
    });
    report.add(litmus, protocol, sum);
  }
}

std::string document(const Report& report) {
  return fmt::format(
      "# Litmus tests and protocols\n\n"
      "What each protocol may show of the tests in `tests/litmus/table.cpp`: *forbidden* outcomes were looked for and are a failure; "
      "*allowed* ones were seen, or not, in the run that wrote this table. Written by\n\n    {}\n\n"
      "A program that shows an allowed outcome has a data race, or relies on what was not written under the mutex that it locks "
      "([memory_model.md](memory_model.md)).\n\n{}",
      kCommand, report.markdown());
}

TEST_CASE("in the simulator a protocol shows only what it may") {
  Report report;
  test::for_each_protocol([&](std::string_view protocol) { run_all(protocol, report); });
  report.print("litmus tests in the simulator");
  if (document_path().empty()) return;
  std::ofstream file(document_path());
  file << document(report);
  CHECK_MESSAGE(file.good(), document_path() << " cannot be written");
}

// Cells without what depends on the run.
std::string verdicts(std::string text) {
  for (const std::string_view seen : {", not seen", ", seen"}) {
    for (std::size_t at = text.find(seen); at != std::string::npos; at = text.find(seen)) text.erase(at, seen.size());
  }
  return text;
}

TEST_CASE("the document agrees with the table and with the list of protocols") {
  const std::string path = std::string(NETVM_SOURCE_DIR) + "/" + std::string(kDocument);
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.good(), path << " cannot be read");
  const std::string found{std::istreambuf_iterator<char>(file), {}};
  const bool agrees = verdicts(found) == verdicts(document(Report{}));
  CHECK_MESSAGE(agrees, kDocument << " is not of this table and these protocols: write it again with " << kCommand);
}

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
