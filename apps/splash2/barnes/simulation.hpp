// SPLASH-2's barnes: the gravitational N-body problem by the method of Barnes and Hut (Nature 324, 1986), in three dimensions with quadrupoles.
// A step: find the box; build the tree (common/space_tree.hpp); divide the bodies by costzones; find each own body's acceleration by a walk through the tree; advance.
//
// 1. Costzones (Singh, Holt, Gupta, Hennessy, JPDC 1995): a body's cost is its interactions in the last step; the leaves in the tree's order are cut
//    into as many pieces of equal cost as there are processors. So the bodies of a processor lie together in space, and in memory nearly so
//    (common/space_order.hpp), until they have moved far.
// 2. A walk opens a cell if its edge is at least theta times the distance, or if the body lies in it.
// 3. What a walk meets does not depend on the number of processors, and so neither does the answer.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/splash2/barnes/tree.hpp"
#include "apps/splash2/common/job.hpp"

namespace splash2::barnes {

struct Parameters {
  std::size_t bodies = 16384;
  int steps = 4;
  double time_step = 0.025;
  double theta = 1.0;
  double softening = 0.05;
  bool in_space_order = true;  ///< of the bodies in memory
};

/// The same at all members, but for the time.
struct Result {
  double first_energy = 0;
  double last_energy = 0;
  double mass = 0;     ///< of the tree's root, at the end
  ProcessorTime time;  ///< the steps, and the walks in them
};

class Simulation {
 public:
  /// Collective, as the store is.
  Simulation(Store& store, const Parameters& parameters);
  /// Every member.
  Result run(Team& team);

  [[nodiscard]] Place& place(std::size_t body) const { return places_.all()[slot(body)]; }
  [[nodiscard]] Motion& motion(std::size_t body) const { return motions_.all()[slot(body)]; }

 private:
  [[nodiscard]] std::size_t slot(std::size_t body) const { return body / share_ * places_.stride() + body % share_; }
  void make_input(const Team& team, std::vector<std::int32_t>& own);
  double find_box(Team& team, const std::vector<std::int32_t>& own) const;
  void choose_zone(const Team& team, std::vector<std::int32_t>& own) const;
  void add_zone(const Node& node, std::int64_t before, std::int64_t begin, std::int64_t end, std::vector<std::int32_t>& own) const;
  void find_forces(Team& team, Tree::Builder& builder, std::vector<std::int32_t>& own, ProcessorTime& time);
  void walk(std::int32_t body);
  void kick(const std::vector<std::int32_t>& own, double time);
  double energy(Team& team, const std::vector<std::int32_t>& own) const;

  Parameters parameters_;
  std::size_t share_;
  Parts<Place> places_;
  Parts<Motion> motions_;
  Tree tree_;
};

}  // namespace splash2::barnes
