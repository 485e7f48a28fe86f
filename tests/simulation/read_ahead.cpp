// Read-ahead in the simulator: readers in sequence, while others write what is being fetched ahead. What is read must be what was written last, and
// most of the misses must go.
#include <doctest/doctest.h>

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions choose_cluster(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x4ead));
  SimClusterOptions options;
  options.seed = seed;
  options.protocol = protocol;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = 2048;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  options.read_ahead_from = static_cast<std::uint32_t>(1 + random.below(2));
  if (random.below(3) == 0) {
    options.budget_pages = 64;
    options.evict_every = random.below(2) == 0 ? 0 : 30'000;
  }
  return options;
}

struct Area {
  Place at = 0;
  std::uint64_t pages = 0;
};

// Every thread reads all pages in its own direction, from its own start; between barriers each writes some that are its own.
void read_all_and_write_some(std::string_view protocol, std::uint64_t seed) {
  const SimClusterOptions options = choose_cluster(protocol, seed);
  SimCluster cluster(options);
  SplitMix64 random(mix64(seed));
  dsm::AllocOptions where;
  where.placement = static_cast<dsm::Placement>(random.below(4));
  where.granularity = kPageSize << random.below(3);
  const Area area{cluster.allocate(80 * kPageSize, where), 80};
  const auto ledger = cluster.make_ledger(area.pages * 8);
  const std::uint64_t neighbours = 1 + 7 * random.below(3);  // written by the same thread
  std::uint64_t wrong = 0;
  const Ending ending = cluster.run([&](Worker& me) {
    SplitMix64 mine(mix64(seed) + me.rank());
    for (std::uint64_t round = 1; round <= 4; ++round) {
      for (std::uint64_t p = 0; p < area.pages; ++p) {
        if (p / neighbours % me.count() != (me.rank() + round) % me.count() || mine.below(neighbours == 1 ? 3 : 20) == 0) continue;
        const std::uint64_t value = mine.next();
        me.store(area.at + p * kPageSize + 8 * (p % 5), value);
        ledger->write(p * 8, &value, 8);
      }
      me.barrier();
      const std::uint64_t start = mine.below(area.pages);
      const bool up = mine.below(2) == 0;
      for (std::uint64_t i = 0; i < area.pages; ++i) {
        const std::uint64_t p = (up ? start + i : start + area.pages - i) % area.pages;
        std::uint64_t expected = 0;
        ledger->read(p * 8, &expected, 8);
        wrong += me.load<std::uint64_t>(area.at + p * kPageSize + 8 * (p % 5)) != expected ? 1 : 0;
      }
      me.barrier();
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
  CHECK(wrong == 0);
}

TEST_CASE("who reads in sequence what others write reads what was written last") {
  for_each_protocol(
      [](std::string_view protocol) { for_each_seed(20, [&](std::uint64_t seed) { read_all_and_write_some(protocol, seed); }); });
}

// Two nodes read each other's half under locks while it is written: nobody may wait for ever.
TEST_CASE("readers in sequence and writers of the same pages get on with each other") {
  for_each_protocol([](std::string_view protocol) {
    for_each_seed(15, [&](std::uint64_t seed) {
      SimClusterOptions options = choose_cluster(protocol, seed);
      options.budget_pages = 0;
      SimCluster cluster(options);
      const Place at = cluster.allocate(32 * kPageSize, {});
      const Place mutex = cluster.allocate(64, {});
      std::uint64_t wrong = 0;
      const Ending ending = cluster.run([&](Worker& me) {
        if (me.local() == 0) me.bind(mutex, at, 32 * kPageSize);
        me.barrier();
        for (int round = 0; round < 5; ++round) {
          me.lock(mutex);
          const auto first = me.load<std::uint64_t>(at);
          for (std::uint64_t p = 1; p < 32; ++p) wrong += me.load<std::uint64_t>(at + p * kPageSize) != first ? 1 : 0;
          for (std::uint64_t p = 0; p < 32; ++p) me.store(at + p * kPageSize, first + 1);
          me.unlock(mutex);
        }
      });
      CHECK_MESSAGE(ending.well, ending.text);
      CHECK(wrong == 0);
    });
  });
}

struct Scan {
  std::uint64_t faults = 0;
  std::uint64_t hits = 0;
  std::uint64_t wasted = 0;
};

// Node 1 reads 512 pages that node 0 wrote.
Scan scan(std::string_view protocol, bool read_ahead, const std::function<std::uint64_t(std::uint64_t)>& order) {
  SimClusterOptions options;
  options.protocol = protocol;
  options.pages = 2048;
  options.read_ahead = read_ahead;
  SimCluster cluster(options);
  const Place at = cluster.allocate(512 * kPageSize, {});
  const Ending ending = cluster.run([&](Worker& me) {
    if (me.node() == 0) {
      for (std::uint64_t p = 0; p < 512; ++p) me.store(at + p * kPageSize, p);
    }
    me.barrier();
    if (me.node() == 1) {
      for (std::uint64_t i = 0; i < 512; ++i) CHECK(me.load<std::uint64_t>(at + order(i) * kPageSize) == order(i));
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
  const Stats& stats = cluster.node(1).stats;
  return {stats.get(Stat::read_faults), stats.get(Stat::read_ahead_hits), stats.get(Stat::read_ahead_wasted)};
}

TEST_CASE("a reader in sequence has few faults, up and down; a reader at random wastes little; without read-ahead every page is one") {
  const auto up = [](std::uint64_t i) { return i; };
  const auto down = [](std::uint64_t i) { return 511 - i; };
  std::vector<std::uint64_t> shuffled(512);
  std::iota(shuffled.begin(), shuffled.end(), 0);
  SplitMix64 chance(9);
  for (std::size_t i = 511; i > 0; --i) std::swap(shuffled[i], shuffled[chance.below(i + 1)]);
  const auto scattered = [&](std::uint64_t i) { return shuffled[i]; };
  for_each_protocol([&](std::string_view protocol) {
    for (const auto& order : {std::function<std::uint64_t(std::uint64_t)>(up), std::function<std::uint64_t(std::uint64_t)>(down)}) {
      const Scan ahead = scan(protocol, true, order);
      CHECK(ahead.faults < 24);
      CHECK(ahead.hits > 400);
      CHECK(scan(protocol, false, order).faults == 512);
    }
    const Scan random = scan(protocol, true, scattered);
    CHECK(random.faults > 400);
    CHECK(random.wasted < 64);
  });
}

}  // namespace
}  // namespace netvm::test
