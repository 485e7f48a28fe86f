// Litmus tests on nodes made of real threads. Under ThreadSanitizer without the racy ones, of which it would rightly complain.
#include <doctest/doctest.h>

#include "runtime/sanitizers.hpp"
#include "tests/litmus/litmus.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::litmus {
namespace {

// Sanitizers look at the paths; how often each is taken is the release build's part.
constexpr std::uint32_t kIterations = NETVM_ASAN ? 5 : NETVM_TSAN ? 10 : 30;

void run_all(std::string_view protocol, std::uint32_t nodes, std::uint32_t threads, ShmMode mode) {
  Report report;
  test::ClusterOptions options;
  options.nodes = nodes;
  options.threads = threads;
  options.protocol = protocol;
  options.mode = mode;
  test::ThreadCluster cluster(options);
  for (const Litmus& litmus : table()) {
    if (litmus.threads.size() > std::size_t{nodes} * threads || (NETVM_TSAN && litmus.racy)) continue;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      const Tally tally = run(cluster, litmus, {.protocol = protocol, .seed = seed, .iterations = kIterations});
      CHECK_MESSAGE(tally.failure.empty(), tally.failure);
      if (!may_show(litmus, protocol)) CHECK_MESSAGE(tally.weak == 0, tally.first_weak);
      report.add(litmus, protocol, tally);
    }
  }
  report.print("litmus tests on nodes made of threads");
}

TEST_CASE("on threads a protocol shows only what it may") {
  test::for_each_protocol([](std::string_view protocol) { run_all(protocol, 4, 1, ShmMode::direct); });
}
TEST_CASE("on threads a protocol shows only what it may; two threads a node, packets") {
  test::for_each_protocol([](std::string_view protocol) { run_all(protocol, 2, 2, ShmMode::packet); });
}

}  // namespace
}  // namespace netvm::litmus
