// Canaries: protocols with one bug each, of the kind that somebody had. A test that does not notice them proves nothing.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "tests/support/cluster_node.hpp"

namespace netvm::test {

struct Canary {
  std::string_view what;
  std::string_view protocol;  ///< which protocol it stands in for
  std::unique_ptr<dsm::Protocol> (*make)(dsm::ProtocolEnv&);
};
[[nodiscard]] const std::vector<Canary>& canaries();

/// Makes the clusters of these options run the canary in place of its protocol.
void put_in(const Canary& canary, ClusterOptions& options);

}  // namespace netvm::test
