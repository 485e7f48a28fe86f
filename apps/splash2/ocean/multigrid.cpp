#include "apps/splash2/ocean/multigrid.hpp"

#include <cmath>

namespace splash2::ocean {

namespace {

constexpr int kCoarsestCells = 2;
constexpr int kCoarsestSweeps = 8;  // reduce the error of 2 x 2 points, nearly all diagonal, below rounding's notice
constexpr int kMostCycles = 60;     // 8 are usual; a slower fall means that the equation is not what it should be

}  // namespace

Multigrid::Multigrid(Team& team, const Subgrid& subgrid, int level, const CycleSettings& settings, Arena& arena)
    : team_(team), settings_(settings) {
  for (int cells = subgrid.cells; cells >= kCoarsestCells; cells /= 2) {
    const bool finest = levels_.empty();
    Level next{subgrid.with_cells(cells), level++, {}, {}, {}};
    if (!finest) {
      next.u = arena.tile(next.subgrid);
      next.f = arena.tile(next.subgrid);
    }
    levels_.push_back(next);
    if (!finest && cells <= team.gather_cells()) {
      const Subgrid whole = Subgrid::of(cells, 0, 1);
      Arena count;
      const Multigrid measured(solo_, whole, next.number, settings, count);
      coarse_memory_.resize(count.used());
      Arena memory(coarse_memory_.data());
      coarse_ = std::make_unique<Multigrid>(solo_, whole, next.number, settings, memory);
      break;
    }
  }
}

void Multigrid::set_equations(double lambda2_spacing2) {
  for (Level& level : levels_) {
    level.equation = Equation::make(level.subgrid, std::ldexp(lambda2_spacing2, 2 * level.number), 0.5 + std::ldexp(0.5, -level.number));
  }
}

void Multigrid::smooth(const Level& level, int sweeps) {
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (const Colour colour : {Colour::red, Colour::black}) {
      relax(level.equation, colour, level.u, level.f);
      team_.exchange({level.u});
    }
  }
}

/// One cycle from `depth` downwards, for an error that starts at the present u.
void Multigrid::cycle(std::size_t depth) {
  const Level& level = levels_[depth];
  if (depth + 1 == levels_.size()) {
    smooth(level, kCoarsestSweeps);
    return;
  }
  smooth(level, settings_.before);
  residual(level.equation, level.u, level.f, levels_[depth + 1].f);
  correct(depth);
  smooth(level, settings_.after);
}

/// Solves for the error on the coarser level, whose right side is set, and adds it here.
void Multigrid::correct(std::size_t depth) {
  solve_coarser(depth + 1);
  interpolate(levels_[depth + 1].equation, levels_[depth + 1].u, levels_[depth].u);
}

void Multigrid::solve_coarser(std::size_t depth) {
  Level& level = levels_[depth];
  const auto visit = [this](Multigrid& grid, std::size_t at) {
    fill(grid.levels_[at].u, 0);
    for (int turn = 0; turn < settings_.visits; ++turn) grid.cycle(at);
  };
  if (!gathered(depth)) {
    visit(*this, depth);
    return;
  }
  team_.solve_gathered(level.subgrid, level.f, level.u, [&](const Tile& f, const Tile& u) {
    coarse_->levels_.front().f = f;
    coarse_->levels_.front().u = u;
    visit(*coarse_, 0);
  });
}

Solution Multigrid::solve(const Tile& u, const Tile& f, double lambda2_spacing2, double tolerance) {
  set_equations(lambda2_spacing2);
  if (coarse_ != nullptr) coarse_->set_equations(lambda2_spacing2);
  Level& finest = levels_.front();
  finest.u = u;
  finest.f = f;
  const double enough = tolerance * team_.max(max_magnitude(f));
  for (int turn = 1; turn <= kMostCycles; ++turn) {
    smooth(finest, settings_.before);
    const double rest = team_.max(residual(finest.equation, u, f, levels_[1].f));
    if (rest <= enough) return {turn, true};
    if (!std::isfinite(rest)) return {turn, false};
    correct(0);
    smooth(finest, settings_.after);
  }
  return {kMostCycles, false};
}

}  // namespace splash2::ocean
