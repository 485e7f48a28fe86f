// The sequentially consistent protocols at every moment: who may write a page is alone with it, and copies that may be read are equal. Looked at while
// random programs run, racy ones too.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dsm/layout.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kPages = 128;

// Lets the test see each node's rights and frames.
std::vector<dsm::ProtocolEnv*>& watched() {
  static std::vector<dsm::ProtocolEnv*> nodes;
  return nodes;
}
std::unique_ptr<dsm::Protocol> make_watched(dsm::ProtocolEnv& env) {
  watched().push_back(&env);
  return dsm::protocols()[env.protocol()].make(env);
}

// What is wrong with the page at this moment, if anything.
const char* complaint(PageId page) {
  std::uint32_t writers = 0;
  const std::byte* readable = nullptr;
  bool equal = true;
  std::uint32_t readers = 0;
  for (dsm::ProtocolEnv* node : watched()) {
    const Access access = node->entry(page).access();
    writers += access == Access::write ? 1 : 0;
    if (access != Access::read) continue;
    if (readers++ != 0 && std::memcmp(readable, node->frame(page), kPageSize) != 0) equal = false;
    readable = node->frame(page);
  }
  if (writers > 1) return "two nodes may write a page";
  if (writers == 1 && readers > 0) return "a page may be written and read";
  return equal ? nullptr : "two nodes read different copies";
}

SimClusterOptions choose_cluster(std::string_view protocol, std::uint64_t seed) {
  watched().clear();
  SplitMix64 random(mix64(seed ^ 0x51e));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(4));
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = kPages;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.factories.assign(dsm::protocols().size(), nullptr);
  options.factories[static_cast<std::size_t>(dsm::find_protocol(options.protocol))] = make_watched;
  return options;
}

// Looks again and again, at moments that have nothing to do with what the nodes do.
void watch(SimCluster& cluster, std::string* broken) {
  auto look = std::make_shared<std::function<void()>>();
  *look = [&cluster, broken, again = std::weak_ptr(look)] {
    const dsm::Layout layout = dsm::Layout::divide(kPages, cluster.nodes());
    for (std::uint64_t p = layout.shared.first.value; p != layout.shared.end(); ++p) {
      if (const char* what = complaint(PageId{p}); what != nullptr && broken->empty()) *broken = what;
    }
    if (const auto next = again.lock()) cluster.simulator().at(cluster.simulator().now() + 311, [next] { (*next)(); });
  };
  (*look)();
}

bool is_sequential(const dsm::Traits& traits) { return traits.consistency == dsm::Consistency::sequential; }

void run_race_free(std::string_view protocol) {
  for_each_seed(20, [&](std::uint64_t seed) {
    SimCluster cluster(choose_cluster(protocol, seed));
    std::string broken;
    watch(cluster, &broken);
    const DrfResult result = run_drf_program(cluster, {.protocol = protocol, .seed = seed});
    CHECK_MESSAGE(result.well, result.text);
    CHECK_MESSAGE(broken.empty(), broken);
  });
}

TEST_CASE("a writer is alone with its page at every moment: race-free programs") { for_each_protocol(run_race_free, is_sequential); }

void hammer(std::string_view protocol) {
  for_each_seed(20, [&](std::uint64_t seed) {
    SimCluster cluster(choose_cluster(protocol, seed));
    std::string broken;
    const Place area = cluster.allocate(2 * kPageSize, {});
    watch(cluster, &broken);
    const Ending ending = cluster.run([&](Worker& me) {
      SplitMix64 random(mix64(seed) + me.rank());
      const Place mine = area + random.below(2) * kPageSize + me.rank() * 8;
      for (std::uint64_t i = 1; i <= 60; ++i) {
        me.store<std::uint64_t>(mine, i);
        if (random.below(3) == 0) static_cast<void>(me.load<std::uint64_t>(area + random.below(2 * kPageSize / 8) * 8));
        if (me.load<std::uint64_t>(mine) != i) broken = "a thread does not read what it stored";
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    CHECK_MESSAGE(broken.empty(), broken);
  });
}

TEST_CASE("a writer is alone with its page at every moment: everybody hammers two pages, and everybody gets on") {
  for_each_protocol(hammer, is_sequential);
}

}  // namespace
}  // namespace netvm::test
