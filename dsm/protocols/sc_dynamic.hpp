// sc-dynamic: sequentially consistent, with a dynamic distributed manager (Li and Hudak 1989, section 3.2). See ivy.cpp and docs/protocols/sc-dynamic.md.
//
// Each node that met a page has a hint: its probable owner, at first the page's home. A request follows the hints. Invariants:
//  1. From every node the hints lead to the owner, or to a node that is going to be the owner; there are no circles.
//  2. Who passes a write request on, or queues it, believes from then on that its requester is the owner: later requests go there and wait. So a request
//     for writing meets a node once at most, and the chains stay short (path reversal: Naimi, Trehel; O(log N) amortised: Ginat, Sleator, Tarjan 1989).
//  3. Reads leave hints alone. A reader believes whoever granted or invalidated, unless it is on its way to be the owner itself.
#pragma once

#include <memory>

#include "dsm/protocols/ivy.hpp"

namespace netvm::dsm {

class ScDynamic : public Ivy {
 public:
  using Ivy::Ivy;
  static constexpr Traits kTraits{
      "sc-dynamic", Consistency::sequential,
      "sequentially consistent: one writer or many readers a page, requests follow hints to the owner (IVY); racy programs work"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<ScDynamic>(env); }

 protected:
  [[nodiscard]] bool follows_owner(NodeId /*home*/) const override { return true; }
  [[nodiscard]] bool learns_owner() const override { return true; }
};

}  // namespace netvm::dsm
