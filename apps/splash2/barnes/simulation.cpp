#include "apps/splash2/barnes/simulation.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "apps/splash2/barnes/plummer.hpp"
#include "apps/splash2/common/space_order.hpp"

namespace splash2::barnes {

namespace {

/// What one walk adds up.
struct Pull {
  Vec3 acceleration;
  double potential = 0;
  std::int64_t interactions = 0;

  void add_mass(double mass, Vec3 towards, double softened2) {
    const double inverse = 1 / std::sqrt(softened2);
    const double by_distance = mass * inverse;
    potential -= by_distance;
    acceleration += towards * (by_distance * inverse * inverse);
    ++interactions;
  }
  void add_quadrupole(const double (&q)[6], Vec3 towards, double softened2) {
    const Vec3 product{q[0] * towards.x + q[3] * towards.y + q[4] * towards.z, q[3] * towards.x + q[1] * towards.y + q[5] * towards.z,
                       q[4] * towards.x + q[5] * towards.y + q[2] * towards.z};
    const double inverse2 = 1 / softened2;
    const double inverse5 = inverse2 * inverse2 * std::sqrt(inverse2);
    const double half = 0.5 * dot(towards, product) * inverse5;
    potential -= half;
    acceleration += towards * (5 * half * inverse2) - product * inverse5;
  }
};

bool inside(Vec3 at, const Node& node) {
  const Vec3 from = at - node.middle;
  return std::max({std::abs(from.x), std::abs(from.y), std::abs(from.z)}) <= node.half;
}

}  // namespace

Simulation::Simulation(Store& store, const Parameters& parameters)
    : parameters_(parameters),
      share_((parameters.bodies + static_cast<std::size_t>(store.processors()) - 1) / static_cast<std::size_t>(store.processors())),
      places_(store.parts<Place>(share_)),
      motions_(store.parts<Motion>(places_.stride())),
      tree_(store, parameters.bodies, places_.all(), motions_.all()) {
  static_assert(kPageBytes % sizeof(Place) == 0 && kPageBytes % sizeof(Motion) == 0, "both arrays have the same stride");
}

Result Simulation::run(Team& team) {
  Result result;
  std::vector<std::int32_t> own;
  make_input(team, own);
  team.barrier();
  Tree::Builder builder(tree_, team);
  ProcessorTime ignored;
  find_forces(team, builder, own, ignored);
  result.first_energy = energy(team, own);

  const double start = clock_seconds();
  for (int step = 0; step < parameters_.steps; ++step) {
    kick(own, parameters_.time_step / 2);
    for (const std::int32_t body : own) places_.all()[body].at += motions_.all()[body].velocity * parameters_.time_step;
    find_forces(team, builder, own, result.time);
    kick(own, parameters_.time_step / 2);
  }
  team.barrier();
  result.time.total = clock_seconds() - start;
  result.last_energy = energy(team, own);
  result.mass = tree_.root().mass;
  return result;
}

void Simulation::make_input(const Team& team, std::vector<std::int32_t>& own) {
  std::vector<Body> bodies = plummer(parameters_.bodies);
  if (parameters_.in_space_order)
    sort_in_space(bodies, [](const Body& body) { return std::array{body.position.x, body.position.y, body.position.z}; });
  const std::size_t first = std::min(parameters_.bodies, share_ * static_cast<std::size_t>(team.rank()));
  const std::size_t last = std::min(parameters_.bodies, first + share_);
  for (std::size_t body = first; body < last; ++body) {
    place(body) = {bodies[body].position, 1 / static_cast<double>(parameters_.bodies)};
    motion(body) = {bodies[body].velocity, {}, 0, 1};
    own.push_back(static_cast<std::int32_t>(slot(body)));
  }
}

/// A power of two, so that the tree's cells do not move a little with each step.
double Simulation::find_box(Team& team, const std::vector<std::int32_t>& own) const {
  double most = 0;
  for (const std::int32_t body : own) {
    const Vec3 at = places_.all()[body].at;
    most = std::max({most, std::abs(at.x), std::abs(at.y), std::abs(at.z)});
  }
  most = team.max(most);
  double half = 1;
  while (half <= most) half *= 2;
  return half;
}

void Simulation::choose_zone(const Team& team, std::vector<std::int32_t>& own) const {
  own.clear();
  const std::int64_t all = tree_.root().cost;
  add_zone(tree_.root(), 0, all * team.rank() / team.count(), all * (team.rank() + 1) / team.count(), own);
}

/// `before`: the cost of everything that comes before this node.
void Simulation::add_zone(const Node& node, std::int64_t before, std::int64_t begin, std::int64_t end,
                          std::vector<std::int32_t>& own) const {
  if (node.leaf()) {
    for (const std::int32_t body : node.own_bodies()) {
      if (before >= begin && before < end) own.push_back(body);
      before += tree_.cost(body);
    }
    return;
  }
  for (const std::int32_t below : node.children()) {
    if (below == 0) continue;
    const Node& child = tree_.node(below - 1);
    if (before < end && before + child.cost > begin) add_zone(child, before, begin, end, own);
    before += child.cost;
  }
}

void Simulation::find_forces(Team& team, Tree::Builder& builder, std::vector<std::int32_t>& own, ProcessorTime& time) {
  builder.build(own, find_box(team, own));
  choose_zone(team, own);
  team.barrier();  // costs are read until here, and written by the walks
  const double start = clock_seconds();
  for (const std::int32_t body : own) walk(body);
  time.part += clock_seconds() - start;
  team.barrier();
}

void Simulation::walk(std::int32_t body) {
  const Vec3 at = places_.all()[body].at;
  const double theta2 = parameters_.theta * parameters_.theta;
  const double softening2 = parameters_.softening * parameters_.softening;
  Pull pull;
  std::array<const Node*, 8 * 64> open;  // at most seven brothers wait on each level
  std::size_t waiting = 0;
  open[waiting++] = &tree_.root();
  while (waiting > 0) {
    const Node& node = *open[--waiting];
    if (node.mass == 0) continue;
    const Vec3 towards = node.centre - at;
    const double distance2 = norm2(towards);
    if (4 * node.half * node.half < theta2 * distance2 && !inside(at, node)) {
      pull.add_mass(node.mass, towards, distance2 + softening2);
      pull.add_quadrupole(node.quadrupole, towards, distance2 + softening2);
    } else if (node.leaf()) {
      for (const std::int32_t near : node.own_bodies()) {
        if (near == body) continue;
        const Place& other = tree_.place(near);
        pull.add_mass(other.mass, other.at - at, norm2(other.at - at) + softening2);
      }
    } else {
      for (const std::int32_t below : node.children()) {
        if (below != 0) open[waiting++] = &tree_.node(below - 1);
      }
    }
  }
  Motion& motion = motions_.all()[body];
  motion.acceleration = pull.acceleration;
  motion.potential = pull.potential;
  motion.cost = std::max<std::int64_t>(1, pull.interactions);
}

void Simulation::kick(const std::vector<std::int32_t>& own, double time) {
  for (const std::int32_t body : own) motions_.all()[body].velocity += motions_.all()[body].acceleration * time;
}

double Simulation::energy(Team& team, const std::vector<std::int32_t>& own) const {
  double sum = 0;
  for (const std::int32_t body : own) {
    const Motion& motion = motions_.all()[body];
    sum += 0.5 * places_.all()[body].mass * (norm2(motion.velocity) + motion.potential);
  }
  return team.sum(sum);
}

}  // namespace splash2::barnes
