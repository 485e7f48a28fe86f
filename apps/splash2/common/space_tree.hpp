// A tree over the bodies in a square or cube of space, in shared memory, which all processors build together: barnes's octree and fmm's quadtree.
//
// 1. The first levels are always there (barnes: a root, 8, 64 cells), so that processors meet at many locks and not at one.
// 2. A processor merges its bodies into the tree cell by cell: under the cell's lock it hangs what it has in an empty octant there as a whole, adds to
//    a leaf or makes a cell of it; then, without the lock, it goes on in the octants that are cells. So a body costs far less than a lock (Shan, Singh,
//    IPPS 1998, compare this with inserting one by one).
// 3. A cell's references belong to its lock; a leaf belongs to the lock of the cell that it hangs on, as does everything below a reference at the moment
//    it is set. Nobody reads a reference without the lock before the barrier that ends building: no races; scope consistency suffices.
// 4. A leaf holds up to Model::kLeaf bodies, in the order of their numbers once they are summarized. The tree depends on the bodies alone.
// 5. Summaries go up level by level with a barrier each; who made a node summarizes it.
// A Model has: Point (with coordinates, below), kDimensions, kLeaf, kTopLevels, kMostLevels; Summary, what a node has beyond its place, of trivial type; Point position(body);
// and summarize(tree, index), which sees the nodes below summarized and the bodies of a leaf in order.
#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/common/vec3.hpp"

namespace splash2 {

inline double coordinate(const Vec3& at, int axis) { return at[axis]; }
inline double coordinate(const std::complex<double>& at, int axis) { return axis == 0 ? at.real() : at.imag(); }
inline Vec3 point_of(const std::array<double, 3>& at) { return {at[0], at[1], at[2]}; }
inline std::complex<double> point_of(const std::array<double, 2>& at) { return {at[0], at[1]}; }

template <class Model>
class SpaceTree {
 public:
  using Point = typename Model::Point;
  static constexpr int kChildren = 1 << Model::kDimensions;

  struct Node : Model::Summary {
    netvm::mutex lock;
    std::int32_t reference[static_cast<std::size_t>(std::max(kChildren, Model::kLeaf))];  ///< leaf: bodies; cell: nodes plus one, 0: none
    std::int32_t bodies;                                                                  ///< in this leaf; -1: a cell
    Point middle;
    double half;  ///< of the edge
    [[nodiscard]] bool leaf() const { return bodies >= 0; }
    [[nodiscard]] std::span<const std::int32_t> own_bodies() const { return {reference, static_cast<std::size_t>(bodies)}; }
    /// Of a cell: node numbers plus one, 0 where there is none.
    [[nodiscard]] std::span<const std::int32_t> children() const { return {reference, static_cast<std::size_t>(kChildren)}; }
  };

  /// Collective, as the store is.
  SpaceTree(Store& store, std::size_t bodies, Model model)
      : capacity_(capacity_for(store, bodies)),
        nodes_(store.parts<Node>(capacity_)),
        top_(store.array<Node>(kTop)),
        model_(std::move(model)) {}

  [[nodiscard]] Node& node(std::int32_t index) const {
    return index < kTop ? top_[index] : nodes_.all()[static_cast<std::size_t>(index - kTop)];
  }
  [[nodiscard]] const Node& root() const { return top_[0]; }
  [[nodiscard]] const Model& model() const { return model_; }
  /// A node's place in a table beside the tree that has kTop entries for all and capacity_for() for each processor: {-1, i}, or {rank, i}.
  [[nodiscard]] std::pair<int, std::size_t> place_of(std::int32_t index) const {
    if (index < kTop) return {-1, static_cast<std::size_t>(index)};
    const auto slot = static_cast<std::size_t>(index - kTop);
    return {static_cast<int>(slot / nodes_.stride()), slot % nodes_.stride()};
  }
  [[nodiscard]] static std::size_t capacity_for(const Store& store, std::size_t bodies) {
    return 2 * bodies / static_cast<std::size_t>(store.processors()) + 1024;
  }

  /// One member's view; private to its thread.
  class Builder {
   public:
    Builder(const SpaceTree& tree, Team& team) : tree_(tree), team_(team), made_(Model::kMostLevels) {}
    /// All steps of building; all members call, each with its own bodies, all of which lie within `half` of the origin. A barrier at both ends.
    void build(std::span<const std::int32_t> own, double half);

   private:
    void make_top(double half);
    void merge(std::int32_t cell, int level, const std::vector<std::int32_t>& own);
    void merge_octant(Node& cell, int octant, int level, std::vector<std::int32_t>& own);
    std::int32_t hang(std::span<std::int32_t> bodies, Point middle, double half, int level);
    void fill_cell(Node& cell, std::span<std::int32_t> bodies, int level);
    std::int32_t make_node(Point middle, double half, int level);
    void summarize();

    const SpaceTree& tree_;
    Team& team_;
    std::size_t used_ = 0;                         ///< of this member's nodes
    std::vector<std::vector<std::int32_t>> made_;  ///< by level
  };

  /// Nodes down to a level of the top.
  static constexpr std::int32_t nodes_above(int level) {
    std::int32_t count = 0;
    for (std::int32_t i = 0, width = 1; i < level; ++i, width *= kChildren) count += width;
    return count;
  }
  static constexpr std::int32_t kTop = nodes_above(Model::kTopLevels);

 private:
  static int octant_of(const Point& at, const Point& middle) {
    int octant = 0;
    for (int axis = 0; axis < Model::kDimensions; ++axis) octant |= coordinate(at, axis) >= coordinate(middle, axis) ? 1 << axis : 0;
    return octant;
  }
  static Point middle_of(const Point& middle, double half, int octant) {
    std::array<double, Model::kDimensions> at;
    for (int axis = 0; axis < Model::kDimensions; ++axis)
      at[static_cast<std::size_t>(axis)] = coordinate(middle, axis) + ((octant >> axis & 1) != 0 ? half / 2 : -half / 2);
    return point_of(at);
  }

  std::size_t capacity_;  ///< nodes of a member
  Parts<Node> nodes_;
  Node* top_;
  Model model_;
};

template <class Model>
void SpaceTree<Model>::Builder::build(std::span<const std::int32_t> own, double half) {
  used_ = 0;
  for (std::vector<std::int32_t>& level : made_) level.clear();
  make_top(half);
  team_.barrier();
  // Each begins with another cell of the top's last level; the bodies are sorted to them first.
  constexpr std::int32_t kFirst = nodes_above(Model::kTopLevels - 1);
  std::array<std::vector<std::int32_t>, kTop - kFirst> sorted;
  for (const std::int32_t body : own) {
    std::int32_t cell = 0;
    while (cell < kFirst) cell = kChildren * cell + 1 + octant_of(tree_.model_.position(body), tree_.node(cell).middle);
    sorted[static_cast<std::size_t>(cell - kFirst)].push_back(body);
  }
  const std::size_t begin = sorted.size() * static_cast<std::size_t>(team_.rank()) / static_cast<std::size_t>(team_.count());
  for (std::size_t turn = 0; turn < sorted.size(); ++turn) {
    const std::size_t cell = (begin + turn) % sorted.size();
    merge(kFirst + static_cast<std::int32_t>(cell), Model::kTopLevels - 1, sorted[cell]);
  }
  team_.barrier();
  summarize();
}

/// Members make the nodes of the top in turn. Those below node i are kChildren i + 1 and so on.
template <class Model>
void SpaceTree<Model>::Builder::make_top(double half) {
  for (std::int32_t index = team_.rank(); index < kTop; index += team_.count()) {
    std::vector<int> way;  // from the node to the root
    for (std::int32_t at = index; at > 0; at = (at - 1) / kChildren) way.push_back((at - 1) % kChildren);
    const auto level = static_cast<int>(way.size());
    Node& node = tree_.node(index);
    node.middle = Point{};
    node.half = half;
    for (; !way.empty(); way.pop_back()) {
      node.middle = middle_of(node.middle, node.half, way.back());
      node.half /= 2;
    }
    node.bodies = -1;
    for (std::int32_t octant = 0; octant < kChildren; ++octant)
      node.reference[octant] = level + 1 < Model::kTopLevels ? kChildren * index + 1 + octant + 1 : 0;
    made_[static_cast<std::size_t>(level)].push_back(index);
  }
}

template <class Model>
void SpaceTree<Model>::Builder::merge(std::int32_t cell, int level, const std::vector<std::int32_t>& own) {
  if (own.empty()) return;
  Node& node = tree_.node(cell);
  const Point middle = node.middle;
  std::array<std::vector<std::int32_t>, kChildren> parts;
  for (const std::int32_t body : own) parts[static_cast<std::size_t>(octant_of(tree_.model_.position(body), middle))].push_back(body);
  std::array<std::int32_t, kChildren> deeper{};
  {
    const TeamLock guard(team_, node.lock);
    for (int octant = 0; octant < kChildren; ++octant) {
      std::vector<std::int32_t>& part = parts[static_cast<std::size_t>(octant)];
      if (part.empty()) continue;
      const std::int32_t below = node.reference[octant];
      if (below != 0 && !tree_.node(below - 1).leaf()) {
        deeper[static_cast<std::size_t>(octant)] = below;
      } else {
        merge_octant(node, octant, level, part);
      }
    }
  }
  for (std::size_t octant = 0; octant < deeper.size(); ++octant) {
    if (deeper[octant] != 0) merge(deeper[octant] - 1, level + 1, parts[octant]);
  }
}

/// Under the cell's lock: the octant is empty or a leaf.
template <class Model>
void SpaceTree<Model>::Builder::merge_octant(Node& cell, int octant, int level, std::vector<std::int32_t>& own) {
  const std::int32_t below = cell.reference[octant];
  if (below == 0) {
    cell.reference[octant] = 1 + hang(own, middle_of(cell.middle, cell.half, octant), cell.half / 2, level + 1);
    return;
  }
  Node& leaf = tree_.node(below - 1);
  own.insert(own.end(), leaf.reference, leaf.reference + leaf.bodies);
  if (own.size() <= Model::kLeaf) {
    std::copy(own.begin(), own.end(), leaf.reference);
    leaf.bodies = static_cast<std::int32_t>(own.size());
  } else {
    fill_cell(leaf, own, level + 1);
  }
}

/// Makes a node of these bodies with all that is below it.
template <class Model>
std::int32_t SpaceTree<Model>::Builder::hang(std::span<std::int32_t> bodies, Point middle, double half, int level) {
  const std::int32_t index = make_node(middle, half, level);
  Node& node = tree_.node(index);
  if (bodies.size() <= Model::kLeaf) {
    std::copy(bodies.begin(), bodies.end(), node.reference);
    node.bodies = static_cast<std::int32_t>(bodies.size());
  } else {
    fill_cell(node, bodies, level);
  }
  return index;
}

template <class Model>
void SpaceTree<Model>::Builder::fill_cell(Node& cell, std::span<std::int32_t> bodies, int level) {
  cell.bodies = -1;
  auto first = bodies.begin();
  for (int octant = 0; octant < kChildren; ++octant) {
    const auto last =
        std::partition(first, bodies.end(), [&](std::int32_t b) { return octant_of(tree_.model_.position(b), cell.middle) == octant; });
    const std::span<std::int32_t> part(first, last);
    cell.reference[octant] = part.empty() ? 0 : 1 + hang(part, middle_of(cell.middle, cell.half, octant), cell.half / 2, level + 1);
    first = last;
  }
}

template <class Model>
std::int32_t SpaceTree<Model>::Builder::make_node(Point middle, double half, int level) {
  if (level >= Model::kMostLevels)
    throw std::runtime_error("more than " + std::to_string(Model::kLeaf) + " bodies lie at one point: the tree would never end");
  if (used_ == tree_.capacity_) throw std::runtime_error("a processor's room for tree nodes is used up: the bodies lie too unevenly");
  const std::size_t slot = static_cast<std::size_t>(team_.rank()) * tree_.nodes_.stride() + used_++;
  const auto index = static_cast<std::int32_t>(slot) + kTop;
  Node& node = tree_.node(index);
  node.middle = middle;
  node.half = half;
  made_[static_cast<std::size_t>(level)].push_back(index);
  return index;
}

template <class Model>
void SpaceTree<Model>::Builder::summarize() {
  double deepest = 0;
  for (std::size_t level = 0; level < made_.size(); ++level) {
    if (!made_[level].empty()) deepest = static_cast<double>(level);
  }
  for (auto level = static_cast<int>(team_.max(deepest)); level >= 0; --level) {
    for (const std::int32_t index : made_[static_cast<std::size_t>(level)]) {
      Node& node = tree_.node(index);
      if (node.leaf()) std::sort(node.reference, node.reference + node.bodies);
      tree_.model_.summarize(tree_, index);
    }
    team_.barrier();
  }
}

}  // namespace splash2
