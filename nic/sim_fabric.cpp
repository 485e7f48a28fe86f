#include "nic/sim_fabric.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

// One node's end of the network.
class SimFabric final : public Fabric {
 public:
  SimFabric(SimNetwork& network, NodeId node, std::uint32_t nodes, const SimNetworkOptions& options)
      : network_(network), node_(node), options_(options), devices_(nodes, nullptr) {}

  void attach(PacketSink* sink) override { sink_ = sink; }
  [[nodiscard]] std::size_t max_packet() const override { return options_.max_packet; }
  [[nodiscard]] bool in_order() const override { return options_.in_order; }

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
    : simulator_(simulator), options_(options), last_arrival_(std::size_t{nodes} * nodes, 0) {
  NETVM_CHECK(options.min_delay >= 0 && options.max_delay >= options.min_delay, "delays of %lld to %lld ns",
              static_cast<long long>(options.min_delay), static_cast<long long>(options.max_delay));
  NETVM_CHECK(options.max_packet >= 1024 + kPageSize, "packets of at most %zu bytes; they must hold a page and 1 KiB", options.max_packet);
  NETVM_CHECK(!(options.in_order && options.duplicate_ppm != 0), "a network that keeps the order does not duplicate");
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
  const bool twice = options_.duplicate_ppm != 0 && simulator_.random() % 1'000'000 < options_.duplicate_ppm;
  const auto shared = std::make_shared<const std::vector<std::byte>>(std::move(packet));
  deliver_after(from, to, shared);
  if (!twice) return;
  ++counts_.duplicated;
  deliver_after(from, to, shared);
}

void SimNetwork::deliver_after(NodeId from, NodeId to, std::shared_ptr<const std::vector<std::byte>> packet) {
  const auto spread = static_cast<std::uint64_t>(options_.max_delay - options_.min_delay) + 1;
  Nanos arrival = simulator_.now() + options_.min_delay + static_cast<Nanos>(simulator_.random() % spread);
  if (options_.in_order) {
    Nanos& last = last_arrival_[std::size_t{from.value} * fabrics_.size() + to.value];
    arrival = last = std::max(arrival, last);  // events of one moment run in the order of insertion
  }
  simulator_.at(arrival, [this, from, to, packet = std::move(packet)] {
    ++counts_.delivered;
    fabrics_[to.value]->deliver(from, *packet);
  });
}

}  // namespace netvm::nic
