// AllocationService: allocation from any node, by messages to node 0 (which sends them to itself, too: one path).
//
// Invariants
//  1. Node 0 alone has the map (allocation_home.hpp). Others ask, and remember the extents that they have met (RegionDirectory). When node 0 has died
//     nothing is allocated or freed any more; what is allocated survivors learn from each other, as far as one has met it.
//  2. What allocate() returns is zeros on every node: its pages were never used, or every node has dropped them since (retirement).
//  3. A question to a node that has died, or dies, ends with E_PEER_DEAD.
//  4. Retirement work that must wait for page locks runs in a task of its own (Env::spawn), everything else inside message handlers.
// Threads: any. "Blocks" means: drives the NIC meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "dsm/allocation_home.hpp"
#include "dsm/allocation_wire.hpp"
#include "dsm/allocator.hpp"
#include "dsm/node_set.hpp"
#include "nic/nic.hpp"
#include "runtime/env.hpp"
#include "runtime/task_group.hpp"
#include "sync/waits.hpp"

namespace netvm::dsm {

/// Who has state of extents on this node.
class ExtentKeeper {
 public:
  virtual ~ExtentKeeper() = default;
  /// The extent was freed: its pages belong to nobody for new faults. Called from message handlers: must not block.
  virtual void forget(const Extent& extent) = 0;
  /// Whether its protocol sends messages: what is on its way about the pages must arrive before their state may go.
  [[nodiscard]] virtual bool needs_drain(const Extent& extent) const = 0;
  /// Make sure that this node starts no more transfers of its pages: changes not yet flushed are dropped. Only where no messages are to be drained. May
  /// block.
  virtual void withdraw(const Extent& extent) = 0;
  /// Drop all state, rights and frames of its pages. May block.
  virtual void detach(const Extent& extent) = 0;
  /// What this node has met. From message handlers: must not block.
  [[nodiscard]] virtual std::optional<Extent> known_extent(PageId page) = 0;
  [[nodiscard]] virtual std::optional<NodeId> known_home(PageId page) = 0;
};

class AllocationService final : public nic::MessageHandler {
 public:
  AllocationService(PageRange shared, Env& env, nic::Nic& nic, ExtentKeeper& keeper);
  ~AllocationService() override;

  /// Where it says from now on whose answer it waits for. Before the first question.
  void tell_waits(sync::Waits& waits) { waits_ = &waits; }

  /// Blocks. On failure `*why` explains (if not null). E_CANCELLED when the NIC is shut down; E_PEER_DEAD, here and below: node 0 has died.
  Result<Allocation> allocate(const AllocRequest& request, std::string* why);
  /// Blocks. E_INVALID: nothing was allocated there.
  Status free(std::uint64_t offset);
  /// The live extent of a page. Blocks. E_INVALID: there is none. E_PEER_DEAD: and nobody who lives has met one.
  Result<Extent> describe(PageId page);
  /// The home of a page as far as another living node knows it, where the one that would has died. Blocks.
  std::optional<NodeId> ask_home(PageId page);

  struct Usage {
    std::uint64_t used = 0;
    std::uint64_t available = 0;
  };
  /// Blocks. Zeros when the NIC is shut down, or node 0 has died.
  Usage usage();

  /// Begins no more retirement tasks and blocks until none of this node runs.
  void close();

  /// Whoever waits for its answer waits no longer, and new memory gets other homes. Any context.
  void note_dead(NodeId node);
  /// The same; and the NIC gives this node nothing of its any more, so that what is being retired need not wait for it.
  void declare_dead(NodeId node);
  [[nodiscard]] DeadNodes dead() const;

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;

 private:
  struct Reply {
    AllocationMessage message;
    std::string text;
  };
  struct Drain {
    Extent extent;
    NodeSet awaited;
  };
  Status ask(NodeId whom, AllocationMessage question, Reply* reply);
  /// One after the other, until one has found it.
  Status ask_the_living(const AllocationMessage& question, Reply* reply);
  void answer_what_is_known(NodeId from, const AllocationMessage& question);
  void no_longer_await(NodeId node);
  void send(NodeId to, const AllocationMessage& message);
  void go_on(std::map<std::uint64_t, Drain>::iterator drain);
  void quiesce(const AllocationMessage& order);
  void answer(AllocationKind kind, const Extent& extent);
  void in_task(void (ExtentKeeper::*work)(const Extent&), const Extent& extent, AllocationKind answer_kind);

  PageRange shared_;
  Env& env_;
  nic::Nic& nic_;
  ExtentKeeper& keeper_;
  std::unique_ptr<AllocationHome> home_;  // on node 0

  mutable SpinLock lock_;  // guards the next three
  DeadNodes dead_;
  std::uint32_t next_id_ = 1;
  std::map<std::uint32_t, std::optional<Reply>> asked_;
  WaitWord answered_;

  std::map<std::uint64_t, Drain> drains_;  // by serial; handlers only
  sync::Waits* waits_ = nullptr;

  TaskGroup tasks_;  // retirements
};

}  // namespace netvm::dsm
