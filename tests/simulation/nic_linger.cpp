// The end of a node over a network that loses packets: what it has sent arrives all the same, and nobody waits for ever for a peer that is
// gone. Also what the NIC counts of such a network.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorldOptions;
using netvm::test::SimNicWorld;
using netvm::test::WorldKind;

namespace {

constexpr Nanos kMillisecond = 1'000'000;
constexpr std::uint64_t kValue = 0x1234'5678;

struct Inbox final : MessageHandler {
  std::size_t bytes = 0;
  void on_message(NodeId, std::span<const std::byte> body) noexcept override { bytes += body.size(); }
};

std::uint64_t word_of(SimNicWorld& world, std::uint64_t offset) {
  std::uint64_t word = 0;
  std::memcpy(&word, world.frame(1) + offset, sizeof word);
  return word;
}

}  // namespace

TEST_CASE("a node that closes right after a post, and whose last packets are lost, has sent them all the same") {
  netvm::test::for_each_seed(60, [](std::uint64_t seed) {
    NicWorldOptions options;
    options.seed = seed;
    options.system_buffers = seed % 3 == 0 ? 4 : 4096;  // some of it waits for credits
    options.network = test::lossy({});
    if (seed % 2 == 0) options.network.loss_ppm = 300'000;
    if (seed % 4 == 1) options.network.partitions.push_back({NodeId{0}, NodeId{1}, 0, 5 * kMillisecond});
    SimNicWorld world(options, WorldKind::lossy);
    const RemoteRegion region = world.whole(1);
    Inbox inbox;
    world.nic(1).set_message_handler(MessageKind::test, &inbox);
    world.run([&] {
      Nic& nic = world.nic(0);
      const std::vector<std::byte> body(40'000, std::byte{1});
      for (std::uint64_t i = 0; i < 5; ++i) {
        nic.send(NodeId{1}, MessageKind::test, body);
        const std::uint64_t value = kValue + i;
        nic.post_write(region, i * kPageSize, &value, sizeof value, nullptr);
      }
      CHECK(ok(nic.close()));
    });
    CHECK(inbox.bytes == 5 * 40'000);
    for (std::uint64_t i = 0; i < 5; ++i) CHECK(word_of(world, i * kPageSize) == kValue + i);
  });
}

TEST_CASE("a node that closes while its peer cannot be reached goes after the peer timeout") {
  netvm::test::for_each_seed(10, [](std::uint64_t seed) {
    NicWorldOptions options;
    options.seed = seed;
    options.reliability.peer_timeout = 50 * kMillisecond;
    options.network = test::lossy({});
    options.network.partitions.push_back({NodeId{0}, NodeId{1}, 0, 1'000'000 * kMillisecond});
    SimNicWorld world(options, WorldKind::lossy);
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      const Nanos began = nic.env().now();
      nic.post_write(region, 0, &kValue, sizeof kValue, nullptr);
      CHECK(ok(nic.close()));
      const Nanos took = nic.env().now() - began;
      CHECK(took >= 40 * kMillisecond);
      CHECK(took <= 200 * kMillisecond);
    });
    CHECK(word_of(world, 0) == 0);
  });
}

TEST_CASE("a node with nothing on its way closes at once") {
  NicWorldOptions options;
  options.network = test::lossy({});
  SimNicWorld world(options, WorldKind::lossy);
  world.run([&] {
    Nic& nic = world.nic(0);
    const Nanos began = nic.env().now();
    CHECK(ok(nic.close()));
    CHECK(nic.env().now() - began < kMillisecond);
  });
}

TEST_CASE("retransmissions, duplicates and the wait for credits are counted") {
  netvm::test::for_each_seed(5, [](std::uint64_t seed) {
    const auto counted = [seed](bool rough, std::uint32_t buffers, Stat stat, std::uint32_t node) {
      NicWorldOptions options;
      options.seed = seed;
      options.system_buffers = buffers;
      options.network.lossy = true;
      options.network.in_order = !rough;
      if (rough) options.network = test::lossy(options.network);
      SimNicWorld world(options, rough ? WorldKind::lossy : WorldKind::simulated);
      const RemoteRegion region = world.whole(1);
      world.run([&] {
        std::vector<Completion> all(100);
        const std::vector<std::byte> data(kPageSize);
        for (std::size_t i = 0; i < all.size(); ++i) {
          world.nic(0).post_write(region, i % 60 * kPageSize, data.data(), data.size(), &all[i]);
        }
        for (Completion& completion : all) CHECK(ok(world.nic(0).wait(completion)));
      });
      return world.stats(node).get(stat);
    };
    CHECK(counted(true, 4096, Stat::retransmissions, 0) > 0);
    CHECK(counted(true, 4096, Stat::duplicate_packets, 1) > 0);
    CHECK(counted(false, 4096, Stat::retransmissions, 0) == 0);
    CHECK(counted(false, 4096, Stat::duplicate_packets, 1) == 0);
    CHECK(counted(false, 4, Stat::credit_stalls, 0) > 0);
    CHECK(counted(false, 4, Stat::credit_stall_ns, 0) > 0);
    CHECK(counted(false, 4096, Stat::credit_stalls, 0) <= 1);  // at first a peer has 64
  });
}
