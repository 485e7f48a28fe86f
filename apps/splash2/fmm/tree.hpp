// The quadtree of fmm: what it knows of each box. How processors build it together: common/space_tree.hpp.
//
// 1. A box's multipole expansion lies beside the tree, at the box's place: a leaf's comes from its bodies, a cell's from its children's.
// 2. Boxes without bodies exist in the tree's first levels alone; their count is 0, and nobody reads more of them.
#pragma once

#include <cstdint>
#include <memory>

#include "apps/splash2/common/space_tree.hpp"
#include "apps/splash2/fmm/expansion.hpp"

namespace splash2::fmm {

/// What everybody reads of a body.
struct Place {
  Complex at;
  double mass;
};

/// What its processor alone uses, for a step.
struct Motion {
  Complex velocity;
  Complex acceleration;
  double potential;
  std::int64_t cost;  ///< of the last step, in interactions of two bodies
};

struct Bodies {
  using Point = Complex;
  static constexpr int kDimensions = 2;
  static constexpr int kLeaf = 40;  // as in the suite
  static constexpr int kTopLevels = 4;
  static constexpr int kMostLevels = 64;
  struct Summary {
    std::int64_t count;  ///< bodies below
    std::int64_t cost;
  };

  [[nodiscard]] Complex position(std::int32_t body) const { return places[body].at; }
  void summarize(const SpaceTree<Bodies>& tree, std::int32_t index) const;
  [[nodiscard]] Complex* multipole(const SpaceTree<Bodies>& tree, std::int32_t index) const {
    const auto [rank, place] = tree.place_of(index);
    return (rank < 0 ? top_multipoles : multipoles.of(rank)) + place * expansions->length();
  }

  const Place* places;
  const Motion* motions;
  std::shared_ptr<const Expansions> expansions;
  Parts<Complex> multipoles;
  Complex* top_multipoles;
};

class Tree : public SpaceTree<Bodies> {
 public:
  /// Collective, as the store is.
  Tree(Store& store, std::size_t bodies, const Place* places, const Motion* motions, int terms);
  [[nodiscard]] const Expansions& expansions() const { return *model().expansions; }
  [[nodiscard]] const Complex* multipole(std::int32_t index) const { return model().multipole(*this, index); }
  [[nodiscard]] const Place& place(std::int32_t body) const { return model().places[body]; }
};
using Node = Tree::Node;

}  // namespace splash2::fmm
