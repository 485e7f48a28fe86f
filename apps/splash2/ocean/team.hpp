// What a processor needs of the others while it computes. The model and the multigrid know nothing else of parallelism, so that the sequential
// run is the same program with a team of one, in private memory and without NetVM.
#pragma once

#include <functional>
#include <initializer_list>

#include "apps/splash2/ocean/grid.hpp"

namespace splash2::ocean {

class Team {
 public:
  virtual ~Team() = default;
  /// Fills the frames of these tiles from the neighbours' points, corners included; walls stay. All call, with the same fields (at most four).
  virtual void exchange(std::initializer_list<Tile> tiles) = 0;
  /// The largest and the sum of all processors' values; all call.
  virtual double max(double value) = 0;
  virtual double sum(double value) = 0;
  /// Grids of at most this many cells a side are left to one processor; 0: none is.
  [[nodiscard]] virtual int gather_cells() const = 0;
  /// One processor gets all processors' f as one tile, and solve(f, u) gives u, which comes back to all, frames included.
  virtual void solve_gathered(const Subgrid& subgrid, const Tile& f, const Tile& u,
                              const std::function<void(const Tile& f, const Tile& u)>& solve) = 0;
};

/// A team of one.
class SoloTeam final : public Team {
 public:
  void exchange(std::initializer_list<Tile> /*tiles*/) override {}
  double max(double value) override { return value; }
  double sum(double value) override { return value; }
  [[nodiscard]] int gather_cells() const override { return 0; }
  void solve_gathered(const Subgrid& /*subgrid*/, const Tile& f, const Tile& u,
                      const std::function<void(const Tile& f, const Tile& u)>& solve) override {
    solve(f, u);
  }
};

/// Hands out tiles of one piece of memory, one after another, each on a cache line of its own.
class Arena {
 public:
  Arena() = default;
  /// No memory: only counts.
  explicit Arena(double* memory) : memory_(memory) {}
  Tile tile(const Subgrid& subgrid) {
    double* const at = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (Tile::doubles(subgrid.rows, subgrid.columns) + 7) / 8 * 8;
    return at == nullptr ? Tile{} : Tile::in(at, subgrid.rows, subgrid.columns);
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  double* memory_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace splash2::ocean
