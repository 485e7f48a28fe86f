// Simulated network: each packet is an event of the simulator, delivered to the target's sink after a delay drawn from the seed. On its way
// it may be overtaken, doubled, damaged or lost, by the options. Everything that crosses the network, and what happens to it, goes into the
// trace hash.
//
// Invariants
//  1. What happens to a packet follows from the simulator's seed and the order of sending alone.
//  2. With in_order = true a packet of a channel never arrives before an earlier one of it. Each arrives once, unless the options say
//     that packets are doubled, damaged (bits of it flip) or lost.
//  3. A packet is delivered in the simulator's loop, never inside send().
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "nic/fabric.hpp"
#include "runtime/simulator.hpp"

namespace netvm::nic {

/// A time in which nothing passes between two nodes, in either direction.
struct SimPartition {
  NodeId a{}, b{};
  Nanos from = 0;
  Nanos until = kForever;  ///< when it heals
};

struct SimNetworkOptions {
  Nanos min_delay = 500;
  Nanos max_delay = 5'000;
  bool in_order = false;
  /// Of a million packets, how many arrive a second time (with a delay of their own). Only where in_order is false.
  std::uint32_t duplicate_ppm = 0;
  /// Of a million packets, how many take up to `late_delay` longer than the others. Only where in_order is false.
  std::uint32_t late_ppm = 0;
  Nanos late_delay = 0;
  std::uint32_t loss_ppm = 0;     ///< of a million packets, how many never arrive
  std::uint32_t corrupt_ppm = 0;  ///< of a million packets, how many arrive with some of their bits flipped
  std::vector<SimPartition> partitions = {};
  /// What a node can send in a second, in bits; packets queue for it. 0: no limit. Only what is really sent takes time.
  std::uint64_t bits_per_second = 0;
  /// Whether NICs take it for a network that loses packets although none of the above says so: partition() will.
  bool lossy = false;
  std::size_t max_packet = 16 * 1024;
};

class SimFabric;

class SimNetwork {
 public:
  SimNetwork(Simulator& simulator, std::uint32_t nodes, const SimNetworkOptions& options = {});
  ~SimNetwork();

  [[nodiscard]] Fabric& fabric(NodeId node);
  /// Nothing passes between two nodes for a time, from now on. The options must say that the network is lossy.
  void partition(const SimPartition& cut);
  /// Lets initiators of this node reach the target's device directly from now on. Without it everything goes as packets.
  void connect_device(NodeId node, NodeId target, Device* device);

  struct Counts {
    std::uint64_t sent = 0;
    std::uint64_t delivered = 0;
    std::uint64_t duplicated = 0;
    std::uint64_t lost = 0;
    std::uint64_t corrupted = 0;
    std::uint64_t bytes = 0;  ///< sent
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }
  /// Packets sent and not yet delivered.
  [[nodiscard]] std::uint64_t in_flight() const { return counts_.sent + counts_.duplicated - counts_.lost - counts_.delivered; }

 private:
  friend class SimFabric;
  void send(NodeId from, NodeId to, std::vector<std::byte> packet);
  void deliver_after(NodeId from, NodeId to, std::shared_ptr<const std::vector<std::byte>> packet);
  [[nodiscard]] bool happens(std::uint32_t ppm);
  [[nodiscard]] bool cut_off(NodeId from, NodeId to) const;

  Simulator& simulator_;
  SimNetworkOptions options_;
  std::vector<std::unique_ptr<SimFabric>> fabrics_;
  std::vector<Nanos> last_arrival_;  // by channel (from * nodes + to)
  std::vector<Nanos> line_free_;     // by node: when all that it has sent has left
  Counts counts_;
};

}  // namespace netvm::nic
