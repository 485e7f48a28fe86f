// How a NIC deals with a fabric that loses packets: the numbers. See transmitter.hpp and acknowledger.hpp for the machinery.
#pragma once

#include <cstdint>

#include "runtime/env.hpp"

namespace netvm::nic {

struct Reliability {
  std::uint32_t window = 1024;          ///< packets on their way to one peer, at most; a power of two
  Nanos initial_timeout = 2'000'000;    ///< before the round trip is known
  Nanos min_timeout = 50'000;           ///< a thread at the other end may have to be woken first
  Nanos max_timeout = 100'000'000;      ///< where doubling ends
  Nanos peer_timeout = 30'000'000'000;  ///< so long may a peer say nothing while an answer is due
  std::uint32_t packets_per_ack = 8;    ///< of which nothing is missing
  Nanos ack_delay = 20'000;             ///< after which fewer are acknowledged
};

}  // namespace netvm::nic
