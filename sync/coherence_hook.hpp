// What synchronisation needs of a coherence layer: payloads to carry. The DSM implements it; sync/ knows nothing of pages.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::sync {

using Bytes = std::vector<std::byte>;

/// Which lock, semaphore or condition an event belongs to: the object's offset in the shared area, the same on every node. Mutexes and all other objects are
/// told apart by the top bit, so that a mutex and another object may lie at the same address.
struct SyncId {
  static constexpr std::uint64_t kObjectBit = std::uint64_t{1} << 63;
  std::uint64_t offset = 0;

  static constexpr SyncId of_object(std::uint64_t offset) { return {offset | kObjectBit}; }
  [[nodiscard]] constexpr bool is_object() const { return (offset & kObjectBit) != 0; }
  /// Where it lies.
  [[nodiscard]] constexpr std::uint64_t address() const { return offset & ~kObjectBit; }
  friend auto operator<=>(const SyncId&, const SyncId&) = default;
};

class CoherenceHook {
 public:
  virtual ~CoherenceHook() = default;

  // ---- locks: releaser -> acquirer -----------------------------------------------------------------------------------
  // A release is late: an unlock that nobody waits for tells only before_unlock(); on_release() comes when another node asks, or never if the lock
  // stays here. In between this node's threads go on: they lock it again, write, release other locks, pass barriers.
  /// A thread is about to unlock; it holds the lock yet. Must not block; nearly every unlock calls it.
  virtual void before_unlock(SyncId) {}
  /// Whether on_release() may have anything to do. If not, a handler may grant without it. Must not block.
  [[nodiscard]] virtual bool needs_release(SyncId) { return true; }
  /// Before a hand-over to another node: everything this node wrote up to the last unlock is placed where an acquirer will find it; what it
  /// wrote since may be. No thread holds the lock. Called by an unlocking thread or by a task; may block.
  virtual void on_release(SyncId object) = 0;
  /// What the acquirer tells with its request (its vector clock). Called by the locking thread; must not block.
  virtual void append_acquire_request(SyncId object, Bytes& out) = 0;
  /// What the granter sends with the grant, given what the acquirer told. Called from message handlers: must not block.
  virtual void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) = 0;
  /// Whether on_release() and append_grant() of an object may be called at a node that has not got its token, with what the other node told last, in whatever
  /// request: what they tell is the node's and not the object's. Must not block.
  [[nodiscard]] virtual bool tells_ahead() { return false; }
  /// After a grant with a payload, before the lock() that waited returns. May block.
  virtual void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) = 0;

  /// These bytes of a payload left this node, so many times, in messages of sync/. Must not block. (What append_...() gives leaves once.)
  virtual void count_sent(std::span<const std::byte>, std::uint64_t /*copies*/) {}

  // ---- barriers: everybody -> everybody ------------------------------------------------------------------------------
  /// Whether threads may run on between their node's on_barrier_arrive() and its on_barrier_leave(): write, lock, unlock. If not, a thread that arrives at a
  /// split barrier has arrived when it waits. Must not block.
  [[nodiscard]] virtual bool splits_barriers() { return false; }
  /// Before each on_barrier_arrive(): whether some of the threads that arrived run on. Must not block.
  virtual void threads_go_on(bool) {}
  /// One thread of each node, after all of this node's threads arrived: flush (like on_release) and append what everybody must know. May block.
  virtual void on_barrier_arrive(Bytes& out) = 0;
  /// Merges another subtree's contribution into `sum` (which began as this node's). Called from message handlers: must not block.
  virtual void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) = 0;
  /// The merge of all nodes' contributions, before any of this node's threads leaves. May block.
  virtual void on_barrier_leave(std::span<const std::byte> sum) = 0;
  /// This node has learnt that another has died; comes before anybody is told of it. Any context; must not block.
  virtual void on_death(NodeId) {}
};

}  // namespace netvm::sync
