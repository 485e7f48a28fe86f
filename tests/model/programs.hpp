// What the explorer runs: litmus tests (tests/litmus) small enough to be seen in every order, each in a few set-ups, on simulated nodes whose
// network keeps the order of each channel (the NIC's channels do so over any network).
//
// A run is wrong if it shows an outcome that the protocol must not show, if nodes disagree about a variable after a last barrier, if somebody has
// company while it may write a page of a sequentially consistent protocol, or if it does not end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dsm/protocol.hpp"
#include "tests/litmus/litmus.hpp"
#include "tests/model/explorer.hpp"

namespace netvm::model {

struct Setup {
  std::uint32_t spare_nodes = 0;  ///< beside one for each thread
  std::uint32_t home = 0;         ///< of all variables; beyond the last node: the last
  bool warm = false;              ///< every node has read every variable before
  litmus::Spread spread = litmus::Spread::together;
  std::string_view text;
};
[[nodiscard]] const std::vector<Setup>& setups();

struct Subject {
  std::string_view protocol;
  dsm::ProtocolFactory make = nullptr;  ///< in its place; null: itself
  std::uint64_t seed = 1;               ///< of what the protocol draws
};

/// Whether every order of the test's events is within reach.
[[nodiscard]] bool is_small(const litmus::Litmus& litmus);

/// To be explored. The arguments outlive it.
[[nodiscard]] Execution execution(const litmus::Litmus& litmus, const Setup& setup, const Subject& subject);

}  // namespace netvm::model
