// Pages with a known home, written whole and read whole: what the simulations of the home-based protocols are made of.
#pragma once

#include <cstdint>
#include <string_view>

#include "tests/support/machine.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {

inline constexpr std::uint64_t kHomePages = 16;

/// The way requests travel alternates with the seed.
inline SimClusterOptions home_cluster(std::string_view protocol, std::uint32_t nodes, std::uint64_t seed) {
  SimClusterOptions options;
  options.nodes = nodes;
  options.seed = seed;
  options.protocol = protocol;
  options.pages = 1024;
  options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
  return options;
}

/// In the cluster's protocol.
inline dsm::AllocOptions at_node(std::uint32_t home) {
  dsm::AllocOptions options;
  options.placement = dsm::Placement::at_node;
  options.home = NodeId{home};
  return options;
}

/// The first word of each of kHomePages pages.
inline void store_all(Worker& me, Place at, std::uint64_t value) {
  for (std::uint64_t p = 0; p < kHomePages; ++p) me.store(at + p * kPageSize, value);
}
inline std::uint64_t count_other_than(Worker& me, Place at, std::uint64_t value) {
  std::uint64_t wrong = 0;
  for (std::uint64_t p = 0; p < kHomePages; ++p) wrong += me.load<std::uint64_t>(at + p * kPageSize) != value ? 1 : 0;
  return wrong;
}

}  // namespace netvm::test
