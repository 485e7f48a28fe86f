#include "apps/splash2/ocean/model.hpp"

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/job.hpp"

namespace splash2::ocean {

namespace {

// The ocean of Holland (1978) and SPLASH-2, in metres and seconds.
constexpr double kDepth1 = 1000.0;
constexpr double kDepth3 = 4000.0;
constexpr double kDepth = kDepth1 + kDepth3;
constexpr double kCoriolis = 8.3e-5;           // f in the middle of the basin
constexpr double kBeta = 2.0e-11;              // its change with y
constexpr double kReducedGravity = 0.02;       // g'
constexpr double kWindStress = 1.0e-4;         // by the density
constexpr double kHarmonicFriction = 330.0;    // m^2 / s
constexpr double kBiharmonicFriction = 8.0e9;  // m^4 / s
constexpr double kBottomFriction = 1.0e-7;     // 1 / s
constexpr double kStretching1 = kCoriolis * kCoriolis / (kReducedGravity * kDepth1);
constexpr double kStretching3 = kCoriolis * kCoriolis / (kReducedGravity * kDepth3);

constexpr double kDay = 86400.0;
constexpr double kSimulatedDays = 2.0;
constexpr double kFirstMeanDay = 1.0;
constexpr double kFirstSpeed = 0.05;  // m / s, of the first state's gyres
constexpr double kLowerShare = 0.3;   // of the upper layer's flow, in the lower one
constexpr int kForwardStepEvery = 8;  // against the leapfrog's two solutions drifting apart

/// Calls f(i, j) for all points of a tile, with its frame.
template <class F>
void for_each_with_frame(const Subgrid& subgrid, F f) {
  for (int i = -1; i <= subgrid.rows; ++i) {
    for (int j = -1; j <= subgrid.columns; ++j) f(i, j);
  }
}

}  // namespace

int Parameters::steps() const { return std::max(1, static_cast<int>(std::ceil(kSimulatedDays * kDay / time_step))); }

Model::Model(Team& team, const Parameters& parameters, const Subgrid& subgrid, Arena& arena)
    : team_(team),
      parameters_(parameters),
      subgrid_(subgrid),
      fields_([&] {
        std::array<Tile, static_cast<std::size_t>(Field::kCount)> tiles;
        for (Tile& tile : tiles) tile = arena.tile(subgrid);
        return tiles;
      }()),
      multigrid_(team, subgrid, 0, parameters.cycle, arena) {}

std::size_t model_doubles(const Parameters& parameters, const Subgrid& subgrid, Grids grids, std::size_t unit) {
  SoloTeam team;
  Arena count(nullptr, grids, unit);
  const Model model(team, parameters, subgrid, count);
  return count.used();
}

double Model::coriolis(int row) const {
  return kCoriolis + kBeta * parameters_.spacing * (subgrid_.first_row + row - 0.5 * (subgrid_.cells - 1));
}

double Model::lambda2_spacing2() const { return (kStretching1 + kStretching3) * parameters_.spacing * parameters_.spacing; }

void Model::start() {
  for (const Tile& tile : fields_) fill(tile, 0);
  const double length = parameters_.spacing * (parameters_.points - 1);
  const double strength = kFirstSpeed * length / (2 * M_PI);
  for_each_with_frame(subgrid_, [&](int i, int j) {
    // Two gyres, north and south, with eddies upon them: zero on the walls, and without mass.
    const double x = M_PI * (subgrid_.first_column + j + 1) / (parameters_.points - 1);
    const double y = M_PI * (subgrid_.first_row + i + 1) / (parameters_.points - 1);
    const double flow = strength * (std::sin(x) * std::sin(2 * y) + 0.2 * std::sin(7 * x) * std::sin(6 * y));
    for (const Field upper : {Field::psi1, Field::psi1_before}) field(upper).at(i, j) = flow;
    for (const Field lower : {Field::psi3, Field::psi3_before}) field(lower).at(i, j) = kLowerShare * flow;
    field(Field::wind).at(i, j) = -kWindStress / kDepth1 * (2 * M_PI / length) * std::sin(2 * y);
  });

  // psib = 1 + u, where (Laplacian - lambda^2) u = lambda^2 and u = 0 on the walls.
  const Tile& psib = field(Field::psib);
  const Tile& right = field(Field::right_a);
  for (int i = 0; i < subgrid_.rows; ++i) std::fill_n(right.row(i), subgrid_.columns, lambda2_spacing2());
  multigrid_.solve(psib, right, lambda2_spacing2(), parameters_.tolerance);
  for_each_with_frame(subgrid_, [&](int i, int j) { psib.at(i, j) += 1; });
  psib_sum_ = team_.sum(sum(psib));
}

Progress Model::run() {
  Progress progress;
  for (int step = 0; step < parameters_.steps(); ++step) {
    find_vorticities();
    find_jacobians();
    find_right_sides();
    solve(progress);
    step_forward(step % kForwardStepEvery != 0);
    ++progress.steps;
    if ((step + 1) * parameters_.time_step > kFirstMeanDay * kDay) add_to_means();
  }
  return progress;
}

/// Absolute vorticity of now, relative vorticity of before; slip walls have none. And what needs the stream functions alone.
void Model::find_vorticities() {
  const Tile& v1 = field(Field::vorticity1);
  const Tile& v3 = field(Field::vorticity3);
  laplacian(field(Field::psi1), parameters_.spacing, v1);
  laplacian(field(Field::psi3), parameters_.spacing, v3);
  laplacian(field(Field::psi1_before), parameters_.spacing, field(Field::vorticity1_before));
  laplacian(field(Field::psi3_before), parameters_.spacing, field(Field::vorticity3_before));
  for (const Field now : {Field::vorticity1, Field::vorticity3}) fill_walls(subgrid_, field(now), 0);
  const Tile& psi1 = field(Field::psi1);
  const Tile& psi3 = field(Field::psi3);
  for_each_with_frame(subgrid_, [&](int i, int j) {
    v1.at(i, j) += coriolis(i);
    v3.at(i, j) += coriolis(i);
    field(Field::shear).at(i, j) = psi1.at(i, j) - psi3.at(i, j);
    field(Field::interface).at(i, j) = (kDepth3 * psi1.at(i, j) + kDepth1 * psi3.at(i, j)) / kDepth;
  });
  team_.exchange({v1, v3, field(Field::vorticity1_before), field(Field::vorticity3_before)});
}

void Model::find_jacobians() {
  jacobian(field(Field::vorticity1), field(Field::psi1), parameters_.spacing, field(Field::jacobian1));
  jacobian(field(Field::vorticity3), field(Field::psi3), parameters_.spacing, field(Field::jacobian3));
  jacobian(field(Field::shear), field(Field::interface), parameters_.spacing, field(Field::interface_jacobian));
  // ga and gb are free until the solver starts: Laplacians of the vorticity, whose Laplacians are the biharmonic friction.
  laplacian(field(Field::vorticity1_before), parameters_.spacing, field(Field::ga));
  laplacian(field(Field::vorticity3_before), parameters_.spacing, field(Field::gb));
  for (const Field tendency : {Field::ga, Field::gb}) fill_walls(subgrid_, field(tendency), 0);
  team_.exchange({field(Field::ga), field(Field::gb)});
  laplacian(field(Field::ga), parameters_.spacing, field(Field::friction1));
  laplacian(field(Field::gb), parameters_.spacing, field(Field::friction3));
}

void Model::find_right_sides() {
  const double area = parameters_.spacing * parameters_.spacing;
  for (int i = 0; i < subgrid_.rows; ++i) {
    for (int j = 0; j < subgrid_.columns; ++j) {
      const double between = field(Field::interface_jacobian).at(i, j);
      const double g1 = field(Field::jacobian1).at(i, j) - kStretching1 * between + kHarmonicFriction * field(Field::ga).at(i, j) -
                        kBiharmonicFriction * field(Field::friction1).at(i, j) + field(Field::wind).at(i, j);
      const double g3 = field(Field::jacobian3).at(i, j) + kStretching3 * between + kHarmonicFriction * field(Field::gb).at(i, j) -
                        kBiharmonicFriction * field(Field::friction3).at(i, j) - kBottomFriction * field(Field::vorticity3_before).at(i, j);
      field(Field::right_a).at(i, j) = area * (g1 - g3);
      field(Field::right_b).at(i, j) = area * (kDepth1 * g1 + kDepth3 * g3) / kDepth;
    }
  }
}

void Model::solve(Progress& progress) {
  const Tile& ga = field(Field::ga);
  const Tile& gb = field(Field::gb);
  copy(field(Field::ga_start), ga);
  copy(field(Field::gb_start), gb);
  const double start = clock_seconds();
  const Solution a = multigrid_.solve(ga, field(Field::right_a), lambda2_spacing2(), parameters_.tolerance);
  const Solution b = multigrid_.solve(gb, field(Field::right_b), 0, parameters_.tolerance);
  progress.solver_seconds += clock_seconds() - start;
  progress.cycles += a.cycles + b.cycles;
  progress.converged = progress.converged && a.converged && b.converged;
  copy(ga, field(Field::ga_start));
  copy(gb, field(Field::gb_start));

  const double constant = -team_.sum(sum(ga)) / psib_sum_;
  const Tile& psib = field(Field::psib);
  for_each_with_frame(subgrid_, [&](int i, int j) { ga.at(i, j) += constant * psib.at(i, j); });
}

/// Frames of all fields used here are valid, so the new stream functions' are.
void Model::step_forward(bool leapfrog) {
  const double time = leapfrog ? 2 * parameters_.time_step : parameters_.time_step;
  const Tile& ga = field(Field::ga);
  const Tile& gb = field(Field::gb);
  const auto advance = [&](Field now, Field before, double share) {
    const Tile& psi = field(now);
    const Tile& old = field(before);
    for_each_with_frame(subgrid_, [&](int i, int j) {
      const double from = leapfrog ? old.at(i, j) : psi.at(i, j);
      old.at(i, j) = psi.at(i, j);
      psi.at(i, j) = from + time * (gb.at(i, j) + share * ga.at(i, j));
    });
  };
  advance(Field::psi1, Field::psi1_before, kDepth3 / kDepth);
  advance(Field::psi3, Field::psi3_before, -kDepth1 / kDepth);
}

void Model::add_to_means() {
  for (const auto& [mean, now] : {std::pair{Field::psi1_mean, Field::psi1}, std::pair{Field::psi3_mean, Field::psi3}}) {
    for (int i = 0; i < subgrid_.rows; ++i) {
      const double* const from = field(now).row(i);
      double* const to = field(mean).row(i);
      for (int j = 0; j < subgrid_.columns; ++j) to[j] += from[j];
    }
  }
}

}  // namespace splash2::ocean
