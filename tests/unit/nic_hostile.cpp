// A NIC against a network that damages, doubles, drops, reorders and forges packets: everything odd is counted and dropped, memory stays
// as it is, and honest traffic goes on.
#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <vector>

#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "nic/sequence_window.hpp"
#include "nic/wire.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

using Bytes = std::vector<std::byte>;

/// Both ends of a network of two nodes in one thread. Packets lie here until they are delivered by poll(), in the order that the test makes.
class Loopback {
 public:
  struct InFlight {
    NodeId from, to;
    Bytes bytes;
  };
  class End final : public Fabric {
   public:
    End(Loopback& network, NodeId node) : network_(network), node_(node) {}
    void attach(PacketSink* sink) override { sink_ = sink; }
    [[nodiscard]] std::size_t max_packet() const override { return 8192; }
    [[nodiscard]] bool in_order() const override { return false; }
    [[nodiscard]] bool reliable() const override { return true; }
    void send(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload) override {
      Bytes bytes(header.begin(), header.end());
      bytes.insert(bytes.end(), payload.begin(), payload.end());
      network_.flying.push_back({node_, to, std::move(bytes)});
    }
    bool poll() override { return network_.step(); }
    [[nodiscard]] bool pending() const override { return !network_.flying.empty(); }
    [[nodiscard]] Device* device_of(NodeId) override { return nullptr; }
    ParkOn announce_sleep(Sleeper) override { return {&never_, 0}; }
    void withdraw_sleep(Sleeper) override {}
    void announce_poll() override {}
    void withdraw_poll() override {}
    void pass_on() override {}
    void deliver(NodeId from, std::span<const std::byte> packet) { sink_->on_packet(from, packet); }

   private:
    Loopback& network_;
    NodeId node_;
    PacketSink* sink_ = nullptr;
    std::atomic<std::uint32_t> never_{0};
  };

  /// Delivers one packet, after `meddle` has had it (it may change the queue, too).
  bool step() {
    if (flying.empty()) return false;
    const std::size_t index = pick ? pick(flying.size()) : 0;
    InFlight packet = std::move(flying[index]);
    flying.erase(flying.begin() + static_cast<std::ptrdiff_t>(index));
    if (meddle && !meddle(packet)) return true;
    ends[packet.to.value]->deliver(packet.from, packet.bytes);
    return true;
  }

  std::vector<std::unique_ptr<End>> ends;
  std::deque<InFlight> flying;
  std::function<bool(InFlight&)> meddle;  ///< false: lost
  std::function<std::size_t(std::size_t)> pick;
};

struct Node {
  Stats stats;
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<Device> device;
  std::unique_ptr<Nic> nic;
};

struct Pair {
  RealEnv env{{0, true, 21}};
  Loopback network;
  Node nodes[2];
  RemoteRegion region;  // of node 1

  explicit Pair(std::uint32_t first_sequence = 0, std::uint32_t system_buffers = 4096) {
    for (std::uint32_t i = 0; i < 2; ++i) network.ends.push_back(std::make_unique<Loopback::End>(network, NodeId{i}));
    for (std::uint32_t i = 0; i < 2; ++i) {
      std::string why;
      HostVmConfig memory;
      memory.pages = 32;
      nodes[i].vm = HostVm::create(memory, env, &why).value();
      DeviceConfig shape;
      shape.node = NodeId{i};
      shape.nodes = 2;
      shape.pages = 32;
      nodes[i].device = Device::create(shape, -1, nodes[i].vm->frame_base()).value();
      NicConfig config;
      config.node = NodeId{i};
      config.nodes = 2;
      config.first_sequence = first_sequence;
      config.system_buffers = system_buffers;
      nodes[i].nic = std::make_unique<Nic>(config, env, *nodes[i].vm, *network.ends[i], *nodes[i].device, nodes[i].stats);
    }
    region = nodes[1].nic->region_create({PageId{1}, 8}, Rights::all).value();
  }
  Nic& a() { return *nodes[0].nic; }
  Nic& b() { return *nodes[1].nic; }
  std::byte* memory() { return nodes[1].vm->frame(PageId{1}); }
  void settle() {
    while (network.step()) {
    }
  }
};

std::uint64_t total(const Drops& d) {
  return d.malformed + d.stale + d.duplicate + d.outside + d.unmatched + d.fragments + d.unhandled + d.from_dead + d.no_credit;
}

struct Collect final : MessageHandler {
  std::vector<Bytes> got;
  void on_message(NodeId, std::span<const std::byte> body) noexcept override { got.emplace_back(body.begin(), body.end()); }
};

}  // namespace

TEST_CASE("pitfall 12: every damaged header, every truncated packet and every packet from a liar is counted, and nothing happens") {
  Pair pair;
  Collect inbox;
  pair.b().set_message_handler(MessageKind::test, &inbox);
  const RemoteCounter counter = pair.b().counter_create().value();
  // One packet of each kind, kept instead of delivered.
  std::vector<Loopback::InFlight> kept;
  Completion completions[3];
  std::uint64_t landing = 0;
  const Bytes data(300, std::byte{1});
  pair.a().post_write(pair.region, 0, data.data(), data.size(), &completions[0]);
  pair.a().post_read(pair.region, 0, &landing, 8, &completions[1]);
  pair.a().post_atomic(pair.region, 8, {AtomicOp::fetch_add, 1}, &completions[2]);
  CHECK(ok(pair.a().notify(counter, 1)));
  pair.a().send(NodeId{1}, MessageKind::test, data);
  kept.assign(pair.network.flying.begin(), pair.network.flying.end());
  REQUIRE(kept.size() == 5);
  pair.network.flying.clear();

  std::uint64_t bad = 0;
  const auto expect_refused = [&](std::span<const std::byte> bytes, NodeId from = NodeId{0}) {
    pair.network.ends[1]->deliver(from, bytes);
    ++bad;
    REQUIRE(pair.b().drops().malformed == bad);
  };
  for (const auto& packet : kept) {
    const std::size_t header = packet.bytes.size() - (packet.bytes.size() > 300 ? 300 : 0);
    for (std::size_t at = 0; at < header; ++at) {
      for (const std::byte flip : {std::byte{1}, std::byte{0x80}, std::byte{0xff}}) {
        Bytes damaged = packet.bytes;
        damaged[at] ^= flip;
        expect_refused(damaged);
      }
    }
    for (std::size_t length = 0; length < packet.bytes.size(); ++length) expect_refused(std::span(packet.bytes).first(length));
    expect_refused(packet.bytes, NodeId{1});  // its fabric says otherwise
  }
  CHECK(total(pair.b().drops()) == bad);
  CHECK(pair.memory()[0] == std::byte{0});
  CHECK(pair.network.flying.empty());  // not one answer
  CHECK(inbox.got.empty());

  for (const auto& packet : kept) pair.network.ends[1]->deliver(NodeId{0}, packet.bytes);  // the real ones still work
  pair.settle();
  for (const Completion& completion : completions) CHECK((completion.done() && ok(completion.status())));
  CHECK(inbox.got.size() == 1);
  CHECK(pair.b().counter_value(counter) == 1);
}

TEST_CASE("pitfalls 7 and 12: replayed, forged and mistimed packets change nothing") {
  Pair pair;
  std::vector<Loopback::InFlight> seen;
  pair.network.meddle = [&](Loopback::InFlight& packet) {
    seen.push_back(packet);
    return true;
  };
  for (int i = 0; i < 3; ++i) CHECK(pair.a().atomic(pair.region, 0, {AtomicOp::fetch_add, 1}).value() == static_cast<std::uint64_t>(i));
  pair.network.meddle = nullptr;
  for (const auto& packet : seen) pair.network.ends[packet.to.value]->deliver(packet.from, packet.bytes);
  CHECK(pair.network.flying.empty());
  CHECK(pair.b().drops().duplicate == 3);  // requests
  CHECK(pair.a().drops().duplicate == 3);  // answers
  CHECK(pair.a().atomic(pair.region, 0, {AtomicOp::fetch_add, 1}).value() == 3);

  const auto forge = [&](PacketHeader h) {
    h.session = 1;
    h.source = NodeId{0};
    h.target = NodeId{1};
    std::array<std::byte, kMaxHeader> bytes;
    pair.network.ends[1]->deliver(NodeId{0}, {bytes.data(), encode(h, bytes)});
  };
  PacketHeader h;
  h.opcode = Opcode::atomic;
  h.request = 5;
  h.region = pair.region.id;
  h.key = pair.region.key;
  h.sequence = 4 + SequenceWindow::kSpan;
  forge(h);
  CHECK(pair.b().drops().outside == 1);
  h = PacketHeader{};
  h.opcode = Opcode::message;
  h.code = 15;
  h.sequence = 4;
  h.total = 10;
  forge(h);  // a fragment without bytes of a message that has some
  CHECK(pair.b().drops().malformed == 1);
  CHECK(pair.a().atomic(pair.region, 0, {AtomicOp::fetch_add, 1}).value() == 4);
}

TEST_CASE("pitfalls 7 and 8: packets in any order, doubled, around the wrap of the sequence: everything takes effect once, in order") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    Pair pair(seed % 2 == 0 ? 0xffff'ff9c : 0x7fff'ff9c);
    Collect inbox;
    pair.b().set_message_handler(MessageKind::test, &inbox);
    const RemoteCounter counter = pair.b().counter_create().value();
    pair.network.pick = [&](std::size_t size) { return random() % size; };
    pair.network.meddle = [&](Loopback::InFlight& packet) {
      if (random() % 8 == 0) pair.network.flying.push_back(packet);
      return true;
    };
    constexpr std::size_t kCount = 80;
    std::vector<Completion> atomics(kCount), writes(kCount), reads(kCount);
    std::vector<std::uint64_t> landing(kCount, 0);
    for (std::uint64_t i = 0; i < kCount; ++i) {
      pair.a().post_write(pair.region, i * 8, &i, 8, &writes[i]);
      pair.a().post_read(pair.region, i * 8, &landing[i], 8, &reads[i]);
      pair.a().post_atomic(pair.region, 4096, {AtomicOp::fetch_add, 1}, &atomics[i]);
      CHECK(ok(pair.a().notify(counter, 1)));
      pair.a().send(NodeId{1}, MessageKind::test, Bytes(i * 200, static_cast<std::byte>(i)));
      for (int s = 0; s < 3; ++s) pair.network.step();
    }
    pair.settle();
    for (std::uint64_t i = 0; i < kCount; ++i) {
      CHECK((ok(writes[i].status()) && ok(reads[i].status()) && ok(atomics[i].status())));
      CHECK((writes[i].done() && reads[i].done() && atomics[i].done()));
      CHECK(atomics[i].old_value() == i);
      CHECK(landing[i] == i);
    }
    CHECK(pair.b().counter_value(counter) == kCount);
    REQUIRE(inbox.got.size() == kCount);
    for (std::uint64_t i = 0; i < kCount; ++i) CHECK(inbox.got[i] == Bytes(i * 200, static_cast<std::byte>(i)));
    CHECK(pair.b().drops().malformed == 0);
  }
}

TEST_CASE("pitfall 12: an answer of the wrong length does not reach memory") {
  Pair pair;
  Completion completion;
  Bytes landing(64, std::byte{0xaa});
  pair.a().post_read(pair.region, 0, landing.data(), 32, &completion);
  const Loopback::InFlight request = pair.network.flying.front();
  pair.network.flying.clear();
  const PacketHeader asked = decode(NodeId{0}, request.bytes, {NodeId{1}, 2, 1}).value().header;
  std::uint32_t sequence = 0;  // the real answer's, which comes last
  for (const std::uint32_t bytes : {0U, 31U, 33U, 64U, 4096U}) {
    PacketHeader h;
    h.sequence = ++sequence;
    h.opcode = Opcode::data;
    h.session = 1;
    h.source = NodeId{1};
    h.target = NodeId{0};
    h.request = asked.request;
    h.bytes = bytes;
    std::array<std::byte, kMaxHeader> header;
    Bytes packet(header.data(), header.data() + encode(h, header));
    packet.insert(packet.end(), bytes, std::byte{0x55});
    pair.network.ends[0]->deliver(NodeId{1}, packet);
  }
  CHECK(pair.a().drops().unmatched == 5);
  CHECK_FALSE(completion.done());
  CHECK(landing == Bytes(64, std::byte{0xaa}));
  pair.network.ends[1]->deliver(NodeId{0}, request.bytes);
  pair.settle();
  CHECK(completion.done());
  CHECK(landing[31] == std::byte{0});
  CHECK(landing[32] == std::byte{0xaa});
}

TEST_CASE("packets of a node that has been declared dead are dropped") {
  Pair pair;
  Completion completion;
  std::uint64_t value = 3;
  pair.b().declare_dead(NodeId{0});
  pair.a().post_write(pair.region, 0, &value, 8, &completion);
  pair.settle();
  CHECK(pair.b().drops().from_dead == 1);
  CHECK(pair.memory()[0] == std::byte{0});
  pair.a().shut_down();
  CHECK(completion.status() == Status::cancelled);
}

TEST_CASE("pitfall 12: a peer that ignores its credits fills no memory and harms nobody") {
  Pair pair(0, 64);
  const auto forge = [&](PacketHeader h, std::size_t payload) {
    h.session = 1;
    h.source = NodeId{0};
    h.target = NodeId{1};
    std::array<std::byte, kMaxHeader> header;
    Bytes packet(header.data(), header.data() + encode(h, header));
    packet.insert(packet.end(), payload, std::byte{1});
    pair.network.ends[1]->deliver(NodeId{0}, packet);
  };
  PacketHeader h;
  h.opcode = Opcode::message;
  h.code = 15;
  h.bytes = 4096;
  h.total = 1 << 20;
  constexpr std::uint32_t kFlood = 5000;
  for (std::uint32_t i = 1; i <= kFlood; ++i) {  // number 0 is missing: all of it would have to wait
    h.sequence = i;
    forge(h, h.bytes);
  }
  CHECK(pair.b().drops().no_credit >= kFlood - 64);
  PacketHeader back;
  back.opcode = Opcode::give_back;
  back.slots = 1'000'000;  // it has not so many
  back.sequence = kFlood + 1;
  const std::uint64_t before = pair.b().drops().no_credit;
  forge(back, 0);
  CHECK(pair.b().drops().no_credit == before + 1);
  // Its own channel is beyond help, but node 1 serves itself as before.
  const RemoteRegion own = pair.region;
  const std::uint64_t value = 5;
  CHECK(ok(pair.b().write(own, 0, &value, 8)));
}
