// update: write-update at release for stable consumers, in the style of AURC (Iftode, Dubnicki, Felten, Li: HPCA 1996) and Cashmere (Kontothanassis et al.: ISCA 1997).
// Everything is in eager_update.hpp. The home writes changes one-sided into the frames of consumers, whose processors do not notice; a node that writes the page itself
// says so before its first write, and from then on gets changes in messages: its twin must be patched with its frame.
#pragma once

#include <memory>

#include "dsm/eager_update.hpp"

namespace netvm::dsm {

class Update : public EagerUpdate {
 public:
  using EagerUpdate::EagerUpdate;
  static constexpr Traits kTraits{
      .name = "update",
      .consistency = Consistency::release,
      .summary = "write-update for producers and consumers: a release writes the changes into the consumers' memory"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Update>(env); }

 protected:
  [[nodiscard]] bool pushes_to_readers() const override { return true; }
};

}  // namespace netvm::dsm
