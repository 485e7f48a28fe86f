#include "apps/splash2/barnes/tree.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

namespace splash2::barnes {

namespace {

int octant_of(Vec3 at, Vec3 middle) { return (at.x >= middle.x ? 1 : 0) + (at.y >= middle.y ? 2 : 0) + (at.z >= middle.z ? 4 : 0); }

Vec3 middle_of(Vec3 middle, double half, int octant) {
  const double quarter = half / 2;
  return {middle.x + ((octant & 1) != 0 ? quarter : -quarter), middle.y + ((octant & 2) != 0 ? quarter : -quarter),
          middle.z + ((octant & 4) != 0 ? quarter : -quarter)};
}

/// Adds to `quadrupole` that of a mass at `from` its centre.
void add_point(double (&quadrupole)[6], double mass, Vec3 from) {
  const double square = norm2(from);
  quadrupole[0] += mass * (3 * from.x * from.x - square);
  quadrupole[1] += mass * (3 * from.y * from.y - square);
  quadrupole[2] += mass * (3 * from.z * from.z - square);
  quadrupole[3] += mass * 3 * from.x * from.y;
  quadrupole[4] += mass * 3 * from.x * from.z;
  quadrupole[5] += mass * 3 * from.y * from.z;
}

}  // namespace

Tree::Tree(Store& store, std::size_t bodies, const Place* places, const Motion* motions)
    : capacity_(2 * bodies / static_cast<std::size_t>(store.processors()) + 1024),
      nodes_(store.parts<Node>(capacity_)),
      top_(store.array<Node>(kTop)),
      places_(places),
      motions_(motions) {}

Tree::Builder::Builder(const Tree& tree, Team& team) : tree_(tree), team_(team), made_(kMostLevels) {}

void Tree::Builder::build(std::span<const std::int32_t> own, double half) {
  used_ = 0;
  for (std::vector<std::int32_t>& level : made_) level.clear();
  make_top(half);
  team_.barrier();
  // Each begins with another of the 64 cells; the bodies are sorted to them first.
  std::array<std::vector<std::int32_t>, 64> sorted;
  for (const std::int32_t body : own) {
    const Vec3 at = tree_.place(body).at;
    const Node& root = tree_.root();
    const int first = octant_of(at, root.middle);
    const int second = octant_of(at, middle_of(root.middle, root.half, first));
    sorted[static_cast<std::size_t>(first) * 8 + static_cast<std::size_t>(second)].push_back(body);
  }
  const std::size_t begin = sorted.size() * static_cast<std::size_t>(team_.rank()) / static_cast<std::size_t>(team_.count());
  for (std::size_t turn = 0; turn < sorted.size(); ++turn) {
    const std::size_t cell = (begin + turn) % sorted.size();
    merge(static_cast<std::int32_t>(9 + cell), kTopLevels - 1, sorted[cell]);
  }
  team_.barrier();
  summarize();
}

/// Members make the nodes of the top in turn.
void Tree::Builder::make_top(double half) {
  for (std::int32_t index = team_.rank(); index < kTop; index += team_.count()) {
    const int level = index == 0 ? 0 : index < 9 ? 1 : 2;
    Vec3 middle;
    if (level == 1) middle = middle_of(middle, half, index - 1);
    if (level == 2) middle = middle_of(middle_of(middle, half, (index - 9) / 8), half / 2, (index - 9) % 8);
    Node& node = tree_.node(index);
    node.middle = middle;
    node.half = half / (1 << level);
    node.bodies = -1;
    for (std::int32_t octant = 0; octant < 8; ++octant) {
      // Node numbers plus one: the children of the root are 1 .. 8, of those 9 + 8 (index - 1) + octant.
      node.reference[octant] = level == 0 ? 1 + octant + 1 : level == 1 ? 9 + 8 * (index - 1) + octant + 1 : 0;
    }
    made_[static_cast<std::size_t>(level)].push_back(index);
  }
}

void Tree::Builder::merge(std::int32_t cell, int level, const std::vector<std::int32_t>& own) {
  if (own.empty()) return;
  Node& node = tree_.node(cell);
  const Vec3 middle = node.middle;
  std::array<std::vector<std::int32_t>, 8> parts;
  for (const std::int32_t body : own) parts[static_cast<std::size_t>(octant_of(tree_.place(body).at, middle))].push_back(body);
  std::array<std::int32_t, 8> deeper{};
  {
    const TeamLock guard(team_, node.lock);
    for (int octant = 0; octant < 8; ++octant) {
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
  for (std::size_t octant = 0; octant < 8; ++octant) {
    if (deeper[octant] != 0) merge(deeper[octant] - 1, level + 1, parts[octant]);
  }
}

/// Under the cell's lock: the octant is empty or a leaf.
void Tree::Builder::merge_octant(Node& cell, int octant, int level, std::vector<std::int32_t>& own) {
  const std::int32_t below = cell.reference[octant];
  if (below == 0) {
    cell.reference[octant] = 1 + hang(own, middle_of(cell.middle, cell.half, octant), cell.half / 2, level + 1);
    return;
  }
  Node& leaf = tree_.node(below - 1);
  own.insert(own.end(), leaf.reference, leaf.reference + leaf.bodies);
  if (own.size() <= kLeaf) {
    std::copy(own.begin(), own.end(), leaf.reference);
    leaf.bodies = static_cast<std::int32_t>(own.size());
  } else {
    fill_cell(leaf, own, level + 1);
  }
}

/// Makes a node of these bodies with all that is below it.
std::int32_t Tree::Builder::hang(std::span<std::int32_t> bodies, Vec3 middle, double half, int level) {
  const std::int32_t index = make_node(middle, half, level);
  Node& node = tree_.node(index);
  if (bodies.size() <= kLeaf) {
    std::copy(bodies.begin(), bodies.end(), node.reference);
    node.bodies = static_cast<std::int32_t>(bodies.size());
  } else {
    fill_cell(node, bodies, level);
  }
  return index;
}

void Tree::Builder::fill_cell(Node& cell, std::span<std::int32_t> bodies, int level) {
  cell.bodies = -1;
  auto first = bodies.begin();
  for (int octant = 0; octant < 8; ++octant) {
    const auto last =
        std::partition(first, bodies.end(), [&](std::int32_t b) { return octant_of(tree_.place(b).at, cell.middle) == octant; });
    const std::span<std::int32_t> part(first, last);
    cell.reference[octant] = part.empty() ? 0 : 1 + hang(part, middle_of(cell.middle, cell.half, octant), cell.half / 2, level + 1);
    first = last;
  }
}

std::int32_t Tree::Builder::make_node(Vec3 middle, double half, int level) {
  if (level >= kMostLevels) throw std::runtime_error("more than 8 bodies lie at one point: the tree would never end");
  if (used_ == tree_.capacity_) throw std::runtime_error("a processor's room for tree nodes is used up: the bodies lie too unevenly");
  const std::size_t slot = static_cast<std::size_t>(team_.rank()) * tree_.nodes_.stride() + used_++;
  const auto index = static_cast<std::int32_t>(slot) + kTop;
  Node& node = tree_.node(index);
  node.middle = middle;
  node.half = half;
  made_[static_cast<std::size_t>(level)].push_back(index);
  return index;
}

void Tree::Builder::summarize() {
  double deepest = 0;
  for (std::size_t level = 0; level < made_.size(); ++level) {
    if (!made_[level].empty()) deepest = static_cast<double>(level);
  }
  for (auto level = static_cast<int>(team_.max(deepest)); level >= 0; --level) {
    for (const std::int32_t index : made_[static_cast<std::size_t>(level)]) {
      Node& node = tree_.node(index);
      if (node.leaf()) {
        tree_.summarize_leaf(node);
      } else {
        tree_.summarize_cell(node);
      }
    }
    team_.barrier();
  }
}

void Tree::summarize_leaf(Node& leaf) const {
  std::sort(leaf.reference, leaf.reference + leaf.bodies);
  leaf.mass = 0;
  leaf.cost = 0;
  Vec3 moment;
  for (int i = 0; i < leaf.bodies; ++i) {
    const Place& body = place(leaf.reference[i]);
    leaf.mass += body.mass;
    leaf.cost += cost(leaf.reference[i]);
    moment += body.at * body.mass;
  }
  leaf.centre = moment * (1 / leaf.mass);
  std::fill(std::begin(leaf.quadrupole), std::end(leaf.quadrupole), 0.0);
  for (int i = 0; i < leaf.bodies; ++i) {
    const Place& body = place(leaf.reference[i]);
    add_point(leaf.quadrupole, body.mass, body.at - leaf.centre);
  }
}

void Tree::summarize_cell(Node& cell) const {
  cell.mass = 0;
  cell.cost = 0;
  Vec3 moment;
  for (const std::int32_t below : cell.reference) {
    if (below == 0) continue;
    const Node& child = node(below - 1);
    cell.mass += child.mass;
    cell.cost += child.cost;
    moment += child.centre * child.mass;
  }
  cell.centre = cell.mass > 0 ? moment * (1 / cell.mass) : cell.middle;
  std::fill(std::begin(cell.quadrupole), std::end(cell.quadrupole), 0.0);
  for (const std::int32_t below : cell.reference) {
    if (below == 0) continue;
    const Node& child = node(below - 1);
    for (int i = 0; i < 6; ++i) cell.quadrupole[i] += child.quadrupole[i];
    add_point(cell.quadrupole, child.mass, child.centre - cell.centre);
  }
}

}  // namespace splash2::barnes
