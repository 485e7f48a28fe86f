// What the token of an object other than a mutex carries from holder to holder: the object's state. A mutex's token carries nothing.
#pragma once

#include <span>

#include "sync/coherence_hook.hpp"

namespace netvm::sync {

class TokenCargo {
 public:
  virtual ~TokenCargo() = default;
  /// The token leaves this node. Nobody of this node holds it or will until unpack(). Called from message handlers: must not block.
  virtual void pack(SyncId object, Bytes& out) = 0;
  /// The token has come, and nobody holds it yet. False: malformed. Called from message handlers: must not block.
  [[nodiscard]] virtual bool unpack(SyncId object, std::span<const std::byte> cargo) = 0;
  /// The token died with a node: it comes to nobody any more, and who asks for it gets E_OWNER_DEAD. Once for each object that a thread of this node
  /// used. Must not block.
  virtual void lost(SyncId) {}
};

}  // namespace netvm::sync
