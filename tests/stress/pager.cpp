// Memory budgets on real threads with the checked trap, for ThreadSanitizer: random race-free programs over more memory than the nodes may have, while
// a thread takes pages away all the time.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>

#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::test {
namespace {

void run_all(std::string_view protocol) {
  std::uint64_t loads = 0;
  std::uint64_t evictions = 0;
  for_each_seed(8, [&](std::uint64_t seed) {
    SplitMix64 random(mix64(seed ^ 0x9a6e));
    ClusterOptions options;
    options.seed = seed;
    options.protocol = protocol;
    options.nodes = static_cast<std::uint32_t>(2 + random.below(2));
    options.threads = static_cast<std::uint32_t>(1 + random.below(2));
    options.pages = 512;
    options.budget_pages = 12;
    options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
    ThreadCluster cluster(options);
    std::atomic<bool> stop{false};
    std::thread evictor([&] {
      for (std::uint32_t i = 0; !stop.load(); ++i) {
        (void)cluster.node(i % options.nodes).vm->evict(1 + i % 5);
        std::this_thread::yield();
      }
    });
    const DrfResult result =
        run_drf_program(cluster, {.protocol = protocol, .seed = seed, .phases = 4, .steps = 30, .max_pages = 40, .max_objects = 80});
    stop = true;
    evictor.join();
    CHECK_MESSAGE(result.well, result.text);
    loads += result.loads;
    for (std::uint32_t node = 0; node < options.nodes; ++node) evictions += cluster.node(node).stats.get(Stat::evictions);
  });
  MESSAGE(std::string(protocol), ": ", loads, " loads compared, ", evictions, " evictions");
}

TEST_CASE("random race-free programs on threads with a memory budget") { for_each_protocol(run_all); }

}  // namespace
}  // namespace netvm::test
