// sc-fixed: sequentially consistent, with a fixed distributed manager (Li and Hudak 1989, section 3.1). See ivy.cpp and docs/protocols/sc-fixed.md.
//
// The home of a page is its manager. Every request goes there; the manager passes it on to the owner and notes that the ownership moves if it is
// one for writing, before it moved: later requests then go to the node that will be the owner, and wait there. So a request is passed on once at
// most, nothing need be confirmed to the manager, and what it knows is one node a page.
#pragma once

#include <memory>

#include "dsm/protocols/ivy.hpp"

namespace netvm::dsm {

class ScFixed : public Ivy {
 public:
  using Ivy::Ivy;
  static constexpr Traits kTraits{
      "sc-fixed", Consistency::sequential,
      "sequentially consistent: one writer or many readers a page, the page's home knows the owner (IVY); racy programs work"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<ScFixed>(env); }

 protected:
  [[nodiscard]] bool follows_owner(NodeId home) const override { return home == env().node(); }
  [[nodiscard]] bool learns_owner() const override { return false; }  // the manager knows better
};

}  // namespace netvm::dsm
