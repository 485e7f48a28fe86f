// The sequentially consistent protocols in particular: how many messages each kind of miss costs, reads that never find the owner, and what is
// left of a page when its memory is freed. That they are right at all: random_programs.cpp, histories.cpp, single_writer.cpp.
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/layout.hpp"
#include "dsm/protocols/sc_dynamic.hpp"
#include "runtime/random.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/history_program.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

bool is_sequential(const dsm::Traits& traits) { return traits.consistency == dsm::Consistency::sequential; }

std::uint64_t messages_of(SimCluster& cluster) {
  std::uint64_t sum = 0;
  for (std::uint32_t node = 0; node < cluster.nodes(); ++node) sum += cluster.node(node).stats.get(Stat::messages_sent);
  return sum;
}

// What one access of one node costs while nobody else does anything. A run has messages of its own (barriers), always the same.
std::uint64_t cost(SimCluster& cluster, std::uint32_t node, const std::function<void(Worker&)>& access) {
  const auto run = [&](bool really) {
    const std::uint64_t before = messages_of(cluster);
    const Ending ending = cluster.run([&](Worker& me) {
      me.pause(200'000);  // longer than any right is kept for its first use
      if (really && me.node() == node) access(me);
    });
    REQUIRE_MESSAGE(ending.well, ending.text);
    return messages_of(cluster) - before;
  };
  const std::uint64_t barriers = run(false);
  return run(true) - barriers;
}

struct Miss {
  const char* what;
  std::uint32_t node;
  bool write;
  // Messages, in the order of kProtocols.
  std::uint64_t directory, fixed, dynamic;
};

// One page; its home is node 0. Each line begins where the one before it has ended. The pages docs/protocols/sc-*.md explain the numbers.
constexpr Miss kMisses[] = {
    {"first read, by another node than the home", 1, false, 3, 2, 2},
    {"the only reader writes", 1, true, 0, 2, 2},
    {"read of a page that a third node has written", 2, false, 5, 3, 3},
    {"read of a page that is read by others", 3, false, 3, 3, 3},
    {"write of a page that the owner and two others read", 4, true, 9, 7, 7},
    {"write of a page that a third node has written", 1, true, 5, 3, 2},
    {"read of a page whose owner is known", 4, false, 5, 3, 2},
    {"the owner writes what another one reads", 1, true, 5, 2, 2},
    {"the home reads what another node has written", 0, false, 2, 2, 3},
    {"a reader writes", 0, true, 2, 2, 2},
    {"again: no miss", 0, true, 0, 0, 0},
};

void count_messages(std::string_view protocol) {
  SimClusterOptions options;
  options.nodes = 5;
  options.protocol = protocol;
  SimCluster cluster(options);
  const Place area = cluster.allocate(2 * kPageSize, {.placement = dsm::Placement::at_node, .home = NodeId{0}});
  // Everybody learns of the allocation from its other page.
  REQUIRE(cluster.run([&](Worker& me) { static_cast<void>(me.load<std::uint64_t>(area + kPageSize)); }).well);
  std::uint64_t value = 0;
  for (const Miss& miss : kMisses) {
    const std::uint64_t expected = protocol == "sc-directory" ? miss.directory : protocol == "sc-fixed" ? miss.fixed : miss.dynamic;
    const std::uint64_t found = cost(cluster, miss.node, [&](Worker& me) {
      if (miss.write) return me.store<std::uint64_t>(area, ++value);
      CHECK(me.load<std::uint64_t>(area) == value);
    });
    CHECK_MESSAGE(found == expected, std::string(protocol), ", ", miss.what, ": ", found, " messages, not ", expected);
  }
}

TEST_CASE("each kind of miss costs its messages and no more") { for_each_protocol(count_messages, is_sequential); }

// ---- reads that never find the owner --------------------------------------------------------------------------------------

std::uint64_t reads_told_to_ask = 0;

// As if the ownership were always gone when a read that is passed on arrives.
class Restless final : public dsm::ScDynamic {
 public:
  using ScDynamic::ScDynamic;
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<Restless>(env); }

 private:
  [[nodiscard]] std::uint32_t most_hops() const override { return 0; }
  void on_message(NodeId from, std::span<const std::byte> body) override {
    if (static_cast<dsm::sc::Kind>(body[0]) == dsm::sc::Kind::chased) ++reads_told_to_ask;
    ScDynamic::on_message(from, body);
  }
};

SimClusterOptions restless_cluster(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x3e57));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = dsm::ScDynamic::kTraits.name;
  options.nodes = static_cast<std::uint32_t>(3 + random.below(3));
  options.pages = 512;
  options.network.in_order = random.below(2) == 0;
  options.factories.assign(dsm::protocols().size(), nullptr);
  options.factories[static_cast<std::size_t>(dsm::find_protocol(options.protocol))] = Restless::make;
  return options;
}

TEST_CASE("sc-dynamic: a read that was passed on too often asks for the ownership, and ends well") {
  reads_told_to_ask = 0;
  for_each_seed(40, [](std::uint64_t seed) {
    SimCluster cluster(restless_cluster(seed));
    const DrfResult drf = run_drf_program(cluster, {.protocol = dsm::ScDynamic::kTraits.name, .seed = seed});
    CHECK_MESSAGE(drf.well, drf.text);
    const HistoryResult history = run_history_program(cluster, {.protocol = dsm::ScDynamic::kTraits.name, .seed = seed});
    CHECK_MESSAGE(history.verdict == Verdict::sequential, history.text);
  });
  CHECK(reads_told_to_ask > 0);
}

// ---- freed memory ---------------------------------------------------------------------------------------------------------

std::vector<dsm::ProtocolEnv*>& seen() {
  static std::vector<dsm::ProtocolEnv*> nodes;
  return nodes;
}
std::unique_ptr<dsm::Protocol> make_seen(dsm::ProtocolEnv& env) {
  seen().push_back(&env);
  return dsm::protocols()[env.protocol()].make(env);
}

void free_everything(std::string_view protocol) {
  for_each_seed(10, [&](std::uint64_t seed) {
    seen().clear();
    SimClusterOptions options;
    options.seed = seed;
    options.nodes = 4;
    options.pages = 256;
    options.protocol = protocol;
    options.factories.assign(dsm::protocols().size(), nullptr);
    options.factories[static_cast<std::size_t>(dsm::find_protocol(protocol))] = make_seen;
    SimCluster cluster(options);
    for (std::uint64_t program = 0; program < 3; ++program) {
      const HistoryResult result = run_history_program(cluster, {.protocol = protocol, .seed = mix64(seed) + program});
      CHECK_MESSAGE(result.verdict == Verdict::sequential, result.text);
      // The memory was freed; the barriers of an empty program let every node hear of it.
      REQUIRE(cluster.run([](Worker& me) { me.pause(1'000'000); }).well);
      for (dsm::ProtocolEnv* node : seen()) {
        const dsm::Layout layout = dsm::Layout::divide(options.pages, options.nodes);
        for (std::uint64_t p = layout.shared.first.value; p != layout.shared.end(); ++p) {
          const dsm::PageEntry& entry = node->entry(PageId{p});
          CHECK_FALSE((entry.attached() || entry.home_known() || entry.state.load() != 0 || entry.data != 0));
        }
      }
    }
  });
}

TEST_CASE("nothing is left of pages whose memory was freed: no hints, no records, no messages") {
  for_each_protocol(free_everything, is_sequential);
}

}  // namespace
}  // namespace netvm::test
