#include "apps/splash2/barnes/tree.hpp"

#include <algorithm>

namespace splash2::barnes {

namespace {

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

void summarize_leaf(const Bodies& model, Node& leaf) {
  Vec3 moment;
  for (const std::int32_t body : leaf.own_bodies()) {
    const Place& place = model.places[body];
    leaf.mass += place.mass;
    leaf.cost += model.motions[body].cost;
    moment += place.at * place.mass;
  }
  leaf.centre = moment * (1 / leaf.mass);
  for (const std::int32_t body : leaf.own_bodies())
    add_point(leaf.quadrupole, model.places[body].mass, model.places[body].at - leaf.centre);
}

void summarize_cell(const SpaceTree<Bodies>& tree, Node& cell) {
  Vec3 moment;
  for (const std::int32_t below : cell.children()) {
    if (below == 0) continue;
    const Node& child = tree.node(below - 1);
    cell.mass += child.mass;
    cell.cost += child.cost;
    moment += child.centre * child.mass;
  }
  cell.centre = cell.mass > 0 ? moment * (1 / cell.mass) : cell.middle;
  for (const std::int32_t below : cell.children()) {
    if (below == 0) continue;
    const Node& child = tree.node(below - 1);
    for (int i = 0; i < 6; ++i) cell.quadrupole[i] += child.quadrupole[i];
    add_point(cell.quadrupole, child.mass, child.centre - cell.centre);
  }
}

}  // namespace

void Bodies::summarize(const SpaceTree<Bodies>& tree, std::int32_t index) const {
  Node& node = tree.node(index);
  static_cast<Summary&>(node) = {};
  if (node.leaf()) {
    summarize_leaf(*this, node);
  } else {
    summarize_cell(tree, node);
  }
}

}  // namespace splash2::barnes
