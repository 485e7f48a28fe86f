// From the tree's expansions to the field at bodies: one processor's way down through the boxes of its zone (Carrier, Greengard, Rokhlin, SIAM J. Sci. Stat.
// Comput. 9, 1988, the adaptive method).
//
// What acts on a box comes from these lists, in the paper's order; each body is in exactly one of them, of the box or of one of the boxes above it:
//   U  leaves that touch the box, and itself (of a leaf): body by body.
//   V  boxes of its size that do not touch it, below those that touch its parent: their multipole into its local expansion.
//   W  smaller boxes that do not touch it, but whose parents do (of a leaf): their multipole at each of its bodies.
//   X  larger leaves that do not touch it, but touch its parent: each of their bodies into its local expansion.
// 1. A box's lists come from the boxes near its parent, which touch it or it lies in them: cells of the parent's size, and leaves of that size and more.
// 2. A zone is a range of costs in the tree's order; a leaf belongs to the zone in which it begins. Boxes above leaves of several zones are worked on by each of their
//    processors in private memory: some boxes a processor, and nobody waits for another's local expansion.
// 3. Everything shared is only read. What is computed does not depend on the zones.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/splash2/fmm/tree.hpp"

namespace splash2::fmm {

class Descent {
 public:
  /// Of the zone [begin, end).
  Descent(const Tree& tree, std::int64_t begin, std::int64_t end) : tree_(tree), begin_(begin), end_(end) {}

  struct Found {
    std::int32_t body;
    Field field;
    std::int64_t cost;
  };
  /// The field at all bodies of the zone. Potentials cost a logarithm for each pair: without them they are 0.
  std::vector<Found> run(bool potentials);
  /// Leaves of the zone on which not every body of the tree acted once: 0, or the lists are wrong.
  [[nodiscard]] std::int64_t incomplete() const { return incomplete_; }

 private:
  using Boxes = std::vector<std::int32_t>;
  /// A box on the way, with what its children need.
  struct Box {
    std::int32_t index;
    Boxes near;
    std::vector<Complex> local;
    std::int64_t acted = 0;  ///< bodies of V and X, of this box and those above
    double inherited = 0;    ///< cost of the work on boxes, for each body below
  };

  void visit(const Box& box, std::int64_t before);
  [[nodiscard]] Box child_of(const Box& parent, std::int32_t index) const;
  void evaluate(const Box& leaf);
  void gather(const Node& leaf, std::int32_t near, Boxes& u, Boxes& w) const;

  const Tree& tree_;
  std::int64_t begin_;
  std::int64_t end_;
  bool potentials_ = false;
  std::vector<Found> found_;
  std::int64_t incomplete_ = 0;
};

}  // namespace splash2::fmm
