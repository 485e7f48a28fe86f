// What the token of an object other than a mutex carries from holder to holder: the object's state. A mutex's token carries nothing.
// And what rides ahead of it: an operation that a node sends along with its request for the token, to be done where the token is.
#pragma once

#include <span>

#include "sync/coherence_hook.hpp"

namespace netvm::sync {

/// An operation that goes along with a request; what is in it only the cargo knows.
struct Ride;
struct LockState;

class TokenCargo {
 public:
  virtual ~TokenCargo() = default;
  /// A new object's, to be kept until nobody uses mutexes any more. Called by one thread at a time; must not block.
  virtual LockState& make_state() = 0;
  /// The token leaves this node. Nobody of this node holds it or will until unpack(). Called from message handlers: must not block.
  virtual void pack(SyncId object, Bytes& out) = 0;
  /// The token has come, and nobody holds it yet. False: malformed. Called from message handlers: must not block.
  [[nodiscard]] virtual bool unpack(SyncId object, std::span<const std::byte> cargo) = 0;
  /// The token died with a node: it comes to nobody any more, and who asks for it gets E_OWNER_DEAD. Once for each object that a thread of this node
  /// used. Must not block.
  virtual void lost(SyncId) {}

  /// Whether threads of this node have it, or wait for it; memory with such an object must not be freed. Any context; must not block.
  [[nodiscard]] virtual bool in_use(SyncId) { return false; }
  /// The token lies idle here: whether its state says that a thread of any node is at work with it all the same. Must not block.
  [[nodiscard]] virtual bool at_work(SyncId) { return false; }
  /// The memory was freed. `here`: the token lies idle here, and stays so meanwhile. Any context; must not block.
  virtual void forget(SyncId, bool /*here*/) {}

  /// A request for the token is about to be sent to `predecessor`: appends what goes along. Nothing is fine. Must not block.
  virtual void board(SyncId, NodeId /*predecessor*/, const Ride&, Bytes& /*out*/) {}
  /// A node asks for the token, and tells this to the coherence layer. Called from message handlers: must not block.
  virtual void asked(SyncId, NodeId /*from*/, std::span<const std::byte> /*request*/) {}
  /// What came along with a request. The token is here, nobody holds it, and it goes to that node next. Called from message handlers: must not block.
  virtual void arrive(SyncId, NodeId /*from*/, std::span<const std::byte> /*ride*/) {}
};

}  // namespace netvm::sync
