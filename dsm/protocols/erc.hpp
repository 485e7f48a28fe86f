// erc: eager release consistency, Munin's write-shared protocol (Carter, Bennett, Zwaenepoel: Implementation and Performance of Munin, SOSP 1991, section 2.3.1 and 3.3).
// Everything is in eager_update.hpp. Changes go to members in messages, which members acknowledge: a member may write its copy at any time without telling anybody.
#pragma once

#include <memory>

#include "dsm/eager_update.hpp"

namespace netvm::dsm {

class Erc : public EagerUpdate {
 public:
  using EagerUpdate::EagerUpdate;
  static constexpr Traits kTraits{
      .name = "erc",
      .consistency = Consistency::release,
      .summary = "eager release consistency (Munin's write-shared): a release sends what was written to everybody who has a copy"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Erc>(env); }

 protected:
  [[nodiscard]] bool pushes_to_readers() const override { return false; }
};

}  // namespace netvm::dsm
