// Simulated network: each packet is an event of the simulator, delivered to the target's sink after a delay drawn from the seed. With
// in_order = false packets of one channel overtake each other. Everything that crosses the network goes into the trace hash.
//
// Invariants
//  1. What happens to a packet follows from the simulator's seed and the order of sending alone.
//  2. With in_order = true a packet of a channel never arrives before an earlier one of it. Without duplication each arrives once.
//  3. A packet is delivered in the simulator's loop, never inside send().
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "nic/fabric.hpp"
#include "runtime/simulator.hpp"

namespace netvm::nic {

struct SimNetworkOptions {
  Nanos min_delay = 500;
  Nanos max_delay = 5'000;
  bool in_order = false;
  /// Of a million packets, how many arrive a second time (with a delay of their own). Only where in_order is false.
  std::uint32_t duplicate_ppm = 0;
  std::size_t max_packet = 16 * 1024;
};

class SimFabric;

class SimNetwork {
 public:
  SimNetwork(Simulator& simulator, std::uint32_t nodes, const SimNetworkOptions& options = {});
  ~SimNetwork();

  [[nodiscard]] Fabric& fabric(NodeId node);
  /// Lets initiators of this node reach the target's device directly from now on. Without it everything goes as packets.
  void connect_device(NodeId node, NodeId target, Device* device);

  struct Counts {
    std::uint64_t sent = 0;
    std::uint64_t delivered = 0;
    std::uint64_t duplicated = 0;
    std::uint64_t bytes = 0;  ///< sent
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }
  /// Packets sent and not yet delivered.
  [[nodiscard]] std::uint64_t in_flight() const { return counts_.sent + counts_.duplicated - counts_.delivered; }

 private:
  friend class SimFabric;
  void send(NodeId from, NodeId to, std::vector<std::byte> packet);
  void deliver_after(NodeId from, NodeId to, std::shared_ptr<const std::vector<std::byte>> packet);

  Simulator& simulator_;
  SimNetworkOptions options_;
  std::vector<std::unique_ptr<SimFabric>> fabrics_;
  std::vector<Nanos> last_arrival_;  // by channel (from * nodes + to)
  Counts counts_;
};

}  // namespace netvm::nic
