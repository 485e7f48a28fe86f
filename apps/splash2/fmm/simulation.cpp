#include "apps/splash2/fmm/simulation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "apps/splash2/common/space_order.hpp"
#include "apps/splash2/fmm/clusters.hpp"

namespace splash2::fmm {

namespace {

/// Objects that fill whole pages.
constexpr std::size_t page_unit(std::size_t bytes) { return std::lcm(bytes, kPageBytes) / bytes; }

}  // namespace

Simulation::Simulation(Store& store, const Parameters& parameters)
    : parameters_(parameters),
      share_((parameters.bodies + static_cast<std::size_t>(store.processors()) - 1) / static_cast<std::size_t>(store.processors())),
      places_(store.parts<Place>(share_)),
      motions_(store.parts<Motion>(places_.stride())),
      tree_(store, parameters.bodies, places_.all(), motions_.all(), Expansions::terms_for(parameters.precision)) {
  static_assert(page_unit(sizeof(Place)) % page_unit(sizeof(Motion)) == 0, "both arrays have the same stride");
}

Result Simulation::run(Team& team) {
  Result result;
  Own own;
  make_input(team, own);
  team.barrier();
  Tree::Builder builder(tree_, team);
  find_fields(team, builder, own, true, result);
  result.first_energy = energy(team, own);

  result.time = {};
  const double start = clock_seconds();
  for (int step = 0; step < parameters_.steps; ++step) {
    kick(own, parameters_.time_step / 2);
    for (const std::int32_t body : own) places_.all()[body].at += motions_.all()[body].velocity * parameters_.time_step;
    find_fields(team, builder, own, step + 1 == parameters_.steps, result);
    kick(own, parameters_.time_step / 2);
  }
  team.barrier();
  result.time.total = clock_seconds() - start;
  result.last_energy = energy(team, own);
  result.count = static_cast<double>(tree_.root().count);
  result.incomplete = team.sum(result.incomplete);
  return result;
}

void Simulation::make_input(const Team& team, Own& own) {
  std::vector<Body> bodies = make_clusters(parameters_.bodies, parameters_.clusters, parameters_.distribution);
  if (parameters_.in_space_order)
    sort_in_space(bodies, [](const Body& body) { return std::array{body.position.real(), body.position.imag()}; });
  const std::size_t first = std::min(parameters_.bodies, share_ * static_cast<std::size_t>(team.rank()));
  const std::size_t last = std::min(parameters_.bodies, first + share_);
  for (std::size_t body = first; body < last; ++body) {
    place(body) = {bodies[body].position, 1 / static_cast<double>(parameters_.bodies)};
    motion(body) = {bodies[body].velocity, {}, 0, 1};
    own.push_back(static_cast<std::int32_t>(slot(body)));
  }
}

/// A power of two, so that the tree's boxes do not move a little with each step, and their places are exact.
double Simulation::find_square(Team& team, const Own& own) const {
  double most = 0;
  for (const std::int32_t body : own) {
    const Complex at = places_.all()[body].at;
    most = std::max({most, std::abs(at.real()), std::abs(at.imag())});
  }
  most = team.max(most);
  double half = 1;
  while (half <= most) half *= 2;
  return half;
}

void Simulation::find_fields(Team& team, Tree::Builder& builder, Own& own, bool potentials, Result& result) {
  builder.build(own, find_square(team, own));
  const double start = clock_seconds();
  const std::int64_t all = tree_.root().cost;
  Descent descent(tree_, all * team.rank() / team.count(), all * (team.rank() + 1) / team.count());
  own.clear();
  for (const Descent::Found& found : descent.run(potentials)) {
    own.push_back(found.body);
    Motion& motion = motions_.all()[found.body];
    motion.acceleration = -std::conj(found.field.slope);
    motion.potential = found.field.potential;
    motion.cost = found.cost;
  }
  result.incomplete += static_cast<double>(descent.incomplete());
  result.time.part += clock_seconds() - start;
  team.barrier();
}

void Simulation::kick(const Own& own, double time) {
  for (const std::int32_t body : own) motions_.all()[body].velocity += motions_.all()[body].acceleration * time;
}

double Simulation::energy(Team& team, const Own& own) const {
  double sum = 0;
  for (const std::int32_t body : own) {
    const Motion& motion = motions_.all()[body];
    sum += 0.5 * places_.all()[body].mass * (std::norm(motion.velocity) + motion.potential);
  }
  return team.sum(sum);
}

}  // namespace splash2::fmm
