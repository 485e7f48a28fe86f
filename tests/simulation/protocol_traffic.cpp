// What each protocol sends for the ways in which programs typically share pages: a table for comparing them, printed; that all read what they must is checked.
//   netvm_simulation -tc='*typical patterns*' --protocol=hlrc,self,lease
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <string>

#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint32_t kNodes = 4;
constexpr std::uint64_t kPages = 16;     // of each node
constexpr std::uint64_t kWarmUp = 30;    // rounds
constexpr std::uint64_t kMeasured = 30;  // rounds
constexpr std::uint64_t kAll = kNodes * kPages;
constexpr Place kLock = 64;

/// What a round does; returns how many loads were not what they must be.
using Round = std::uint64_t (*)(Worker& me, Place at, std::uint64_t round);

void store_page(Worker& me, Place at, std::uint64_t page, std::uint64_t value) { me.store(at + page * kPageSize, value); }
std::uint64_t differs(Worker& me, Place at, std::uint64_t page, std::uint64_t value) {
  return me.load<std::uint64_t>(at + page * kPageSize) != value ? 1 : 0;
}
std::uint64_t first_of(const Worker& me) { return me.node() * kPages; }

std::uint64_t privately(Worker& me, Place at, std::uint64_t round) {
  std::uint64_t wrong = 0;
  for (std::uint64_t p = first_of(me); p < first_of(me) + kPages; ++p) {
    wrong += differs(me, at, p, round - 1);
    store_page(me, at, p, round);
  }
  me.barrier();
  return wrong;
}

std::uint64_t read_only(Worker& me, Place at, std::uint64_t round) {
  if (round == 1 && me.node() == 0) {
    for (std::uint64_t p = 0; p < kAll; ++p) store_page(me, at, p, 7);
  }
  me.barrier();
  std::uint64_t wrong = 0;
  for (std::uint64_t p = 0; p < kAll; ++p) wrong += differs(me, at, p, 7);
  return wrong;
}

std::uint64_t read_mostly(Worker& me, Place at, std::uint64_t round) {
  const std::uint64_t wrong = read_only(me, at, round);
  if (me.node() == 1) store_page(me, at, kAll, round);
  me.barrier();
  return wrong + differs(me, at, kAll, round);
}

std::uint64_t producer_consumer(Worker& me, Place at, std::uint64_t round) {
  for (std::uint64_t p = 0; me.node() == 0 && p < kPages; ++p) store_page(me, at, p, round);
  me.barrier();
  std::uint64_t wrong = 0;
  for (std::uint64_t p = 0; p < kPages; ++p) wrong += differs(me, at, p, round);
  me.barrier();
  return wrong;
}

// Each node changes some pages under one lock, one node after the other.
std::uint64_t migratory(Worker& me, Place at, std::uint64_t) {
  me.lock(kLock);
  const auto value = me.load<std::uint64_t>(at);
  std::uint64_t wrong = 0;
  for (std::uint64_t p = 0; p < 4; ++p) {
    wrong += differs(me, at, p, value);
    store_page(me, at, p, value + 1);
  }
  me.unlock(kLock);
  me.pause(20'000);
  return wrong;
}

std::uint64_t false_sharing(Worker& me, Place at, std::uint64_t round) {
  std::uint64_t wrong = 0;
  for (std::uint64_t p = 0; p < kPages; ++p) {
    const Place mine = at + p * kPageSize + me.node() * (kPageSize / kNodes);
    wrong += me.load<std::uint64_t>(mine) != round - 1 ? 1 : 0;
    me.store(mine, round);
  }
  me.barrier();
  return wrong;
}

// Each writes its own and reads two of the next node's, as a stencil does.
std::uint64_t neighbours(Worker& me, Place at, std::uint64_t round) {
  for (std::uint64_t p = first_of(me); p < first_of(me) + kPages; ++p) store_page(me, at, p, round);
  me.barrier();
  const std::uint64_t next = (me.node() + 1) % kNodes * kPages;
  const std::uint64_t wrong = differs(me, at, next, round) + differs(me, at, next + 1, round);
  me.barrier();
  return wrong;
}

struct Pattern {
  std::string_view name;
  Round round;
  dsm::Placement placement;  // at_node: at node 3
};
constexpr std::array kPatterns{
    Pattern{"private, homes elsewhere", privately, dsm::Placement::cyclic},
    Pattern{"private, at home", privately, dsm::Placement::block},
    Pattern{"written once, then read by all", read_only, dsm::Placement::at_node},
    Pattern{"the same, another page written", read_mostly, dsm::Placement::at_node},
    Pattern{"one producer, three consumers", producer_consumer, dsm::Placement::at_node},
    Pattern{"migratory under a lock", migratory, dsm::Placement::at_node},
    Pattern{"false sharing by all", false_sharing, dsm::Placement::cyclic},
    Pattern{"stencil, at home", neighbours, dsm::Placement::block},
};

constexpr std::array kCounted{Stat::messages_sent, Stat::one_sided_ops, Stat::one_sided_bytes, Stat::pages_fetched,
                              Stat::invalidations, Stat::read_faults,   Stat::write_faults};

std::string measure(std::string_view protocol, const Pattern& pattern) {
  SimClusterOptions options;
  options.nodes = kNodes;
  options.protocol = protocol;
  SimCluster cluster(options);
  dsm::AllocOptions where;
  where.protocol = protocol;
  where.placement = pattern.placement;
  where.home = NodeId{3};
  const Place at = cluster.allocate((kAll + (pattern.placement == dsm::Placement::at_node ? 1 : 0)) * kPageSize, where);
  std::array<std::uint64_t, kCounted.size()> sums{};
  std::uint64_t wrong = 0;
  const Ending ending = cluster.run([&](Worker& me) {
    std::uint64_t round = 0;
    while (round < kWarmUp) wrong += pattern.round(me, at, ++round);
    const Stats& stats = cluster.node(me.node()).stats;
    std::array<std::uint64_t, kCounted.size()> before{};
    for (std::size_t i = 0; i < kCounted.size(); ++i) before[i] = stats.get(kCounted[i]);
    while (round < kWarmUp + kMeasured) wrong += pattern.round(me, at, ++round);
    for (std::size_t i = 0; i < kCounted.size(); ++i) sums[i] += stats.get(kCounted[i]) - before[i];
  });
  CHECK_MESSAGE(ending.well, ending.text);
  CHECK(wrong == 0);
  std::string row = fmt::format("{:<31} {:<13}", pattern.name, protocol);
  for (const std::uint64_t sum : sums) row += fmt::format(" {:>9.1f}", static_cast<double>(sum) / kMeasured);
  return row + "\n";
}

TEST_CASE("traffic of typical patterns") {
  std::string table = fmt::format("a round of {} nodes:\n{:<31} {:<13} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n", kNodes, "", "",
                                  "messages", "one-sided", "bytes", "fetched", "given up", "r faults", "w faults");
  for (const Pattern& pattern : kPatterns) {
    for_each_protocol([&](std::string_view protocol) { table += measure(protocol, pattern); },
                      [](const dsm::Traits& traits) { return traits.consistency <= dsm::Consistency::release; });
  }
  MESSAGE(table);
}

// Whatever carries them: transfers, messages, locks.
TEST_CASE("contents of pages count as data, of the node and of the region alike, and never as the protocol's bytes") {
  constexpr std::uint64_t kWords = 4 * kPageSize / 8;
  constexpr std::uint64_t kRounds = 8;
  for_each_protocol([](std::string_view protocol) {
    CAPTURE(protocol);
    SimClusterOptions options;
    options.protocol = protocol;
    options.read_ahead = false;
    SimCluster cluster(options);
    const Place at = cluster.allocate(kWords * 8, {});
    const Place lock = cluster.allocate(8, {});
    const Ending ending = cluster.run([&](Worker& me) {
      if (me.local() == 0) me.bind(lock, at, kPageSize);
      for (std::uint64_t round = 1; round <= kRounds; ++round) {
        me.lock(lock);
        for (std::uint64_t w = me.node(); w < kPageSize / 8; w += 2) me.store(at + 8 * w, round);
        me.unlock(lock);
        me.barrier();
        if (round % 2 == me.node()) {
          for (std::uint64_t w = 0; w < kWords; ++w) me.store(at + 8 * w, ~round * (w + 1));
        }
        me.barrier();
        for (std::uint64_t w = 0; w < kWords; w += 64) CHECK(me.load<std::uint64_t>(at + 8 * w) == ~round * (w + 1));
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    std::uint64_t all = 0;
    for (std::uint32_t node = 0; node < 2; ++node) {
      const Stats& stats = cluster.node(node).stats;
      std::uint64_t in_regions = 0;
      for (const dsm::RegionReport& region : cluster.node(node).dsm->report())
        in_regions += region.stats[static_cast<std::size_t>(Stat::data_bytes)];
      CHECK(stats.get(Stat::data_bytes) == in_regions);
      CHECK(stats.get(Stat::protocol_bytes) < kRounds * kPageSize);
      all += in_regions;
    }
    CHECK(all >= kRounds * kWords * 8 * 3 / 4);
  });
}

// What is counted for a protocol, whoever counts it: the NIC for the node, sync for what locks and barriers carry.
TEST_CASE("where a program mixes protocols, each one's share is told apart, and the shares are the whole") {
  using dsm::ProtocolReport;
  constexpr std::array kShared{Stat::read_faults,
                               Stat::write_faults,
                               Stat::remote_faults,
                               Stat::pages_fetched,
                               Stat::twins,
                               Stat::diffs,
                               Stat::diff_bytes,
                               Stat::invalidations,
                               Stat::notices_sent,
                               Stat::notices_received,
                               Stat::data_bytes,
                               Stat::home_moves,
                               Stat::fault_ns,
                               Stat::protocol_ns,
                               Stat::handler_ns,
                               Stat::read_faults_away,
                               Stat::write_faults_away,
                               Stat::read_ahead_pages};
  for_each_protocol([&](std::string_view protocol) {
    if (protocol == "erc") return;  // the other one of each pair
    CAPTURE(protocol);
    SimCluster cluster({});
    const Place at = cluster.allocate(4 * kPageSize, {.protocol = protocol});
    const Place beside = cluster.allocate(4 * kPageSize, {.protocol = "erc"});
    const Place lock = cluster.allocate(8, {.protocol = protocol});
    const Ending ending = cluster.run([&](Worker& me) {
      if (me.local() == 0) me.bind(lock, at, kPageSize);
      for (std::uint64_t round = 1; round <= 6; ++round) {
        me.lock(lock);
        me.store(at, me.load<std::uint64_t>(at) + round);
        me.store(beside, me.load<std::uint64_t>(beside) + round);
        me.unlock(lock);
        me.store(at + kPageSize + 8 * me.node(), round);
        me.store(beside + kPageSize + 8 * me.node(), round);
        me.barrier();
        if (me.node() == round % 2) me.store(at + 2 * kPageSize, me.load<std::uint64_t>(at + kPageSize + 8 * (1 - me.node())));
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    std::uint64_t messages = 0;
    std::uint64_t one_sided = 0;
    for (std::uint32_t node = 0; node < 2; ++node) {
      const Stats& whole = cluster.node(node).stats;
      const std::vector<ProtocolReport> parts = cluster.node(node).dsm->protocol_reports();
      const auto sum = [&](Stat stat) {
        std::uint64_t of_all = 0;
        for (const ProtocolReport& part : parts) of_all += part.stats[static_cast<std::size_t>(stat)];
        return of_all;
      };
      for (const Stat stat : kShared) {
        CAPTURE(stat_name(stat));
        CHECK(sum(stat) == whole.get(stat));
      }
      // The rest is of the allocator and of locks.
      for (const Stat stat : {Stat::messages_sent, Stat::message_bytes, Stat::protocol_bytes, Stat::one_sided_ops}) {
        CAPTURE(stat_name(stat));
        CHECK(sum(stat) <= whole.get(stat));
      }
      for (const ProtocolReport& part : parts) {
        if (part.name != protocol) continue;
        messages += part.stats[static_cast<std::size_t>(Stat::messages_sent)];
        one_sided += part.stats[static_cast<std::size_t>(Stat::one_sided_ops)];
      }
      // First touches of pages whose claim lies on this node; the lock.
      CHECK(whole.get(Stat::one_sided_ops) - sum(Stat::one_sided_ops) <= 12);
    }
    const bool sends = !dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(protocol))].traits.one_sided;
    CHECK(messages + one_sided != 0);
    if (!sends) CHECK(messages == 0);
  });
}

}  // namespace
}  // namespace netvm::test
