// The octree of barnes: which bodies it holds and what it knows of each node. How processors build it together: common/space_tree.hpp.
#pragma once

#include <cstdint>

#include "apps/splash2/common/space_tree.hpp"

namespace splash2::barnes {

/// What everybody reads of a body.
struct Place {
  Vec3 at;
  double mass;
};

/// What its processor alone uses, for a step.
struct Motion {
  Vec3 velocity;
  Vec3 acceleration;
  double potential;
  std::int64_t cost;  ///< interactions in the last step
};

struct Bodies {
  using Point = Vec3;
  static constexpr int kDimensions = 3;
  static constexpr int kLeaf = 8;
  static constexpr int kTopLevels = 3;
  static constexpr int kMostLevels = 64;
  struct Summary {
    double mass;
    Vec3 centre;
    double quadrupole[6];  ///< about the centre: xx, yy, zz, xy, xz, yz; without trace
    std::int64_t cost;
  };

  [[nodiscard]] Vec3 position(std::int32_t body) const { return places[body].at; }
  void summarize(const SpaceTree<Bodies>& tree, std::int32_t index) const;

  const Place* places;
  const Motion* motions;
};

class Tree : public SpaceTree<Bodies> {
 public:
  /// Collective, as the store is.
  Tree(Store& store, std::size_t bodies, const Place* places, const Motion* motions) : SpaceTree(store, bodies, {places, motions}) {}
  [[nodiscard]] const Place& place(std::int32_t body) const { return model().places[body]; }
  [[nodiscard]] std::int64_t cost(std::int32_t body) const { return model().motions[body].cost; }
};
using Node = Tree::Node;

}  // namespace splash2::barnes
