// What typical sharing patterns cost under each protocol: faults, messages and one-sided transfers of a round, those of synchronisation alone taken away.
#include <doctest/doctest.h>

#include <array>
#include <string>

#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint32_t kNodes = 4;
constexpr std::uint64_t kPages = 4;
constexpr std::uint64_t kWarmUp = 20;
constexpr std::uint64_t kRounds = 200;

struct Cost {
  double faults = 0;
  double remote_faults = 0;
  double messages = 0;
  double one_sided = 0;
  double kilobytes = 0;
};

using Round = void (*)(Worker& me, Place at, Place locks, std::uint64_t round, bool touch);

// Node 0 writes the pages, everybody reads them.
void produce(Worker& me, Place at, Place, std::uint64_t round, bool touch) {
  for (std::uint64_t p = 0; touch && me.node() == 0 && p < kPages; ++p) {
    for (std::uint64_t w = 0; w < 16; ++w) me.store(at + p * kPageSize + w * 64, round + p + w);
  }
  me.barrier();
  for (std::uint64_t p = 0; touch && p < kPages; ++p) {
    for (std::uint64_t w = 0; w < 16; ++w) CHECK(me.load<std::uint64_t>(at + p * kPageSize + w * 64) == round + p + w);
  }
  me.barrier();
}

// Everybody in turn, under a lock, reads and writes the pages.
void migrate(Worker& me, Place at, Place locks, std::uint64_t round, bool touch) {
  for (std::uint32_t turn = 0; turn < me.nodes(); ++turn) {
    if (me.node() == turn) {
      me.lock(locks);
      for (std::uint64_t p = 0; touch && p < kPages; ++p) {
        for (std::uint64_t w = 0; w < 16; ++w) {
          const Place word = at + p * kPageSize + w * 64;
          CHECK(me.load<std::uint64_t>(word) == (round - 1) * me.nodes() + turn);
          me.store(word, (round - 1) * me.nodes() + turn + 1);
        }
      }
      me.unlock(locks);
    }
    me.barrier();
  }
}

// Everybody writes words of its own on all pages, and reads its neighbour's.
void share_falsely(Worker& me, Place at, Place, std::uint64_t round, bool touch) {
  const auto word = [&](std::uint64_t page, std::uint32_t node) { return at + page * kPageSize + node * 64; };
  for (std::uint64_t p = 0; touch && p < kPages; ++p) me.store(word(p, me.node()), round);
  me.barrier();
  for (std::uint64_t p = 0; touch && p < kPages; ++p) CHECK(me.load<std::uint64_t>(word(p, (me.node() + 1) % me.nodes())) == round);
  me.barrier();
}

// Each page is written by one node and read by nobody else.
void keep_private(Worker& me, Place at, Place, std::uint64_t round, bool touch) {
  if (touch) me.store(at + me.node() * kPageSize, round);
  me.barrier();
}

struct Counts {
  std::array<std::uint64_t, 6> values{};
};

Counts count(SimCluster& cluster) {
  Counts counts;
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    const Stats& stats = cluster.node(node).stats;
    counts.values[0] += stats.get(Stat::read_faults) + stats.get(Stat::write_faults);
    counts.values[1] += stats.get(Stat::remote_faults);
    counts.values[2] += stats.get(Stat::messages_sent);
    counts.values[3] += stats.get(Stat::one_sided_ops);
    counts.values[4] += stats.get(Stat::message_bytes) + stats.get(Stat::one_sided_bytes);
  }
  return counts;
}

Counts run(std::string_view protocol, Round round, bool touch) {
  SimClusterOptions options;
  options.nodes = kNodes;
  options.pages = 512;
  options.mode = ShmMode::direct;
  options.protocol = protocol;
  SimCluster cluster(options);
  const Place at = cluster.allocate(kPages * kPageSize, {});
  const Place locks = cluster.allocate(kPageSize, {});
  Counts before;
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t i = 1; i <= kWarmUp; ++i) round(me, at, locks, i, touch);
    if (me.node() == 0) before = count(cluster);
    for (std::uint64_t i = kWarmUp + 1; i <= kWarmUp + kRounds; ++i) round(me, at, locks, i, touch);
  });
  CHECK_MESSAGE(ending.well, ending.text);
  Counts after = count(cluster);
  for (std::size_t i = 0; i < after.values.size(); ++i) after.values[i] -= before.values[i];
  return after;
}

Cost measure(std::string_view protocol, const char* name, Round round) {
  const Counts with = run(protocol, round, true);
  const Counts bare = run(protocol, round, false);
  const auto per_round = [&](std::size_t i) {
    return (static_cast<double>(with.values[i]) - static_cast<double>(bare.values[i])) / kRounds;
  };
  const Cost cost{per_round(0), per_round(1), per_round(2), per_round(3), per_round(4) / 1024};
  MESSAGE(std::string(protocol), ", ", std::string(name), ": ", cost.faults, " faults (", cost.remote_faults, " remote), ", cost.messages,
          " messages, ", cost.one_sided, " one-sided operations, ", cost.kilobytes, " KiB a round");
  return cost;
}

// Where somebody has written, a barrier is a message to each of the two nodes without children; else it is none (sync/collective.hpp).
constexpr double kTold = 2.0;

TEST_CASE("typical patterns cost what their protocols promise") {
  for_each_protocol([](std::string_view protocol) {
    const Cost producer = measure(protocol, "producer and 3 consumers of 4 pages", produce);
    const Cost migratory = measure(protocol, "4 pages migrate over 4 nodes", migrate);
    const Cost sharing = measure(protocol, "4 nodes share 4 pages falsely", share_falsely);
    const Cost own = measure(protocol, "4 private pages", keep_private);
    if (protocol == "update") {
      // Stable consumers pay nothing but a glance now and then; the producer one transfer for each of them.
      CHECK(producer.remote_faults == 0);
      CHECK(producer.faults < kPages + 1);
      CHECK(producer.messages < 1);
      CHECK(producer.one_sided < kNodes);
    }
    if (protocol == "erc" || protocol == "update") {
      CHECK(own.faults == 0);
      CHECK(own.messages <= 0);
      CHECK(sharing.remote_faults == 0);
    }
    if (protocol == "lrc") {
      // A question and an answer for each page and writer, and nothing at a release.
      CHECK(producer.messages <= 2.0 * kPages * (kNodes - 1) + 1 + kTold);
      CHECK(migratory.remote_faults <= kPages * kNodes + 1);
      CHECK(own.messages <= kTold);
      CHECK(own.remote_faults == 0);
    }
  });
}

}  // namespace
}  // namespace netvm::test
