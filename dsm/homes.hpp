// Homes: which node keeps the master copy of a page. Block, cyclic and fixed placement are computed; first touch is claimed.
//
// First touch: a page's arbiter holds one word for it in its system area: 0, or home + 1. Who touches the page first swaps itself in with one
// NIC compare_swap; everybody else learns the winner from the same operation, once. Of each `nodes` consecutive pages every node arbitrates one; which
// one is scattered, so that the heads of larger coherence units do not all fall to the same node.
//
// Nodes that were dead when the extent was allocated have no part in it: the living ones alone are dealt its pages; and a page whose arbiter is among the dead
// lives at the next node behind the arbiter that is not, whoever touches it.
//
// Pages in this interface are heads of coherence units; homes are dealt out by units.
//
// Invariants
//  1. A page has one home from the first claim until its extent is retired.
//  2. The winner may be addressed as home before its own claim has returned.
// Threads: any.
#pragma once

#include <cstdint>
#include <optional>

#include "dsm/dsm.hpp"
#include "dsm/extent.hpp"
#include "dsm/page_table.hpp"
#include "nic/nic.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

class Homes {
 public:
  Homes(const DsmConfig& config, HostVm& vm, nic::Nic& nic) : config_(config), vm_(vm), nic_(nic) {}

  /// Finds the home of a page of the extent; with first touch the caller claims it. Blocks (first touch only). The NIC's error if that fails.
  Result<NodeId> find(PageId page, const Extent& extent);

  /// The same without claiming: none if nobody has claimed the page yet. Blocks.
  Result<std::optional<NodeId>> look_up(PageId page, const Extent& extent);

  /// The home, where no claim decides it: what was allocated says it, without asking anybody.
  [[nodiscard]] std::optional<NodeId> computed(PageId page, const Extent& extent) const;

  /// The node that keeps the page's claim.
  [[nodiscard]] NodeId arbiter(PageId page) const;

  /// The extent is being retired: this node's words for its pages become 0.
  void forget_claims(const Extent& extent);

 private:
  [[nodiscard]] NodeId claimed_by(PageId page, std::uint64_t claim) const;
  [[nodiscard]] std::uint64_t claim_offset(PageId page) const;  // in the arbiter's system region

  const DsmConfig& config_;
  HostVm& vm_;
  nic::Nic& nic_;
};

}  // namespace netvm::dsm
