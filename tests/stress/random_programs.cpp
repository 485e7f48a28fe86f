// Random race-free programs on nodes made of real threads: every load is compared with what was stored last.
#include <doctest/doctest.h>

#include <string>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::test {
namespace {

void run_all(std::string_view protocol) {
  std::uint64_t loads = 0;
  for_each_seed(12, [&](std::uint64_t seed) {
    SplitMix64 random(mix64(seed ^ 0x7e4d));
    ClusterOptions options;
    options.seed = seed;
    options.protocol = protocol;
    options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
    options.threads = static_cast<std::uint32_t>(1 + random.below(2));
    options.pages = 512;
    options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
    ThreadCluster cluster(options);
    const bool objects = seed % 2 == 0 && protocol != std::string_view("entry");  // it moves what is bound to mutexes
    for (const std::uint64_t program : {seed, mix64(seed)}) {                     // the second in the memory of the first
      const DrfResult result =
          run_drf_program(cluster, {.protocol = protocol, .seed = program, .phases = 5, .steps = 30, .objects = objects});
      CHECK_MESSAGE(result.well, result.text);
      loads += result.loads;
    }
  });
  MESSAGE(std::string(protocol), ": ", loads, " loads compared");
}

TEST_CASE("random race-free programs on threads read what was written last") { for_each_protocol(run_all); }

}  // namespace
}  // namespace netvm::test
