// Regions that are revoked at any moment under everything that names them, while their pages leave and come back: a request is done or refused as revoked,
// and from the moment in which region_revoke() returns no byte of the pages changes through it, also none that waited in a system buffer.
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "runtime/sanitizers.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/nic_paging.hpp"
#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::memory_of;
using netvm::test::NicWorldOptions;
using netvm::test::Paging;
using netvm::test::SimNicWorld;
using netvm::test::sleep_until;

namespace {

constexpr std::uint32_t kOwner = 2;
constexpr PageRange kPages{PageId{3}, 5};
constexpr std::uint64_t kBytes = kPages.count * kPageSize;
constexpr int kRounds = 12;

NicWorldOptions options_for(std::uint64_t seed) {
  NicWorldOptions options;
  options.nodes = 3;
  options.seed = seed;
  options.connected = seed % 3 == 1;
  options.network.in_order = seed % 2 == 0;
  if (seed % 3 == 2) options.network = test::lossy({});
  options.system_buffers = seed % 4 == 3 ? 9 : 4096;
  return options;
}

struct World {
  explicit World(std::uint64_t seed) : random(seed), world(paging.with(options_for(seed))) {
    paging.attach(world);
    paging.set_page_in([this](std::uint32_t node, PageId) { pause(node, 20'000); });
    counter = world.nic(kOwner).counter_create().value();
  }
  void pause(std::uint32_t node, std::uint64_t most) {
    Env& env = world.nic(node).env();
    sleep_until(env, env.now() + static_cast<Nanos>(random() % most));
  }

  /// Opens the pages, closes them after a while, and looks whether they stay as they are.
  void own() {
    for (int round = 0; round < kRounds; ++round) {
      region = world.nic(kOwner).region_create(kPages, Rights::all).value();
      pause(kOwner, 100'000);
      if (random() % 2 == 0) paging.evict(kOwner, PageId{kPages.first.value + random() % kPages.count});
      pause(kOwner, 30'000);
      CHECK(ok(world.nic(kOwner).region_revoke(region)));
      const std::vector<std::byte> then = memory_of(world, kOwner, kPages.first.value * kPageSize, kBytes);
      pause(kOwner, 60'000);
      CHECK(memory_of(world, kOwner, kPages.first.value * kPageSize, kBytes) == then);
    }
    over = true;
  }

  void use(std::uint32_t node) {
    Nic& nic = world.nic(node);
    std::vector<std::byte> bytes(2 * kPageSize);
    while (!over) {
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
      const std::uint64_t length = 1 + random() % bytes.size();
      const std::uint64_t at = random() % (kBytes - length);
      const std::array<Segment, 2> pieces{Segment{at, bytes.data(), static_cast<std::uint32_t>(length)}, {0, bytes.data(), 9}};
      std::array<Completion, 3> ends;  // several at once
      for (Completion& end : ends) {
        switch (random() % 5) {
          case 0:
            nic.post_write_vector(region, pieces, &end);
            break;
          case 1:
            nic.post_atomic(region, at / 8 * 8, {AtomicOp::swap, random()}, &end);
            break;
          case 2:
            nic.post_write_notify(region, at, bytes.data(), length, counter, 1, NotifyMode::own, &end);
            break;
          default:
            nic.post_write(region, at, bytes.data(), length, &end);
        }
      }
      for (Completion& end : ends) {
        const Status status = nic.wait(end);
        REQUIRE((ok(status) || status == Status::revoked));
        ++(ok(status) ? done : refused);
      }
      pause(node, 5'000);
    }
  }

  std::mt19937_64 random;
  Paging paging;
  SimNicWorld world;
  RemoteRegion region;
  RemoteCounter counter;
  bool over = false;
  std::uint64_t done = 0, refused = 0;
};

}  // namespace

TEST_CASE("pitfall 12: a region that is revoked at any moment, among requests and page-ins: no byte changes through it afterwards") {
  std::uint64_t done = 0, refused = 0, redirects = 0;
  constexpr std::uint64_t kSeeds = NETVM_TSAN ? 4 : NETVM_ASAN ? 15 : 40;  // what a seed costs there
  test::for_each_seed(kSeeds, [&](std::uint64_t seed) {
    World all(seed);
    all.region = all.world.nic(kOwner).region_create(kPages, Rights::all).value();
    all.world.run({{kOwner, [&] { all.own(); }}, {0, [&] { all.use(0); }}, {1, [&] { all.use(1); }}});
    CHECK(all.paging.no_pins(kOwner));
    done += all.done;
    refused += all.refused;
    redirects += all.world.stats(kOwner).get(Stat::redirects);
  });
  MESSAGE(done, " requests done, ", refused, " refused, ", redirects, " writes redirected");
  if (test::seed_options().seed == 0) CHECK((done > 0 && refused > 0 && redirects > 0));
}
