// What a processor needs of the others while it computes. The model and the multigrid know nothing else of parallelism, so that the sequential
// run is the same program with a team of one, in private memory and without NetVM.
#pragma once

#include <cstdint>
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

/// How the grids of all processors lie in memory. contiguous: each processor's tiles together. rows: each grid is one array, row by row, in which
/// a processor's tile is a rectangle: as many short pieces as it has rows, between pieces of other processors. (Of strips: all its rows, one after the other.)
enum class Grids : std::uint8_t { contiguous, rows };

/// Hands out tiles of one piece of memory, one after another, each (contiguous) or each grid (rows) on a cache line of its own. With rows the memory is
/// that of all processors, and each takes the same tiles in the same order; strips begin at multiples of `unit` doubles.
class Arena {
 public:
  Arena() = default;
  /// No memory: only counts.
  explicit Arena(double* memory, Grids grids = Grids::contiguous, std::size_t unit = 1)
      : memory_(memory), grids_(grids), unit_(static_cast<std::ptrdiff_t>(unit)) {}
  /// With rows: from a tile to that of the next row of processors.
  static std::ptrdiff_t down(const Subgrid& subgrid, std::ptrdiff_t unit) {
    const std::ptrdiff_t doubles = (subgrid.rows + 2) * (subgrid.columns + 2) * std::ptrdiff_t{subgrid.columns_of_processors};
    return subgrid.columns_of_processors == 1 ? (doubles + unit - 1) / unit * unit : doubles;
  }
  Tile tile(const Subgrid& subgrid) {
    const std::ptrdiff_t height = subgrid.rows + 2;
    const std::ptrdiff_t width = subgrid.columns + 2;
    const std::ptrdiff_t stride = grids_ == Grids::rows ? width * subgrid.columns_of_processors : width;
    const std::ptrdiff_t doubles = grids_ == Grids::rows ? down(subgrid, unit_) * subgrid.rows_of_processors : height * stride;
    const std::ptrdiff_t corner = grids_ == Grids::rows ? subgrid.row * down(subgrid, unit_) + subgrid.column * width : 0;
    double* const at = memory_ == nullptr ? nullptr : memory_ + used_ + corner;
    used_ += static_cast<std::size_t>(doubles + 7) / 8 * 8;
    return at == nullptr ? Tile{} : Tile{at + stride + 1, stride, subgrid.rows, subgrid.columns};
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  double* memory_ = nullptr;
  Grids grids_ = Grids::contiguous;
  std::ptrdiff_t unit_ = 1;
  std::size_t used_ = 0;
};

}  // namespace splash2::ocean
