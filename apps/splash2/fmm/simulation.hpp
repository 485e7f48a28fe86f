// SPLASH-2's fmm: bodies in the plane by the adaptive fast multipole method (descent.hpp). A step: find the square; build the tree with its multipole expansions
// (tree.hpp); go down through the boxes of the own zone to the field at its bodies; advance.
//
// 1. Zones (costzones: Singh, Holt, Gupta, Hennessy, JPDC 1995): a body's cost is that of its last step; the leaves in the tree's order are cut into as many pieces of
//    equal cost as there are processors. So the bodies of a processor lie together in space, and in memory nearly so
//    (common/space_order.hpp), until they have moved far.
// 2. What acts on a body does not depend on the number of processors, and neither does the order in which it is added: the answer is the same to the bit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/fmm/descent.hpp"

namespace splash2::fmm {

struct Parameters {
  std::size_t bodies = 16384;
  int clusters = 2;
  std::string distribution = "plummer";
  double precision = 1e-6;
  int steps = 5;
  double time_step = 0.025;
  bool in_space_order = true;  ///< of the bodies in memory
};

/// The same at all members, but for the time.
struct Result {
  double first_energy = 0;
  double last_energy = 0;
  double count = 0;       ///< bodies in the tree, at the end
  double incomplete = 0;  ///< leaves on which not every body acted once, in all steps
  ProcessorTime time;     ///< the steps, and the ways down in them
};

class Simulation {
 public:
  /// Collective, as the store is.
  Simulation(Store& store, const Parameters& parameters);
  /// Every member.
  Result run(Team& team);

  [[nodiscard]] Place& place(std::size_t body) const { return places_.all()[slot(body)]; }
  [[nodiscard]] Motion& motion(std::size_t body) const { return motions_.all()[slot(body)]; }
  [[nodiscard]] const Tree& tree() const { return tree_; }

 private:
  using Own = std::vector<std::int32_t>;
  [[nodiscard]] std::size_t slot(std::size_t body) const { return body / share_ * places_.stride() + body % share_; }
  void make_input(const Team& team, Own& own);
  double find_square(Team& team, const Own& own) const;
  void find_fields(Team& team, Tree::Builder& builder, Own& own, bool potentials, Result& result);
  void kick(const Own& own, double time);
  double energy(Team& team, const Own& own) const;

  Parameters parameters_;
  std::size_t share_;
  Parts<Place> places_;
  Parts<Motion> motions_;
  Tree tree_;
};

}  // namespace splash2::fmm
