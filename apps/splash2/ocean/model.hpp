// The model that ocean integrates: eddies and boundary currents in a square basin, two layers (1 above, 3 below) in quasi-geostrophic balance
// on a beta plane, driven by wind (Holland, J. Phys. Oceanogr. 1978; Woo et al., ISCA 1995). Stream functions psi1, psi3 obey
//
//   Laplacian psi1_t = g1 + (f0^2 / g' H1) (psi1 - psi3)_t      g1 = J(Laplacian psi1 + f, psi1) - (f0^2 / g' H1) J(psi1 - psi3, psi2) + friction + wind
//   Laplacian psi3_t = g3 - (f0^2 / g' H3) (psi1 - psi3)_t      g3 = J(Laplacian psi3 + f, psi3) + (f0^2 / g' H3) J(psi1 - psi3, psi2) + friction
//
// whose difference and depth mean are elliptic equations for ga = (psi1 - psi3)_t and gb = ((H1 psi1 + H3 psi3) / H)_t:
//   (Laplacian - lambda^2) ga = g1 - g3,     Laplacian gb = (H1 g1 + H3 g3) / H.
// gb is zero on the walls; ga is there a constant that keeps the mass of each layer: ga = solution with zero walls + C psib, where psib is the
// solution that is one on the walls, and C makes the integral zero. Time goes in leapfrog steps, with a forward step at times.
//
// A step, each phase ending with an exchange or a global value: vorticities of now and before; their Jacobians, the interface's, Laplacians for
// lateral friction (harmonic and biharmonic); right sides; the two multigrid solutions; the integral; the new stream functions.
#pragma once

#include <array>
#include <cstdint>

#include "apps/splash2/ocean/multigrid.hpp"

namespace splash2::ocean {

struct Parameters {
  int points = 258;  ///< a side, with the walls
  double tolerance = 1e-7;
  double spacing = 20000.0;  ///< metres
  double time_step = 28800.0;
  CycleSettings cycle;

  [[nodiscard]] int cells() const { return points - 2; }
  /// Steps in the two days that SPLASH-2 simulates.
  [[nodiscard]] int steps() const;
};

/// The grids, one tile of each for each processor.
enum class Field : std::uint8_t {
  psi1,
  psi3,
  psi1_before,
  psi3_before,  // stream functions
  psi1_mean,
  psi3_mean,  // their sums over the last day
  psib,
  ga,
  gb,
  ga_start,
  gb_start,  // the elliptic equations' solutions, and where the next solution starts
  wind,
  vorticity1,
  vorticity3,
  vorticity1_before,
  vorticity3_before,
  shear,
  interface,  // psi1 - psi3, and psi2 between the layers
  jacobian1,
  jacobian3,
  interface_jacobian,
  friction1,
  friction3,  // biharmonic
  right_a,
  right_b,  // right sides, times the square of the spacing
  kCount,
};

/// What a run tells about itself; the same on all processors.
struct Progress {
  int steps = 0;
  int cycles = 0;
  bool converged = true;
  double solver_seconds = 0;
};

/// One processor's part of the model. Private to its thread.
class Model {
 public:
  Model(Team& team, const Parameters& parameters, const Subgrid& subgrid, Arena& arena);

  /// The first state, and psib. Leaves all frames valid.
  void start();
  /// All steps.
  Progress run();

  [[nodiscard]] const Tile& field(Field name) const { return fields_[static_cast<std::size_t>(name)]; }
  [[nodiscard]] const Subgrid& subgrid() const { return subgrid_; }
  /// lambda^2 of the equation for ga, times the square of the spacing.
  [[nodiscard]] double lambda2_spacing2() const;

 private:
  void find_vorticities();
  void find_jacobians();
  void find_right_sides();
  void solve(Progress& progress);
  void step_forward(bool leapfrog);
  void add_to_means();
  [[nodiscard]] double coriolis(int row) const;

  Team& team_;
  Parameters parameters_;
  Subgrid subgrid_;
  std::array<Tile, static_cast<std::size_t>(Field::kCount)> fields_;
  Multigrid multigrid_;
  double psib_sum_ = 0;
};

/// Doubles of memory that one processor's grids take; with rows, those of all processors together.
std::size_t model_doubles(const Parameters& parameters, const Subgrid& subgrid, Grids grids = Grids::contiguous, std::size_t unit = 1);

}  // namespace splash2::ocean
