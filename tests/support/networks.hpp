// Networks for the simulator that several tests use.
#pragma once

#include "nic/sim_fabric.hpp"

namespace netvm::test {

/// Makes a network one that loses 3 %, doubles 2 %, damages 1 % and delays a quarter of all packets.
inline nic::SimNetworkOptions lossy(nic::SimNetworkOptions network) {
  network.in_order = false;
  network.loss_ppm = 30'000;
  network.duplicate_ppm = 20'000;
  network.corrupt_ppm = 10'000;
  network.late_ppm = 250'000;
  network.late_delay = 20'000;
  return network;
}

}  // namespace netvm::test
