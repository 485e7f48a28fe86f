// The whole NIC at once, in virtual time, over many seeds: every verb between several nodes, over a network that loses, doubles, damages, delays,
// reorders and is cut for a while, with pages that leave at any moment and few system buffers. Against a shadow of all memory: no wrong byte,
// no lost or double notification, each atomic once, messages in order, every completion once, and an end.
//   netvm_simulation --source-file='*/nic_everything.cpp' --seeds=10000
#include <doctest/doctest.h>

#include <memory>
#include <utility>
#include <vector>

#include "runtime/sanitizers.hpp"
#include "tests/support/nic_everything_channel.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using namespace netvm::test::everything;

namespace {

struct Seen {
  std::uint64_t hash = 0, redirects = 0, lost = 0, direct = 0;
};

Seen run_everything(std::uint64_t seed) {
  Everything all(seed);
  std::vector<std::unique_ptr<Channel>> channels;
  for (std::uint32_t from = 0; from < all.nodes; ++from) {
    for (std::uint32_t to = 0; to < all.nodes; ++to) channels.push_back(std::make_unique<Channel>(all, from, to));
  }
  all.sending = all.checking = channels.size();
  std::vector<test::NicWorld::Part> parts;
  for (auto& channel : channels) {
    parts.push_back({channel->from(), [&channel] { channel->send(); }});
    parts.push_back({channel->to(), [&channel] { channel->receive(); }});
  }
  for (std::uint32_t node = 0; node < all.nodes; ++node) parts.push_back({node, [&all, node] { all.evict_at_random(node); }});
  all.world.run(std::move(parts));
  Seen seen{all.world.trace_hash(), 0, all.world.network().counts().lost, 0};
  parts.clear();
  for (std::uint32_t node = 0; node < all.nodes; ++node) parts.push_back({node, [&all, node] { all.check_atomics(node); }});
  all.world.run(std::move(parts));
  CHECK(all.world.nothing_dropped());
  for (std::uint32_t node = 0; node < all.nodes; ++node) {
    CHECK(all.paging.no_pins(node));
    seen.redirects += all.world.stats(node).get(Stat::redirects);
  }
  return seen;
}

}  // namespace

TEST_CASE("everything at once, over a bad network and with pages that leave: no wrong byte, nothing lost or doubled, and an end") {
  Seen sum;
  // Under ThreadSanitizer a seed costs forty times as much, and one thread runs it all; under AddressSanitizer four times.
  constexpr std::uint64_t kSeeds = NETVM_TSAN ? 20 : NETVM_ASAN ? 60 : 200;
  netvm::test::for_each_seed(kSeeds, [&](std::uint64_t seed) {
    const Seen seen = run_everything(seed);
    sum.redirects += seen.redirects;
    sum.lost += seen.lost;
    if (seed % 20 == 0) CHECK(run_everything(seed).hash == seen.hash);
  });
  if (netvm::test::seed_options().seed == 0) {
    CHECK(sum.redirects > 0);
    CHECK(sum.lost > 0);
  }
  MESSAGE(sum.redirects, " writes redirected, ", sum.lost, " packets lost");
}
