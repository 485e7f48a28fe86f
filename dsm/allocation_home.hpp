// AllocationHome: node 0's side of the allocation service. Owns the map, answers requests, and runs retirements.
//
// Retirement of a freed extent, so that its pages can be handed out again as zeros, with another protocol or home:
//   quiesce   every node forgets the extent (further faults are wild accesses) and sees to it that nothing of its own will reach the pages any more:
//             messages on their way have arrived, changes not flushed yet never will be (else they would land in a home's frame that was dropped already)
//   detach    every node drops rights, state and frames of the pages
//   then the pages are free. Allocations that found no room meanwhile are tried again.
// Of a node that has died nothing is awaited, and nothing is allocated for it.
// Threads: message handlers of node 0 only, which run one at a time. Never blocks.
#pragma once

#include <cstdint>
#include <deque>
#include <map>

#include "dsm/allocation_wire.hpp"
#include "dsm/allocator.hpp"
#include "dsm/node_set.hpp"
#include "nic/nic.hpp"

namespace netvm::dsm {

class AllocationHome {
 public:
  AllocationHome(PageRange shared, nic::Nic& nic) : allocator_(shared), nic_(nic) {}

  void handle(NodeId from, const AllocationMessage& message);
  void declare_dead(NodeId node);

 private:
  struct Retirement {
    Extent extent;
    AllocationKind step = AllocationKind::quiesce;
    NodeSet awaited;  // to answer this step
  };
  struct Waiting {
    NodeId from;
    AllocationMessage message;
  };

  void allocate(NodeId from, const AllocationMessage& message);
  void free(NodeId from, const AllocationMessage& message);
  void describe(NodeId from, const AllocationMessage& message);
  void usage(NodeId from, const AllocationMessage& message);
  void step_done(NodeId from, const AllocationMessage& message);
  void go_on(std::map<std::uint64_t, Retirement>::iterator retirement);
  void begin_step(Retirement& retirement, AllocationKind step);
  void reply(NodeId to, const AllocationMessage& request, AllocationMessage answer, std::string_view text = {});

  Allocator allocator_;
  nic::Nic& nic_;
  DeadNodes dead_;
  std::map<std::uint64_t, Retirement> retirements_;  // by serial
  std::deque<Waiting> waiting_;                      // allocations that wait for a retirement
};

}  // namespace netvm::dsm
