// The shared memory of ocean, and a processor's way to the others through it.
//
// 1. Grids::contiguous: all grids of a processor lie together (the suite's contiguous partitions), on pages with their home at the processor's node.
//    Grids::rows: each grid is one array (the suite's non-contiguous partitions), whose pages hold pieces of several processors' tiles.
// 2. Neighbours need a processor's border points only. Borders::strips: after computing, a processor copies its four borders into strips, a
//    page or two of its own, and after the barrier neighbours read these; its grids are touched by nobody else. A second set of strips
//    is filled meanwhile, so one barrier an exchange suffices. Borders::direct: neighbours read the borders where they lie, as the suite does (a
//    column of a border is then a page for every few points), between two barriers.
// 3. Global sums and maxima are accumulated under a lock, then read after a barrier. Three accumulators take turns, so that the next is
//    cleared while nobody can read or add to it.
#pragma once

#include <netvm/netvm.hpp>

#include "apps/splash2/common/layout.hpp"
#include "apps/splash2/ocean/team.hpp"

namespace splash2::ocean {

enum class Borders : std::uint8_t { strips, direct };

/// Made on each node, collectively; used by all its threads.
class Basin {
 public:
  /// `doubles`: what the arena of a processor needs (of all processors, with rows). `shape`: how the basin is divided, as any processor's part says.
  Basin(netvm::Job& job, const Subgrid& shape, std::size_t doubles, Grids grids = Grids::contiguous, const LayoutOptions& layout = {});

  /// Where a processor's tiles lie.
  [[nodiscard]] Arena arena_of(int rank) const { return Arena(grids_ + static_cast<std::size_t>(rank) * grids_stride_, layout_, unit_); }
  /// From a processor's tile to the same tile of its neighbour so many rows and columns of processors away.
  [[nodiscard]] std::ptrdiff_t way_to(const Subgrid& subgrid, const Tile& tile, int down, int right) const {
    if (layout_ == Grids::rows) {
      const Subgrid level = subgrid.with_cells(tile.rows * subgrid.rows_of_processors);
      return down * Arena::down(level, static_cast<std::ptrdiff_t>(unit_)) + right * (tile.columns + 2);
    }
    return static_cast<std::ptrdiff_t>(grids_stride_) * (down * subgrid.columns_of_processors + right);
  }

 private:
  friend class SharedTeam;
  struct Accumulators {
    netvm::mutex lock;
    double value[3];
  };
  [[nodiscard]] double* strips_of(int rank, unsigned turn) const {
    return strips_ + (2 * static_cast<std::size_t>(rank) + turn) * strips_stride_;
  }
  [[nodiscard]] double* gathered_of(int rank) const { return gathered_ + static_cast<std::size_t>(rank) * gathered_stride_; }

  int gather_cells_;
  Grids layout_;
  std::size_t unit_;          ///< doubles of a page, or 1: where strips begin
  std::size_t grids_stride_;  ///< 0 with rows
  std::size_t strips_stride_;
  std::size_t gathered_stride_;
  double* grids_;
  double* strips_;
  double* gathered_;  ///< each processor's part of the right side that is gathered
  double* solved_;    ///< the whole solution that comes back, with its frame
  Accumulators* accumulators_;
};

/// Lives on a thread of parallel().
class SharedTeam final : public Team {
 public:
  SharedTeam(netvm::Thread& me, const Basin& basin, const Subgrid& subgrid, Borders borders)
      : me_(me), basin_(basin), subgrid_(subgrid), borders_(borders) {}

  void exchange(std::initializer_list<Tile> tiles) override;
  double max(double value) override;
  double sum(double value) override;
  [[nodiscard]] int gather_cells() const override { return basin_.gather_cells_; }
  void solve_gathered(const Subgrid& subgrid, const Tile& f, const Tile& u,
                      const std::function<void(const Tile& f, const Tile& u)>& solve) override;

 private:
  void exchange_by_strips(std::initializer_list<Tile> tiles);
  void exchange_directly(std::initializer_list<Tile> tiles);
  template <class Combine>
  double accumulate(double value, Combine combine);
  void gather_and_solve(const Subgrid& subgrid, const std::function<void(const Tile& f, const Tile& u)>& solve);

  netvm::Thread& me_;
  const Basin& basin_;
  Subgrid subgrid_;
  Borders borders_;
  unsigned strips_turn_ = 0;
  unsigned accumulator_turn_ = 0;
};

}  // namespace splash2::ocean
