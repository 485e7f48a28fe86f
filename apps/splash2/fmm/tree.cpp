#include "apps/splash2/fmm/tree.hpp"

#include <algorithm>

namespace splash2::fmm {

namespace {

Bodies make_model(Store& store, std::size_t bodies, const Place* places, const Motion* motions, int terms) {
  auto expansions = std::make_shared<const Expansions>(terms);
  const std::size_t length = expansions->length();
  const auto multipoles = store.parts<Complex>(SpaceTree<Bodies>::capacity_for(store, bodies) * length);
  auto* const top = store.array<Complex>(static_cast<std::size_t>(SpaceTree<Bodies>::kTop) * length);
  return {places, motions, std::move(expansions), multipoles, top};
}

}  // namespace

Tree::Tree(Store& store, std::size_t bodies, const Place* places, const Motion* motions, int terms)
    : SpaceTree(store, bodies, make_model(store, bodies, places, motions, terms)) {}

void Bodies::summarize(const SpaceTree<Bodies>& tree, std::int32_t index) const {
  auto& node = tree.node(index);
  static_cast<Summary&>(node) = {};
  Complex* const series = multipole(tree, index);
  std::fill_n(series, expansions->length(), Complex{});
  if (node.leaf()) {
    for (const std::int32_t body : node.own_bodies()) {
      node.count += 1;
      node.cost += motions[body].cost;
      expansions->add_mass(places[body].mass, (places[body].at - node.middle) / node.half, series);
    }
    return;
  }
  for (const std::int32_t below : node.children()) {
    if (below == 0) continue;
    const auto& child = tree.node(below - 1);
    if (child.count == 0) continue;
    node.count += child.count;
    node.cost += child.cost;
    expansions->add_child(multipole(tree, below - 1), (child.middle - node.middle) / node.half, series);
  }
}

}  // namespace splash2::fmm
