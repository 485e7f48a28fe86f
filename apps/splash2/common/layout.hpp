// Where a program's shared data lie: options that the programs have in common. team.hpp has the memory that obeys them.
//
// 1. With --placement owner and --padding pages a processor's part lies on pages of its own, at its node: no page is written by two nodes without need.
// 2. The other values are there to measure what that is worth; the answer never depends on them.
#pragma once

#include <netvm/netvm.hpp>

#include <string>

#include "apps/splash2/common/options.hpp"
#include "apps/splash2/common/partition.hpp"

namespace splash2 {

struct LayoutOptions {
  std::string placement = "owner";
  std::string padding = "pages";

  void add_to(Options& options);
  [[nodiscard]] netvm::AllocationOptions allocation(netvm::Consistency needs = netvm::Consistency::any) const;
  /// How many objects of `bytes` each a processor's part of `count` objects has room for.
  [[nodiscard]] std::size_t padded(std::size_t count, std::size_t bytes) const;
};

/// Number of processors of a job.
inline int processors_of(const netvm::Job& job) { return job.nodes() * job.threads_per_node(); }

}  // namespace splash2
