#include "nic/sim_fabric.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

namespace {
constexpr std::uint64_t kLost = 0x6c6f'7374;  // in the trace
}

// One node's end of the network.
class SimFabric final : public Fabric {
 public:
  SimFabric(SimNetwork& network, NodeId node, std::uint32_t nodes, const SimNetworkOptions& options)
      : network_(network), node_(node), options_(options), devices_(nodes, nullptr) {}

  void attach(PacketSink* sink) override { sink_ = sink; }
  [[nodiscard]] std::size_t max_packet() const override { return options_.max_packet; }
  [[nodiscard]] bool in_order() const override { return options_.in_order; }
  [[nodiscard]] bool reliable() const override {
    return !options_.lossy && options_.loss_ppm == 0 && options_.corrupt_ppm == 0 && options_.partitions.empty();
  }

  void send(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload) override {
    std::vector<std::byte> packet;
    packet.reserve(header.size() + payload.size());
    packet.insert(packet.end(), header.begin(), header.end());
    packet.insert(packet.end(), payload.begin(), payload.end());
    network_.send(node_, to, std::move(packet));
  }

  bool poll() override { return false; }
  [[nodiscard]] bool pending() const override { return false; }
  [[nodiscard]] Device* device_of(NodeId node) override { return devices_[node.value]; }
  void set_device(NodeId node, Device* device) { devices_[node.value] = device; }

  // Packets come by themselves, so nobody need be woken for them: a word that never changes.
  ParkOn announce_sleep(Sleeper) override { return {&never_changes_, 0}; }
  void withdraw_sleep(Sleeper) override {}
  void announce_poll() override {}
  void withdraw_poll() override {}
  void pass_on() override {}

  void deliver(NodeId from, std::span<const std::byte> packet) {
    if (sink_ != nullptr) sink_->on_packet(from, packet);
  }

 private:
  SimNetwork& network_;
  NodeId node_;
  const SimNetworkOptions& options_;
  std::vector<Device*> devices_;
  PacketSink* sink_ = nullptr;
  std::atomic<std::uint32_t> never_changes_{0};
};

SimNetwork::SimNetwork(Simulator& simulator, std::uint32_t nodes, const SimNetworkOptions& options)
    : simulator_(simulator), options_(options), last_arrival_(std::size_t{nodes} * nodes, 0), line_free_(nodes, 0) {
  NETVM_CHECK(options.min_delay >= 0 && options.max_delay >= options.min_delay, "delays of %lld to %lld ns",
              static_cast<long long>(options.min_delay), static_cast<long long>(options.max_delay));
  NETVM_CHECK(options.max_packet >= 1024 + kPageSize, "packets of at most %zu bytes; they must hold a page and 1 KiB", options.max_packet);
  NETVM_CHECK(!(options.in_order && options.duplicate_ppm != 0), "a network that keeps the order does not duplicate");
  NETVM_CHECK(!(options.in_order && options.late_ppm != 0), "a network that keeps the order does not make some packets late");
  for (std::uint32_t i = 0; i < nodes; ++i) fabrics_.push_back(std::make_unique<SimFabric>(*this, NodeId{i}, nodes, options_));
}

SimNetwork::~SimNetwork() = default;

Fabric& SimNetwork::fabric(NodeId node) { return *fabrics_.at(node.value); }

void SimNetwork::connect_device(NodeId node, NodeId target, Device* device) { fabrics_.at(node.value)->set_device(target, device); }

void SimNetwork::send(NodeId from, NodeId to, std::vector<std::byte> packet) {
  NETVM_CHECK(to.value < fabrics_.size(), "a packet to node %u of %zu", to.value, fabrics_.size());
  NETVM_CHECK(!packet.empty() && packet.size() <= options_.max_packet, "a packet of %zu bytes; this network takes 1 to %zu", packet.size(),
              options_.max_packet);
  simulator_.trace(std::uint64_t{from.value} << 48 | std::uint64_t{to.value} << 32 | packet.size());
  simulator_.trace(XXH3_64bits(packet.data(), packet.size()));
  ++counts_.sent;
  counts_.bytes += packet.size();
  if (options_.bits_per_second != 0) {
    const auto time = static_cast<Nanos>(packet.size() * 8 * 1'000'000'000 / options_.bits_per_second);
    Nanos& free = line_free_[from.value];
    free = std::max(free, simulator_.now()) + time;
  }
  if (cut_off(from, to) || happens(options_.loss_ppm)) {
    simulator_.trace(kLost);
    ++counts_.lost;
    return;
  }
  if (happens(options_.corrupt_ppm)) {
    ++counts_.corrupted;
    for (std::uint64_t flips = 1 + simulator_.random() % 8; flips > 0; --flips) {
      const std::uint64_t bit = simulator_.random() % (packet.size() * 8);
      packet[bit / 8] ^= std::byte{1} << (bit % 8);
      simulator_.trace(bit);
    }
  }
  const bool twice = happens(options_.duplicate_ppm);
  const auto shared = std::make_shared<const std::vector<std::byte>>(std::move(packet));
  deliver_after(from, to, shared);
  if (!twice) return;
  ++counts_.duplicated;
  deliver_after(from, to, shared);
}

bool SimNetwork::happens(std::uint32_t ppm) { return ppm != 0 && simulator_.random() % 1'000'000 < ppm; }

bool SimNetwork::cut_off(NodeId from, NodeId to) const {
  const Nanos now = simulator_.now();
  return std::any_of(options_.partitions.begin(), options_.partitions.end(), [&](const SimPartition& cut) {
    const bool between = (cut.a == from && cut.b == to) || (cut.a == to && cut.b == from);
    return between && now >= cut.from && now < cut.until;
  });
}

void SimNetwork::partition(const SimPartition& cut) {
  NETVM_CHECK(!fabrics_.at(0)->reliable(), "the NICs take this network for one that loses nothing: set SimNetworkOptions::lossy");
  options_.partitions.push_back(cut);
}

void SimNetwork::deliver_after(NodeId from, NodeId to, std::shared_ptr<const std::vector<std::byte>> packet) {
  const auto spread = static_cast<std::uint64_t>(options_.max_delay - options_.min_delay) + 1;
  const Nanos leaves = std::max(simulator_.now(), line_free_[from.value]);
  Nanos arrival = leaves + options_.min_delay + static_cast<Nanos>(simulator_.random() % spread);
  if (happens(options_.late_ppm)) {
    arrival += static_cast<Nanos>(simulator_.random() % (static_cast<std::uint64_t>(options_.late_delay) + 1));
  }
  if (options_.in_order) {
    Nanos& last = last_arrival_[std::size_t{from.value} * fabrics_.size() + to.value];
    arrival = last = std::max(arrival, last);  // events of one moment run in the order of insertion
  }
  const std::uint64_t channel = std::uint64_t{from.value} * fabrics_.size() + to.value;
  simulator_.at_node(to, options_.in_order ? channel + 1 : 0, arrival, [this, from, to, packet = std::move(packet)] {
    ++counts_.delivered;
    fabrics_[to.value]->deliver(from, *packet);
  });
}

}  // namespace netvm::nic
