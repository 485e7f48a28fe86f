// The elliptic solver of ocean: multigrid with red-black Gauss-Seidel relaxation (Brandt, Math. Comp. 1977), V or W cycles, for
// (Laplacian - lambda^2) u = r with u = 0 on the basin's walls.
//
// 1. A level has half the cells a side of the level before it, each in the middle of four. The walls' distance from the nearest points, in
//    spacings of the level, is (1 + 2^-level) / 2: one for the finest, whose wall is a row of grid points, towards a half.
// 2. Each half-sweep ends with an exchange, so frames are valid whenever a phase begins, and every point's value is independent of the number of
//    processors.
// 3. Coarse levels have no work for many: the team's first processor does them alone (Team::solve_gathered) where the team says so.
#pragma once

#include <memory>
#include <vector>

#include "apps/splash2/ocean/stencils.hpp"
#include "apps/splash2/ocean/team.hpp"

namespace splash2::ocean {

struct CycleSettings {
  int visits = 1;  ///< of the next coarser level: 1 is a V cycle, 2 a W cycle
  int before = 2;  ///< relaxations on the way down
  int after = 1;   ///< and up
};

struct Solution {
  int cycles = 0;
  bool converged = false;
};

class Multigrid {
 public:
  /// Takes its levels' tiles from the arena. `level` is the number of the finest.
  Multigrid(Team& team, const Subgrid& subgrid, int level, const CycleSettings& settings, Arena& arena);

  /// Improves u until the residual is at most tolerance x the largest right side. Frames of u are valid before and after; its wall is zero.
  /// f is the right side, and lambda2_spacing2 lambda^2, times the square of
  /// the spacing of level 0.
  Solution solve(const Tile& u, const Tile& f, double lambda2_spacing2, double tolerance);

 private:
  struct Level {
    Subgrid subgrid;
    int number = 0;
    Tile u;
    Tile f;
    Equation equation;
  };
  void set_equations(double lambda2_spacing2);
  void smooth(const Level& level, int sweeps);
  void cycle(std::size_t depth);
  void correct(std::size_t depth);
  void solve_coarser(std::size_t depth);
  [[nodiscard]] bool gathered(std::size_t depth) const { return coarse_ != nullptr && depth + 1 == levels_.size(); }

  Team& team_;
  CycleSettings settings_;
  std::vector<Level> levels_;
  // The gathered levels, as the one processor has them.
  SoloTeam solo_;
  std::vector<double> coarse_memory_;
  std::unique_ptr<Multigrid> coarse_;
};

}  // namespace splash2::ocean
