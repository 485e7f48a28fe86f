#include "apps/splash2/ocean/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace splash2::ocean {

namespace {

/// The largest error of (Laplacian - lambda^2) u = right, times the square of the spacing, over the largest right side.
double equation_error(Team& team, const Tile& u, const Tile& right, double lambda2_spacing2, const Tile& scratch) {
  laplacian(u, 1.0, scratch);
  double worst = 0;
  for (int i = 0; i < u.rows; ++i) {
    for (int j = 0; j < u.columns; ++j)
      worst = std::max(worst, std::abs(scratch.at(i, j) - lambda2_spacing2 * u.at(i, j) - right.at(i, j)));
  }
  return team.max(worst) / team.max(max_magnitude(right));
}

}  // namespace

std::vector<Check> self_test(Team& team, const Parameters& parameters, const Model& model, const Progress& progress) {
  const Tile& scratch = model.field(Field::friction1);
  const double error_a = equation_error(team, model.field(Field::ga_start), model.field(Field::right_a), model.lambda2_spacing2(), scratch);
  const double error_b = equation_error(team, model.field(Field::gb_start), model.field(Field::right_b), 0, scratch);
  const double allowed = parameters.tolerance * 1.01;  // the solver measured the same with another order of operations

  const Tile& psi1 = model.field(Field::psi1);
  const Tile& psi3 = model.field(Field::psi3);
  const double cells = static_cast<double>(parameters.cells()) * parameters.cells();
  const double speed_scale = team.max(std::max(max_magnitude(psi1), max_magnitude(psi3)));
  const double mass = std::abs(team.sum(sum(psi1)) - team.sum(sum(psi3))) / (cells * speed_scale);
  const bool finite = std::isfinite(mass) && speed_scale > 0;

  return {
      {"solver", progress.converged && error_a <= allowed && error_b <= allowed,
       fmt::format("{} cycles in {} steps{}; the equations hold to {:.1e} and {:.1e} of their right sides, {:.0e} allowed", progress.cycles,
                   progress.steps, progress.converged ? "" : ", NOT converged", error_a, error_b, parameters.tolerance)},
      {"flow", finite && mass <= kRoundingTolerance,
       finite ? fmt::format("largest stream function {:.6g} m^2/s; layers exchanged {:.1e} of their mass, {:.0e} allowed", speed_scale,
                            mass, kRoundingTolerance)
              : std::string("the flow is not finite: the time step is too long for this spacing; give a smaller -t or a larger -r")}};
}

SequentialRun::SequentialRun(const Parameters& parameters, std::int64_t runs)
    : parameters_(parameters), memory_(model_doubles(parameters, Subgrid::of(parameters.cells(), 0, 1))) {
  SoloTeam team;
  std::vector<double> times;
  for (std::int64_t run = 0; run < runs; ++run) {
    Arena arena(memory_.data());
    Model model(team, parameters_, Subgrid::of(parameters_.cells(), 0, 1), arena);
    model.start();
    const double start = clock_seconds();
    progress_ = model.run();
    times.push_back(clock_seconds() - start);
  }
  seconds_ = median(std::move(times));
}

Check SequentialRun::compare(const Subgrid& shape, const std::function<Arena(int)>& arena_of, const Progress& progress) const {
  SoloTeam team;
  std::vector<double> own = memory_;
  Arena arena(own.data());
  const Model expected(team, parameters_, Subgrid::of(parameters_.cells(), 0, 1), arena);
  double worst = 0;
  bool finite = true;
  for (const Field name : {Field::psi1, Field::psi3, Field::psi1_mean, Field::psi3_mean}) {
    const Tile& right = expected.field(name);
    double most = 0;
    for (int rank = 0; rank < shape.rows_of_processors * shape.columns_of_processors; ++rank) {
      const Subgrid subgrid = shape.of_rank(rank);
      Arena theirs = arena_of(rank);
      const Model model(team, parameters_, subgrid, theirs);
      const Tile& tile = model.field(name);
      for (int i = 0; i < tile.rows; ++i) {
        for (int j = 0; j < tile.columns; ++j) {
          const double difference = std::abs(tile.at(i, j) - right.at(subgrid.first_row + i, subgrid.first_column + j));
          finite = finite && std::isfinite(difference);
          most = std::max(most, difference);
        }
      }
    }
    worst = std::max(worst, most / max_magnitude(right));
  }
  const bool same_path = progress.cycles == progress_.cycles;
  const double allowed = same_path ? kRoundingTolerance : 10 * parameters_.tolerance;
  return {"reference", finite && worst <= allowed,
          fmt::format("differs from the sequential run ({} cycles) by {:.1e} of the largest value, {:.0e} allowed", progress_.cycles, worst,
                      allowed)};
}

}  // namespace splash2::ocean
