// What event counters set off, over a network that reorders and doubles, in virtual time, over many seeds: handlers and triggered operations
// lose nothing and double nothing.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::SimNicWorld;

namespace {

NicWorldOptions rough(std::uint64_t seed) {
  NicWorldOptions options;
  options.nodes = 3;
  options.seed = seed;
  options.network.min_delay = 100;
  options.network.max_delay = seed % 3 == 0 ? 100'000 : 5'000;
  options.network.duplicate_ppm = seed % 2 == 0 ? 50'000 : 0;
  options.first_sequence = seed % 4 == 1 ? 0xffff'ff9c : 0;
  options.connected = seed % 5 == 0;
  return options;
}

std::uint64_t word_at(SimNicWorld& world, std::uint32_t node, std::uint64_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, world.frame(node) + offset, 8);
  return value;
}

/// Three nodes that notify each other at random; each node's counter has a handler and triggered operations with thresholds all over its range,
/// half of them posted while the counting goes on. Each triggered operation adds one to a word of its own.
std::uint64_t storm(std::uint64_t seed) {
  constexpr std::uint32_t kNodes = 3;
  constexpr std::uint64_t kEach = 40, kOperations = 30, kTotal = kNodes * kEach;
  SimNicWorld world(rough(seed));
  std::vector<RemoteRegion> regions;
  std::vector<RemoteCounter> counters, fired;
  std::vector<std::vector<Completion>> completions;
  std::vector<std::uint64_t> told(kNodes, 0);
  std::vector<bool> busy(kNodes, false);
  for (std::uint32_t n = 0; n < kNodes; ++n) {
    regions.push_back(world.whole(n));
    counters.push_back(world.nic(n).counter_create().value());
    fired.push_back(world.nic(n).counter_create().value());
    completions.emplace_back(kOperations);
  }
  for (std::uint32_t n = 0; n < kNodes; ++n) {
    CHECK(ok(world.nic(n).set_handler(counters[n], 1 + n, [&, n](std::uint64_t value, std::uint64_t errors) {
      CHECK_FALSE(busy[n]);
      busy[n] = true;
      CHECK(value > told[n]);
      CHECK(errors == 0);
      for (std::uint64_t i = world.nic(n).env().random() % 4; i > 0; --i) world.nic(n).env().relax();
      told[n] = value;
      busy[n] = false;
      return value == kTotal ? kErrorsOnly : std::min<std::uint64_t>(value + 1 + seed % 3, kTotal);
    })));
  }
  std::vector<NicWorld::Part> parts;
  for (std::uint32_t n = 0; n < kNodes; ++n) {
    parts.push_back({n, [&, n] {
                       Nic& nic = world.nic(n);
                       std::mt19937_64 random(seed * 3 + n);
                       std::uint64_t posted = 0;
                       const auto post = [&] {
                         const std::uint32_t to = static_cast<std::uint32_t>(random() % kNodes);
                         const std::uint64_t offset = 8 * (n * kOperations + posted);
                         CHECK(nic.post_triggered(counters[n], 1 + random() % kTotal,
                                                  TriggeredOperation::atomic(regions[to], offset, {AtomicOp::fetch_add, 1}),
                                                  &completions[n][posted])
                                   .has_value());
                         ++posted;
                       };
                       while (posted < kOperations / 2) post();
                       for (std::uint64_t i = 0; i < kEach; ++i) {
                         for (std::uint32_t to = 0; to < kNodes; ++to) CHECK(ok(nic.notify(counters[to], 1)));
                         if (i % 2 == 0 && posted < kOperations) post();
                         if (random() % 3 == 0) nic.env().relax();
                       }
                       while (posted < kOperations) post();
                       for (Completion& completion : completions[n]) CHECK(ok(nic.wait(completion)));
                       CHECK(ok(nic.counter_wait(counters[n], kTotal)));
                       while (told[n] < kTotal) nic.env().relax();
                       CHECK(ok(nic.clear_handler(counters[n])));
                     }});
  }
  world.run(std::move(parts));
  for (std::uint32_t n = 0; n < kNodes; ++n) {
    CHECK(told[n] == kTotal);
    CHECK(world.nic(n).counter_value(counters[n]) == kTotal);
    for (std::uint64_t i = 0; i < kOperations; ++i) {
      std::uint64_t sum = 0;
      for (std::uint32_t at = 0; at < kNodes; ++at) sum += word_at(world, at, 8 * (n * kOperations + i));
      CHECK(sum == 1);
    }
  }
  return world.trace_hash();
}

}  // namespace

TEST_CASE("handlers and triggered operations lose nothing and double nothing over a network that reorders and doubles") {
  netvm::test::for_each_seed(150, [](std::uint64_t seed) { storm(seed); });
}

TEST_CASE("handlers and triggered operations are deterministic: one seed gives one history") {
  netvm::test::for_each_seed(8, [](std::uint64_t seed) {
    const std::uint64_t first = storm(seed);
    CHECK(storm(seed) == first);
    CHECK(storm(seed + 1000) != first);
  });
}

TEST_CASE("a chain of triggered operations carries its data in order while all fibers sleep") {
  netvm::test::for_each_seed(100, [](std::uint64_t seed) {
    SimNicWorld world(rough(seed));
    const RemoteRegion third = world.whole(2);
    const RemoteCounter at_second = world.nic(1).counter_create().value(), at_third = world.nic(2).counter_create().value();
    constexpr std::uint64_t kRounds = 20;
    std::vector<std::uint64_t> values(kRounds + 1);
    std::iota(values.begin(), values.end(), 0);
    for (std::uint64_t round = 1; round <= kRounds; ++round) {
      CHECK(world.nic(1)
                .post_triggered(at_second, round,
                                TriggeredOperation::write_notify(third, 8 * round, &values[round], 8, at_third, 1, NotifyMode::ordered),
                                nullptr)
                .has_value());
    }
    world.run({{0,
                [&] {
                  for (std::uint64_t round = 1; round <= kRounds; ++round) CHECK(ok(world.nic(0).notify(at_second, 1)));
                }},
               {2, [&] {
                  for (std::uint64_t round = 1; round <= kRounds; ++round) {
                    CHECK(ok(world.nic(2).counter_wait(at_third, round)));
                    for (std::uint64_t earlier = 1; earlier <= round; ++earlier) CHECK(word_at(world, 2, 8 * earlier) == earlier);
                  }
                }}});
    CHECK(world.nic(2).counter_value(at_third) == kRounds);
  });
}
