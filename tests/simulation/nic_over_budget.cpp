// A region of four times its node's memory budget: writes, reads and atomics of several peers at once, most of them on pages that are away.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "runtime/sanitizers.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/nic_paging.hpp"
#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorldOptions;
using netvm::test::Paging;
using netvm::test::SimNicWorld;
using netvm::test::sleep_until;

namespace {

constexpr std::uint64_t kBudget = 8;
constexpr std::uint64_t kRegionPages = 4 * kBudget;
constexpr std::uint32_t kOwner = 0, kPeers = 2;
constexpr std::uint64_t kHalf = (kRegionPages - 1) * kPageSize / kPeers;  // of each peer; words that all add to lie behind
constexpr std::uint64_t kSums = kPeers * kHalf;
constexpr int kSteps = 60;

NicWorldOptions options_for(std::uint64_t seed) {
  NicWorldOptions options;
  options.nodes = 1 + kPeers;
  options.pages = kRegionPages;
  options.budget_pages = kBudget;
  options.seed = seed;
  options.connected = seed % 3 == 0;
  options.network.in_order = seed % 2 == 0;
  if (seed % 3 == 1) options.network = test::lossy({});
  return options;
}

/// One peer's program against a shadow of its half.
void use(SimNicWorld& world, std::uint32_t peer, const RemoteRegion& region, std::uint64_t seed, std::uint64_t* added) {
  std::mt19937_64 random(seed * 10 + peer);
  Nic& nic = world.nic(peer);
  const std::uint64_t base = (peer - 1) * kHalf;
  std::vector<std::byte> shadow(kHalf), seen(kHalf);
  for (int step = 0; step < kSteps; ++step) {
    const std::uint64_t bytes = 1 + random() % (step % 4 == 0 ? 5 * kPageSize : 300);
    const std::uint64_t at = random() % (kHalf - bytes);
    switch (random() % 3) {
      case 0:
        for (std::uint64_t i = 0; i < bytes; ++i) shadow[at + i] = static_cast<std::byte>(random());
        CHECK(ok(nic.write(region, base + at, &shadow[at], bytes)));
        break;
      case 1:
        CHECK(ok(nic.read(region, base + at, seen.data(), bytes)));
        CHECK(std::equal(seen.data(), seen.data() + bytes, &shadow[at]));
        break;
      default: {
        const std::uint64_t by = random() % 1000;
        CHECK(nic.atomic(region, kSums + random() % 4 * 8, {AtomicOp::fetch_add, by}).has_value());
        *added += by;
      }
    }
  }
  CHECK(ok(nic.read(region, base, seen.data(), kHalf)));
  CHECK(seen == shadow);
}

}  // namespace

TEST_CASE("a region of four times the budget: writes, reads and atomics of several peers are right, and the node keeps to its budget") {
  std::uint64_t evictions = 0, major = 0;
  test::for_each_seed(NETVM_TSAN ? 6 : 30, [&](std::uint64_t seed) {
    Paging paging;
    SimNicWorld world(paging.with(options_for(seed)));
    paging.attach(world);
    paging.set_page_in([&](std::uint32_t node, PageId) {
      Env& env = world.nic(node).env();
      sleep_until(env, env.now() + static_cast<Nanos>(env.random() % 20'000));
    });
    const RemoteRegion region = world.whole(kOwner);
    std::uint64_t added = 0;
    std::vector<test::NicWorld::Part> parts;
    for (std::uint32_t peer = 1; peer <= kPeers; ++peer) parts.push_back({peer, [&, peer] { use(world, peer, region, seed, &added); }});
    world.run(std::move(parts));
    world.run({{1, [&] {
                  std::uint64_t sums[4] = {};
                  CHECK(ok(world.nic(1).read(region, kSums, sums, sizeof sums)));
                  CHECK(sums[0] + sums[1] + sums[2] + sums[3] == added);
                }}});
    CHECK(world.vm(kOwner).resident_pages() <= kBudget);
    if (options_for(seed).network.loss_ppm == 0) CHECK(world.nothing_dropped());
    evictions += world.stats(kOwner).get(Stat::evictions);
    major += world.stats(kOwner).get(Stat::nic_major_faults);
  });
  MESSAGE(evictions, " pages evicted, ", major, " major faults");
  if (test::seed_options().seed == 0) CHECK((evictions > 0 && major > 0));
}
