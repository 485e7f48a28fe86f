// A cluster's end while its NICs are still at work.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "nic/nic.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::test {
namespace {

// On a loaded machine a NIC's task runs late. It may drive, and then reaches into the rings of all nodes: until it has ended none of them may go.
TEST_CASE("no node goes while a task of another node's NIC is at work") {
  std::atomic<bool> begun{false};
  std::atomic<bool> well{false};
  ClusterOptions options;
  options.nodes = 2;
  options.pages = 512;
  options.budget_pages = 64;
  std::optional<ThreadCluster> cluster(options);
  const std::weak_ptr<MemoryBackingStore> of_first = cluster->node(0).store;  // goes with its node
  nic::Nic& nic = *cluster->node(1).nic;
  const auto counter = nic.counter_create();
  REQUIRE(counter.has_value());
  const auto late = [&](std::uint64_t, std::uint64_t) -> std::uint64_t {
    begun.store(true);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    well.store(!of_first.expired());
    return UINT64_MAX;
  };
  REQUIRE(ok(nic.set_handler(*counter, 1, late)));
  REQUIRE(ok(nic.notify(*counter, 1)));
  while (!begun.load()) std::this_thread::yield();
  cluster.reset();
  CHECK(well.load());
}

}  // namespace
}  // namespace netvm::test
