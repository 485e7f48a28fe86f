// AllocationService: allocation from any node, by messages to node 0 (which sends them to itself, too: one path).
//
// Invariants
//  1. Node 0 alone has the map (allocation_home.hpp). Others ask, and remember the extents that they have met (RegionDirectory).
//  2. What allocate() returns is zeros on every node: its pages were never used, or every node has dropped them since (retirement).
//  3. Retirement work that must wait for page locks runs in a task of its own (Env::spawn), everything else inside message handlers.
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
#include "nic/nic.hpp"
#include "runtime/env.hpp"
#include "runtime/task_group.hpp"

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
};

class AllocationService final : public nic::MessageHandler {
 public:
  AllocationService(PageRange shared, Env& env, nic::Nic& nic, ExtentKeeper& keeper);
  ~AllocationService() override;

  /// Blocks. On failure `*why` explains (if not null). E_CANCELLED when the NIC is shut down.
  Result<Allocation> allocate(const AllocRequest& request, std::string* why);
  /// Blocks. E_INVALID: nothing was allocated there.
  Status free(std::uint64_t offset);
  /// The live extent of a page, if there is one. Blocks.
  std::optional<Extent> describe(PageId page);

  struct Usage {
    std::uint64_t used = 0;
    std::uint64_t available = 0;
  };
  /// Blocks. Zeros when the NIC is shut down.
  Usage usage();

  /// Begins no more retirement tasks and blocks until none of this node runs.
  void close();

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;

 private:
  struct Reply {
    AllocationMessage message;
    std::string text;
  };
  Status ask(AllocationMessage question, Reply* reply);
  void send(NodeId to, const AllocationMessage& message);
  void quiesce(const AllocationMessage& order);
  void answer(AllocationKind kind, const Extent& extent);
  void in_task(void (ExtentKeeper::*work)(const Extent&), const Extent& extent, AllocationKind answer_kind);

  PageRange shared_;
  Env& env_;
  nic::Nic& nic_;
  ExtentKeeper& keeper_;
  std::unique_ptr<AllocationHome> home_;  // on node 0

  SpinLock lock_;  // guards the next two
  std::uint32_t next_id_ = 1;
  std::map<std::uint32_t, std::optional<Reply>> asked_;
  WaitWord answered_;

  struct Drain {
    Extent extent;
    std::uint32_t awaited = 0;
  };
  std::map<std::uint64_t, Drain> drains_;  // by serial; handlers only

  TaskGroup tasks_;  // retirements
};

}  // namespace netvm::dsm
