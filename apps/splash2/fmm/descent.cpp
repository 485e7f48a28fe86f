#include "apps/splash2/fmm/descent.hpp"

#include <algorithm>
#include <cmath>

namespace splash2::fmm {

namespace {

// What operations cost, in interactions of two bodies: a term of a series at a body, and a term by a term between series.
constexpr double kTerm = 0.3;
constexpr double kTermByTerm = 0.1;

/// They share a point, at least. Exact: all centres and edges are sums of few powers of two.
bool touch(const Node& a, const Node& b) {
  const Complex from = a.middle - b.middle;
  return std::max(std::abs(from.real()), std::abs(from.imag())) <= a.half + b.half;
}

Complex scaled(Complex at, const Node& box) { return (at - box.middle) / box.half; }

}  // namespace

std::vector<Descent::Found> Descent::run(bool potentials) {
  potentials_ = potentials;
  found_.clear();
  incomplete_ = 0;
  if (tree_.root().count > 0) visit({0, {0}, std::vector<Complex>(tree_.expansions().length()), 0, 0}, 0);
  return std::move(found_);
}

/// `before`: the cost of everything that comes before this box.
void Descent::visit(const Box& box, std::int64_t before) {
  const Node& node = tree_.node(box.index);
  if (node.leaf()) {
    if (before >= begin_ && before < end_) evaluate(box);
    return;
  }
  for (const std::int32_t below : node.children()) {
    if (below == 0) continue;
    const Node& child = tree_.node(below - 1);
    if (child.count > 0 && before < end_ && before + child.cost > begin_) visit(child_of(box, below - 1), before);
    before += child.cost;
  }
}

Descent::Box Descent::child_of(const Box& parent, std::int32_t index) const {
  const Expansions& expansions = tree_.expansions();
  const Node& node = tree_.node(index);
  const auto terms = static_cast<double>(expansions.terms());
  Box box{index, {}, std::vector<Complex>(expansions.length()), parent.acted, 0};
  const Node& above = tree_.node(parent.index);
  expansions.add_parent(parent.local.data(), (node.middle - above.middle) / above.half, box.local.data());
  double cost = 0;
  for (const std::int32_t near : parent.near) {
    const Node& other = tree_.node(near);
    if (other.leaf()) {
      if (touch(node, other)) {
        box.near.push_back(near);
        continue;
      }
      for (const std::int32_t body : other.own_bodies()) {  // X
        const Place& place = tree_.place(body);
        expansions.add_distant_mass(place.mass, scaled(place.at, node), node.half, box.local.data());
      }
      box.acted += other.count;
      cost += kTerm * terms * static_cast<double>(other.count);
      continue;
    }
    for (const std::int32_t below : other.children()) {
      if (below == 0 || tree_.node(below - 1).count == 0) continue;
      const Node& brother = tree_.node(below - 1);
      if (touch(node, brother)) {
        box.near.push_back(below - 1);
        continue;
      }
      expansions.add_multipole(tree_.multipole(below - 1), scaled(brother.middle, node), node.half, box.local.data());  // V
      box.acted += brother.count;
      cost += kTermByTerm * terms * terms;
    }
  }
  box.inherited = parent.inherited + cost / static_cast<double>(node.count);
  return box;
}

/// The leaves of U and the boxes of W at and below a box that touches the leaf.
void Descent::gather(const Node& leaf, std::int32_t near, Boxes& u, Boxes& w) const {
  const Node& other = tree_.node(near);
  if (other.leaf()) {
    u.push_back(near);
    return;
  }
  for (const std::int32_t below : other.children()) {
    if (below == 0 || tree_.node(below - 1).count == 0) continue;
    if (touch(leaf, tree_.node(below - 1))) {
      gather(leaf, below - 1, u, w);
    } else {
      w.push_back(below - 1);
    }
  }
}

void Descent::evaluate(const Box& leaf) {
  const Expansions& expansions = tree_.expansions();
  const Node& node = tree_.node(leaf.index);
  Boxes u;
  Boxes w;
  for (const std::int32_t near : leaf.near) gather(node, near, u, w);
  std::int64_t direct = 0;
  std::int64_t acted = leaf.acted;
  for (const std::int32_t box : u) direct += tree_.node(box).count;
  for (const std::int32_t box : w) acted += tree_.node(box).count;
  if (acted + direct != tree_.root().count) ++incomplete_;
  const double cost = leaf.inherited + static_cast<double>(direct) + kTerm * expansions.terms() * static_cast<double>(1 + w.size());

  for (const std::int32_t body : node.own_bodies()) {
    const Complex at = tree_.place(body).at;
    Field field = expansions.of_local(leaf.local.data(), scaled(at, node), node.half);
    for (const std::int32_t box : w)
      field += expansions.of_multipole(tree_.multipole(box), scaled(at, tree_.node(box)), tree_.node(box).half);
    for (const std::int32_t box : u) {
      for (const std::int32_t other : tree_.node(box).own_bodies()) {
        if (other == body) continue;
        const Place& place = tree_.place(other);
        const Complex from = at - place.at;
        const double square = std::norm(from);
        field.slope += std::conj(from) * (place.mass / square);
        if (potentials_) field.potential += 0.5 * place.mass * std::log(square);
      }
    }
    if (!potentials_) field.potential = 0;
    found_.push_back({body, field, std::max<std::int64_t>(1, std::llround(cost))});
  }
}

}  // namespace splash2::fmm
