// sc-directory at every moment: who may write a page is alone with it. Looked at while random programs run, racy ones too.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "dsm/layout.hpp"
#include "dsm/protocols/sc_directory.hpp"
#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kPages = 128;

// Lets the test see each node's rights.
class Watched final : public dsm::ScDirectory {
 public:
  explicit Watched(dsm::ProtocolEnv& env) : ScDirectory(env) { all().push_back(this); }
  ~Watched() override { std::erase(all(), this); }
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<Watched>(env); }
  static std::vector<Watched*>& all() {
    static std::vector<Watched*> nodes;
    return nodes;
  }
  Access access(PageId page) { return env().entry(page).access(); }
};

// True if some page has a writer and anybody else.
bool writer_has_company() {
  const dsm::Layout layout = dsm::Layout::divide(kPages, static_cast<std::uint32_t>(Watched::all().size()));
  for (std::uint64_t p = layout.shared.first.value; p != layout.shared.end(); ++p) {
    std::uint32_t writers = 0;
    std::uint32_t readers = 0;
    for (Watched* node : Watched::all()) {
      const Access access = node->access(PageId{p});
      writers += access == Access::write ? 1 : 0;
      readers += access == Access::read ? 1 : 0;
    }
    if (writers > 1 || (writers == 1 && readers > 0)) return true;
  }
  return false;
}

SimClusterOptions choose_cluster(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x51e));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = dsm::ScDirectory::kTraits.name;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(4));
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = kPages;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.factories.assign(dsm::protocols().size(), nullptr);
  options.factories[static_cast<std::size_t>(dsm::find_protocol(options.protocol))] = Watched::make;
  return options;
}

// Looks again and again, at moments that have nothing to do with what the nodes do.
void watch(SimCluster& cluster, bool* broken) {
  auto look = std::make_shared<std::function<void()>>();
  *look = [&cluster, broken, again = std::weak_ptr(look)] {
    *broken = *broken || writer_has_company();
    if (const auto next = again.lock()) cluster.simulator().at(cluster.simulator().now() + 311, [next] { (*next)(); });
  };
  (*look)();
}

TEST_CASE("a writer is alone with its page at every moment: race-free programs") {
  for_each_seed(20, [](std::uint64_t seed) {
    SimCluster cluster(choose_cluster(seed));
    bool broken = false;
    watch(cluster, &broken);
    const DrfResult result = run_drf_program(cluster, {.protocol = dsm::ScDirectory::kTraits.name, .seed = seed});
    CHECK_MESSAGE(result.well, result.text);
    CHECK_FALSE(broken);
  });
}

TEST_CASE("a writer is alone with its page at every moment: everybody hammers two pages, and everybody gets on") {
  for_each_seed(20, [](std::uint64_t seed) {
    SimCluster cluster(choose_cluster(seed));
    bool broken = false;
    const Place area = cluster.allocate(2 * kPageSize, {});
    watch(cluster, &broken);
    const Ending ending = cluster.run([&](Worker& me) {
      SplitMix64 random(mix64(seed) + me.rank());
      const Place mine = area + random.below(2) * kPageSize + me.rank() * 8;
      for (std::uint64_t i = 1; i <= 60; ++i) {
        me.store<std::uint64_t>(mine, i);
        if (random.below(3) == 0) static_cast<void>(me.load<std::uint64_t>(area + random.below(2 * kPageSize / 8) * 8));
        if (me.load<std::uint64_t>(mine) != i) broken = true;
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    CHECK_FALSE(broken);
  });
}

}  // namespace
}  // namespace netvm::test
