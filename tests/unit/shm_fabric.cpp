// ShmFabric: packets between nodes of one process, threads that sleep until one comes, and two processes over memfds.
#include "nic/shm_fabric.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "nic/device.hpp"
#include "runtime/random.hpp"
#include "runtime/real_env.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm::nic {
namespace {

constexpr std::uint64_t kRingBytes = shm_ring::area_bytes(std::size_t{32} << 10);

DeviceConfig device_config(std::uint32_t node, std::uint32_t nodes) {
  DeviceConfig config;
  config.node = NodeId{node};
  config.nodes = nodes;
  config.pages = 4;
  config.ring_bytes = kRingBytes;
  return config;
}

// Hands each packet to a function.
class Sink final : public PacketSink {
 public:
  void on_packet(NodeId from, std::span<const std::byte> packet) noexcept override {
    if (act) act(from, packet);
  }
  std::function<void(NodeId, std::span<const std::byte>)> act;
};

// N nodes in one process.
struct Host {
  explicit Host(std::uint32_t nodes) : sinks(nodes) {
    std::vector<Device*> all;
    for (std::uint32_t i = 0; i < nodes; ++i) {
      auto device = Device::create(device_config(i, nodes), -1, nullptr);
      devices.push_back(std::move(device).value());
      all.push_back(devices.back().get());
    }
    for (std::uint32_t i = 0; i < nodes; ++i) {
      fabrics.push_back(std::make_unique<ShmFabric>(NodeId{i}, nodes, env, all));
      fabrics.back()->attach(&sinks[i]);
    }
  }
  RealEnv env;
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<Sink> sinks;
  std::vector<std::unique_ptr<ShmFabric>> fabrics;
};

std::uint64_t number_in(std::span<const std::byte> packet) {
  std::uint64_t number = 0;
  std::memcpy(&number, packet.data(), sizeof number);
  return number;
}

std::span<const std::byte> bytes_of(const std::uint64_t& number) { return std::as_bytes(std::span(&number, 1)); }

// Sleeps, by the rules of Fabric, until poll() would find something.
void sleep_for_packet(ShmFabric& fabric, Env& env, Fabric::Sleeper who) {
  const ParkOn on = fabric.announce_sleep(who);
  if (!fabric.pending()) env.park(std::span(&on, 1), env.now() + 5'000'000'000);
  fabric.withdraw_sleep(who);
}

TEST_CASE("shm fabric: header and payload arrive as one packet, also from a node to itself") {
  Host host(2);
  std::vector<std::string> got;
  for (std::uint32_t i = 0; i < 2; ++i) {
    host.sinks[i].act = [&got, i](NodeId from, std::span<const std::byte> packet) {
      got.push_back(std::to_string(from.value) + ">" + std::to_string(i) + " " +
                    std::string(reinterpret_cast<const char*>(packet.data()), packet.size()));
    };
  }
  const auto bytes = [](const char* text) { return std::as_bytes(std::span(text, std::strlen(text))); };
  host.fabrics[0]->send(NodeId{1}, bytes("head "), bytes("tail"));
  host.fabrics[1]->send(NodeId{1}, bytes("self"), {});
  CHECK(host.fabrics[1]->pending());
  CHECK_FALSE(host.fabrics[0]->pending());
  CHECK(host.fabrics[1]->poll());
  CHECK_FALSE(host.fabrics[1]->poll());
  CHECK_FALSE(host.fabrics[1]->pending());
  REQUIRE(got.size() == 2);
  CHECK(got[0] == "0>1 head tail");
  CHECK(got[1] == "1>1 self");
  CHECK(host.fabrics[0]->device_of(NodeId{1}) == host.devices[1].get());
}

TEST_CASE("shm fabric: what does not fit the ring waits on the sender's side and arrives in order") {
  Host host(2);
  constexpr std::uint64_t kPackets = 10'000;  // 80 times the ring
  std::uint64_t next = 0;
  bool in_order = true;
  host.sinks[1].act = [&](NodeId, std::span<const std::byte> packet) { in_order &= number_in(packet) == next++; };
  const std::vector<std::byte> payload(248);
  for (std::uint64_t number = 0; number < kPackets; ++number) host.fabrics[0]->send(NodeId{1}, bytes_of(number), payload);
  CHECK(host.fabrics[0]->queued_packets() > kPackets / 2);
  for (int turn = 0; turn < 100'000 && next < kPackets; ++turn) {
    host.fabrics[1]->poll();
    // The receiver made room, and said so: the sender's poll pushes the next.
    if (host.fabrics[0]->queued_packets() != 0) CHECK(host.fabrics[0]->pending());
    host.fabrics[0]->poll();
  }
  CHECK(next == kPackets);
  CHECK(in_order);
  CHECK(host.fabrics[0]->queued_packets() == 0);
}

TEST_CASE("shm fabric: who sends on while its packets are queued makes the queue shorter, as long as there is room") {
  Host host(2);
  std::uint64_t next = 0;
  bool in_order = true;
  host.sinks[1].act = [&](NodeId, std::span<const std::byte> packet) { in_order &= number_in(packet) == next++; };
  const std::vector<std::byte> payload(248);
  std::uint64_t sent = 0;
  const auto send = [&] {
    const std::uint64_t number = sent++;
    host.fabrics[0]->send(NodeId{1}, bytes_of(number), payload);
  };
  while (host.fabrics[0]->queued_packets() < 100) send();
  while (host.fabrics[0]->queued_packets() > 0) {
    const std::size_t before = host.fabrics[0]->queued_packets();
    while (host.fabrics[1]->poll()) {  // the ring is empty; the sender does not poll
    }
    send();
    REQUIRE(host.fabrics[0]->queued_packets() < before);
  }
  while (host.fabrics[1]->poll()) {
  }
  CHECK(next == sent);
  CHECK(in_order);
}

// Room that a sender finds by itself while its packets are queued is room that nobody rings for: then it sends them all, or has asked for more.
TEST_CASE("shm fabric: a sender that finds room leaves nothing in the queue that fits the ring") {
  Host host(2);
  const std::vector<std::byte> payload(248);
  while (host.fabrics[0]->queued_packets() < 40) host.fabrics[0]->send(NodeId{1}, {}, payload);
  reinterpret_cast<ShmRingHeader*>(host.devices[1]->inbound(NodeId{0}).data())
      ->producer_waits.store(0);  // room is made before it is asked for
  while (host.fabrics[1]->poll()) {
  }
  host.fabrics[0]->send(NodeId{1}, {}, payload);
  CHECK(host.fabrics[0]->queued_packets() == 0);
}

TEST_CASE("shm fabric: sources that send stay in the bell, a few of them; whoever is silent for long gives way") {
  constexpr std::uint32_t kNodes = 8;
  Host host(kNodes);
  std::vector<std::uint64_t> got(kNodes);
  host.sinks[0].act = [&](NodeId from, std::span<const std::byte>) { ++got[from.value]; };
  ShmFabric& target = *host.fabrics[0];
  const auto& bits = host.devices[0]->header().doorbell.sources[0];
  const std::uint64_t number = 1;
  const auto send = [&](std::uint32_t from) { host.fabrics[from]->send(NodeId{0}, bytes_of(number), {}); };
  const auto round = [&] {
    const std::uint64_t before = got[1];
    for (std::uint32_t from = 1; from < kNodes; ++from) send(from);
    CHECK(target.pending());
    while (target.poll()) {
    }
    CHECK_FALSE(target.pending());
    CHECK(std::all_of(got.begin() + 1, got.end(), [&](std::uint64_t n) { return n == before + 1; }));
  };
  for (int i = 0; i < 3; ++i) round();
  CHECK(std::popcount(bits.load()) == 4);  // nobody clears them, nobody sets them
  const std::uint64_t watched = bits.load();
  std::uint32_t other = 1;
  while ((watched >> other & 1) != 0) ++other;
  send(other);
  CHECK(target.poll());
  CHECK(bits.load() == watched);  // no place for it
  for (int i = 0; i < 2000; ++i) CHECK_FALSE(target.poll());
  send(other);
  CHECK(target.pending());
  CHECK(target.poll());
  CHECK((bits.load() >> other & 1) != 0);
  CHECK(std::popcount(bits.load()) == 4);
  while (target.poll()) {
  }
  got.assign(kNodes, 0);
  for (int i = 0; i < 3; ++i) round();  // whoever gave way is heard as before
}

TEST_CASE("shm fabric: what is sent soon shows with what follows, in order; where there is no room it shows before") {
  Host host(2);
  std::vector<std::uint64_t> got;
  host.sinks[1].act = [&](NodeId, std::span<const std::byte> packet) { got.push_back(number_in(packet)); };
  std::uint64_t sent = 0;
  const auto send = [&](bool soon) {
    const std::uint64_t number = sent++;
    if (soon) {
      host.fabrics[0]->send_soon(NodeId{1}, bytes_of(number), {});
    } else {
      host.fabrics[0]->send(NodeId{1}, bytes_of(number), {});
    }
  };
  send(true);
  send(true);
  CHECK_FALSE(host.fabrics[1]->pending());
  CHECK_FALSE(host.fabrics[1]->poll());
  send(false);
  CHECK(host.fabrics[1]->pending());
  while (got.size() < sent && host.fabrics[1]->poll()) {
  }
  CHECK(got == std::vector<std::uint64_t>{0, 1, 2});
  while (host.fabrics[0]->queued_packets() == 0) send(true);
  CHECK(host.fabrics[1]->pending());
  for (int turn = 0; turn < 10'000 && got.size() < sent; ++turn) {
    host.fabrics[1]->poll();
    host.fabrics[0]->poll();
  }
  REQUIRE(got.size() == sent);
  for (std::uint64_t i = 0; i < sent; ++i) CHECK(got[i] == i);
}

TEST_CASE("shm fabric: one poll's work is bounded, it says that more is pending, and no source waits for another's flood") {
  Host host(3);
  std::vector<std::uint32_t> from;
  host.sinks[2].act = [&](NodeId source, std::span<const std::byte>) { from.push_back(source.value); };
  const std::uint64_t number = 1;
  for (int i = 0; i < 1'000; ++i) host.fabrics[0]->send(NodeId{2}, bytes_of(number), {});
  host.fabrics[1]->send(NodeId{2}, bytes_of(number), {});
  CHECK(host.fabrics[2]->poll());
  CHECK(from.size() < 1'000);
  CHECK(std::count(from.begin(), from.end(), 1U) == 1);
  CHECK(host.fabrics[2]->pending());
  while (host.fabrics[2]->poll()) {
  }
  CHECK(from.size() == 1'001);
}

TEST_CASE("shm fabric: 200 nodes, every bit finds its ring") {
  constexpr std::uint32_t kNodes = 200;
  Host host(kNodes);
  std::vector<std::uint32_t> from;
  host.sinks[63].act = [&](NodeId source, std::span<const std::byte>) { from.push_back(source.value); };
  const std::uint64_t number = 1;
  for (int round = 0; round < 3; ++round) {
    from.clear();
    for (std::uint32_t i = 0; i < kNodes; ++i) host.fabrics[i]->send(NodeId{63}, bytes_of(number), {});
    while (host.fabrics[63]->poll()) {
    }
    std::sort(from.begin(), from.end());
    REQUIRE(from.size() == kNodes);
    for (std::uint32_t i = 0; i < kNodes; ++i) CHECK(from[i] == i);
  }
}

TEST_CASE("shm fabric: a corrupt ring closes one channel; what is queued for it is dropped and counted; the others go on") {
  Host host(3);
  std::uint64_t arrived = 0;
  host.sinks[2].act = [&](NodeId, std::span<const std::byte>) { ++arrived; };
  const std::uint64_t number = 1;
  const std::vector<std::byte> payload(1'000);
  for (int i = 0; i < 100; ++i) host.fabrics[0]->send(NodeId{2}, bytes_of(number), payload);
  CHECK(host.fabrics[0]->queued_packets() != 0);
  std::byte* data = host.devices[2]->inbound(NodeId{0}).data() + sizeof(ShmRingHeader);
  std::memset(data, 0xee, 64);
  host.fabrics[1]->send(NodeId{2}, bytes_of(number), {});
  while (host.fabrics[2]->poll()) {
  }
  CHECK(arrived == 1);
  CHECK(host.fabrics[2]->broken_channels() == 1);
  host.fabrics[0]->poll();
  CHECK(host.fabrics[0]->queued_packets() == 0);
  CHECK(host.fabrics[0]->dropped_packets() != 0);
  host.fabrics[1]->send(NodeId{2}, bytes_of(number), {});
  host.fabrics[0]->send(NodeId{2}, bytes_of(number), {});
  while (host.fabrics[2]->poll()) {
  }
  CHECK(arrived == 2);
}

TEST_CASE("shm fabric: of several sleepers one is woken, an application thread before the engine") {
  Host host(2);
  const std::uint64_t number = 1;
  const ParkOn engine = host.fabrics[1]->announce_sleep(Fabric::Sleeper::engine);
  const ParkOn application = host.fabrics[1]->announce_sleep(Fabric::Sleeper::application);
  host.fabrics[0]->send(NodeId{1}, bytes_of(number), {});
  CHECK(application.word->load() != application.expected);
  CHECK(engine.word->load() == engine.expected);
  host.fabrics[1]->withdraw_sleep(Fabric::Sleeper::application);
  host.fabrics[0]->send(NodeId{1}, bytes_of(number), {});
  CHECK(engine.word->load() != engine.expected);
  host.fabrics[1]->withdraw_sleep(Fabric::Sleeper::engine);
}

TEST_CASE("shm fabric: while somebody polls nobody is woken; the last one finds what came and passes it on") {
  Host host(2);
  const std::uint64_t number = 1;
  ShmFabric& fabric = *host.fabrics[1];
  const ParkOn engine = fabric.announce_sleep(Fabric::Sleeper::engine);
  fabric.announce_poll();
  fabric.announce_poll();
  host.fabrics[0]->send(NodeId{1}, bytes_of(number), {});
  fabric.pass_on();  // not by a thread that leaves while another still polls either
  fabric.withdraw_poll();
  fabric.pass_on();
  CHECK(engine.word->load() == engine.expected);
  fabric.withdraw_poll();
  CHECK(fabric.pending());
  fabric.pass_on();
  CHECK(engine.word->load() != engine.expected);
  fabric.withdraw_sleep(Fabric::Sleeper::engine);
}

TEST_CASE("shm fabric: threads of many nodes, everybody sends to everybody, nothing is lost or out of order") {
  constexpr std::uint32_t kNodes = 4;
  constexpr std::uint64_t kPackets = 3'000;
  Host host(kNodes);
  std::vector<std::vector<std::uint64_t>> next(kNodes, std::vector<std::uint64_t>(kNodes, 0));
  std::vector<std::uint64_t> wrong(kNodes, 0);
  std::vector<std::uint64_t> received(kNodes, 0);
  for (std::uint32_t i = 0; i < kNodes; ++i) {
    host.sinks[i].act = [&, i](NodeId from, std::span<const std::byte> packet) {
      wrong[i] += number_in(packet) == next[i][from.value]++ ? 0 : 1;
      ++received[i];
    };
  }
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < kNodes; ++i) {
    threads.emplace_back([&, i] {
      ShmFabric& fabric = *host.fabrics[i];
      SplitMix64 random(i + 1);
      const std::vector<std::byte> payload(2'000);
      for (std::uint64_t number = 0; number < kPackets; ++number) {
        for (std::uint32_t to = 0; to < kNodes; ++to)
          fabric.send(NodeId{to}, bytes_of(number), std::span(payload).first(random.below(2'000)));
        if (random.below(4) == 0) fabric.poll();
      }
      while (received[i] < kNodes * kPackets || fabric.queued_packets() != 0) {
        if (!fabric.poll()) sleep_for_packet(fabric, host.env, Fabric::Sleeper::application);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (std::uint32_t i = 0; i < kNodes; ++i) {
    CHECK(received[i] == kNodes * kPackets);
    CHECK(wrong[i] == 0);
    CHECK(host.fabrics[i]->dropped_packets() == 0);
  }
}

// Bounces a number between two nodes, sleeping at once whenever nothing has come. False if something is amiss.
bool ping_pong(ShmFabric& fabric, Sink& sink, Env& env, NodeId peer, bool begins, std::uint64_t rounds, Fabric::Sleeper who) {
  std::uint64_t got = 0;
  bool right = true;
  sink.act = [&](NodeId, std::span<const std::byte> packet) { right &= number_in(packet) == got++; };
  const Nanos deadline = env.now() + Nanos{100} * 1'000'000'000;
  if (begins) fabric.send(peer, bytes_of(0), {});
  for (std::uint64_t round = 0; round < rounds; ++round) {
    while (got <= round && env.now() < deadline) {
      if (!fabric.poll()) sleep_for_packet(fabric, env, who);
    }
    if (got != round + 1 || !right) return false;
    const std::uint64_t answer = begins ? round + 1 : round;
    if (!begins || answer < rounds) fabric.send(peer, bytes_of(answer), {});
  }
  sink.act = nullptr;
  return right;
}

TEST_CASE("shm fabric: no wake-up is lost in 100000 hand-overs between threads that sleep at once") {
  Host host(2);
  constexpr std::uint64_t kRounds = 50'000;
  bool other = false;
  std::thread peer(
      [&] { other = ping_pong(*host.fabrics[1], host.sinks[1], host.env, NodeId{0}, false, kRounds, Fabric::Sleeper::engine); });
  const bool mine = ping_pong(*host.fabrics[0], host.sinks[0], host.env, NodeId{1}, true, kRounds, Fabric::Sleeper::application);
  peer.join();
  CHECK(mine);
  CHECK(other);
}

TEST_CASE("shm fabric: two processes over shared memory files") {
  constexpr std::uint64_t kRounds = 5'000;
  std::vector<UniqueFd> files;
  std::vector<UniqueFd> frames;
  for (int i = 0; i < 2; ++i) {
    files.emplace_back(memfd_create("netvm-test-device", MFD_CLOEXEC));
    frames.emplace_back(memfd_create("netvm-test-frames", MFD_CLOEXEC));
    REQUIRE(ftruncate(frames.back().get(), 4 * kPageSize) == 0);
    std::string why;
    const auto device = Device::create(device_config(static_cast<std::uint32_t>(i), 2), files.back().get(), nullptr, &why);
    REQUIRE_MESSAGE(device.has_value(), why);
  }
  // Each process maps both for itself, at addresses of its own, as real nodes do.
  const auto play = [&](std::uint32_t node) {
    RealEnv env;
    std::vector<std::unique_ptr<Device>> devices;
    std::vector<Device*> all;
    for (std::uint32_t i = 0; i < 2; ++i) {
      auto device = Device::attach(device_config(i, 2), NodeId{node}, files[i].get(), frames[i].get());
      if (!device) return false;
      devices.push_back(std::move(device).value());
      all.push_back(devices.back().get());
    }
    ShmFabric fabric(NodeId{node}, 2, env, all);
    Sink sink;
    fabric.attach(&sink);
    return ping_pong(fabric, sink, env, NodeId{1 - node}, node == 0, kRounds, Fabric::Sleeper::application);
  };
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(play(1) ? 0 : 1);
  CHECK(play(0));
  int ended = 0;
  REQUIRE(waitpid(child, &ended, 0) == child);
  CHECK(WIFEXITED(ended));
  CHECK(WEXITSTATUS(ended) == 0);
}

}  // namespace
}  // namespace netvm::nic
