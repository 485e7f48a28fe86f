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
};

}  // namespace netvm::sync
