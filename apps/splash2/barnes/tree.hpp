// The octree of barnes in shared memory, which all processors build together.
//
// 1. The first three levels are always there (a root, 8, 64 cells), so that processors meet at many locks and not at one.
// 2. A processor merges its bodies into the tree cell by cell: under the cell's lock it hangs what it has in an empty octant there as a whole, adds to
//    a leaf or makes a cell of it; then, without the lock, it goes on in the octants that are cells. So a body costs far less than a lock (Shan, Singh,
//    IPPS 1998, compare this with inserting one by one).
// 3. A cell's references belong to its lock; a leaf belongs to the lock of the cell that it hangs on, as does everything below a reference at the moment
//    it is set. Nobody reads a reference without the lock before the barrier that ends building: no races; scope consistency suffices.
// 4. A leaf holds up to kLeaf bodies, in the order of their numbers once summarize() is through. The tree depends on the bodies alone.
// 5. summarize() goes up level by level with a barrier each; who made a node summarizes it.
#pragma once

#include <cstdint>
#include <span>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/common/vec3.hpp"

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

inline constexpr int kLeaf = 8;

struct Node {
  netvm::mutex lock;
  std::int32_t reference[kLeaf];  ///< leaf: bodies; cell: nodes plus one, 0: none
  std::int32_t bodies;            ///< in this leaf; -1: a cell
  Vec3 middle;
  double half;  ///< of the edge
  // Summary.
  double mass;
  Vec3 centre;
  double quadrupole[6];  ///< about the centre: xx, yy, zz, xy, xz, yz; without trace
  std::int64_t cost;
  [[nodiscard]] bool leaf() const { return bodies >= 0; }
};

class Tree {
 public:
  /// Collective, as the store is.
  Tree(Store& store, std::size_t bodies, const Place* places, const Motion* motions);

  /// One member's view; private to its thread.
  class Builder {
   public:
    Builder(const Tree& tree, Team& team);
    /// All steps of building; all members call, each with its own bodies, all of which lie within `half` of the origin. A barrier at both ends.
    void build(std::span<const std::int32_t> own, double half);

   private:
    void make_top(double half);
    void merge(std::int32_t cell, int level, const std::vector<std::int32_t>& own);
    void merge_octant(Node& cell, int octant, int level, std::vector<std::int32_t>& own);
    std::int32_t hang(std::span<std::int32_t> bodies, Vec3 middle, double half, int level);
    void fill_cell(Node& cell, std::span<std::int32_t> bodies, int level);
    std::int32_t make_node(Vec3 middle, double half, int level);
    void summarize();

    const Tree& tree_;
    Team& team_;
    std::size_t used_ = 0;                         ///< of this member's nodes
    std::vector<std::vector<std::int32_t>> made_;  ///< by level
  };

  [[nodiscard]] Node& node(std::int32_t index) const {
    return index < kTop ? top_[index] : nodes_.all()[static_cast<std::size_t>(index - kTop)];
  }
  [[nodiscard]] const Node& root() const { return top_[0]; }
  [[nodiscard]] const Place& place(std::int32_t body) const { return places_[body]; }
  [[nodiscard]] std::int64_t cost(std::int32_t body) const { return motions_[body].cost; }

 private:
  static constexpr std::int32_t kTop = 1 + 8 + 64;
  static constexpr int kTopLevels = 3;
  static constexpr int kMostLevels = 64;

  void summarize_leaf(Node& leaf) const;
  void summarize_cell(Node& cell) const;

  std::size_t capacity_;  ///< nodes of a member
  Parts<Node> nodes_;
  Node* top_;
  const Place* places_;
  const Motion* motions_;
};

}  // namespace splash2::barnes
