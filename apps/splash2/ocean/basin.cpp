#include "apps/splash2/ocean/basin.hpp"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <vector>

#include "apps/splash2/common/partition.hpp"
#include "apps/splash2/ocean/stencils.hpp"

namespace splash2::ocean {

namespace {

constexpr std::size_t kMostFields = 4;  // that one exchange carries
constexpr int kGatherCells = 32;        // a level of 32 x 32 points takes one processor less time than a few barriers

/// Where the borders of one tile lie in strips: the north row, the south row, the west column, the east column.
struct Strips {
  Strips(double* memory, const Tile& tile, std::size_t field) {
    const std::ptrdiff_t rows = tile.rows;
    const std::ptrdiff_t columns = tile.columns;
    north = memory + static_cast<std::ptrdiff_t>(field) * 2 * (rows + columns);
    south = north + columns;
    west = south + columns;
    east = west + rows;
  }
  double *north, *south, *west, *east;
};

void pack(const Tile& tile, const Strips& to) {
  std::copy_n(tile.row(0), tile.columns, to.north);
  std::copy_n(tile.row(tile.rows - 1), tile.columns, to.south);
  for (int i = 0; i < tile.rows; ++i) {
    to.west[i] = tile.at(i, 0);
    to.east[i] = tile.at(i, tile.columns - 1);
  }
}

/// Sets the part of the frame that lies `down` and `right` of the tile from that neighbour's strips.
void unpack(const Strips& from, int down, int right, const Tile& tile) {
  const int rows = tile.rows;
  const int columns = tile.columns;
  const int frame_row = down < 0 ? -1 : rows;
  const int frame_column = right < 0 ? -1 : columns;
  const double* const row_strip = down < 0 ? from.south : from.north;
  if (right == 0) {
    std::copy_n(row_strip, columns, tile.row(frame_row));
  } else if (down == 0) {
    const double* const column_strip = right < 0 ? from.east : from.west;
    for (int i = 0; i < rows; ++i) tile.at(i, frame_column) = column_strip[i];
  } else {
    tile.at(frame_row, frame_column) = row_strip[right < 0 ? columns - 1 : 0];
  }
}

/// The same from the neighbour's tile.
void copy_border(const Tile& from, int down, int right, const Tile& tile) {
  const int frame_row = down < 0 ? -1 : tile.rows;
  const int frame_column = right < 0 ? -1 : tile.columns;
  const int from_row = down < 0 ? tile.rows - 1 : 0;
  const int from_column = right < 0 ? tile.columns - 1 : 0;
  if (right == 0) {
    std::copy_n(from.row(from_row), tile.columns, tile.row(frame_row));
  } else if (down == 0) {
    for (int i = 0; i < tile.rows; ++i) tile.at(i, frame_column) = from.at(i, from_column);
  } else {
    tile.at(frame_row, frame_column) = from.at(from_row, from_column);
  }
}

template <class F>
void for_each_neighbour(const Subgrid& subgrid, F f) {
  for (const int down : {-1, 0, 1}) {
    for (const int right : {-1, 0, 1}) {
      if (down == 0 && right == 0) continue;
      if (const int rank = subgrid.neighbour(down, right); rank >= 0) f(rank, down, right);
    }
  }
}

}  // namespace

Basin::Basin(netvm::Job& job, const Subgrid& shape, std::size_t doubles, Grids grids, const LayoutOptions& layout)
    : layout_(grids), unit_(layout.padded(1, sizeof(double))) {
  const int processors = processors_of(job);
  const auto page_doubles = [&](std::size_t count) { return layout.padded(count, sizeof(double)); };
  // Each level that is not gathered has at least two points a side on each processor.
  gather_cells_ = std::max(kGatherCells, std::max(shape.rows_of_processors, shape.columns_of_processors));
  const auto most_gathered = static_cast<std::size_t>(gather_cells_);
  grids_stride_ = grids == Grids::rows ? 0 : page_doubles(doubles);
  strips_stride_ = page_doubles(kMostFields * 2 * static_cast<std::size_t>(shape.rows + shape.columns));
  gathered_stride_ = page_doubles(most_gathered * most_gathered / static_cast<std::size_t>(processors) + 1);
  const netvm::AllocationOptions at_owner = layout.allocation();
  const netvm::AllocationOptions at_first{.placement = netvm::Placement::at(0)};
  const auto parts = static_cast<std::size_t>(processors);
  grids_ = job.allocate_all<double>(grids == Grids::rows ? doubles : parts * grids_stride_, at_owner);
  strips_ = job.allocate_all<double>(parts * 2 * strips_stride_, at_owner);
  gathered_ = job.allocate_all<double>(parts * gathered_stride_, at_owner);
  solved_ = job.allocate_all<double>(Tile::doubles(gather_cells_, gather_cells_), at_first);
  accumulators_ = job.allocate_all<Accumulators>(1, at_first);
  accumulators_->lock.bind(accumulators_->value, std::size(accumulators_->value));
}

void SharedTeam::exchange(std::initializer_list<Tile> tiles) {
  if (borders_ == Borders::strips) {
    exchange_by_strips(tiles);
  } else {
    exchange_directly(tiles);
  }
}

void SharedTeam::exchange_by_strips(std::initializer_list<Tile> tiles) {
  double* const mine = basin_.strips_of(me_.rank(), strips_turn_);
  std::size_t field = 0;
  for (const Tile& tile : tiles) pack(tile, Strips(mine, tile, field++));
  me_.barrier();
  for_each_neighbour(subgrid_, [&](int rank, int down, int right) {
    double* const theirs = basin_.strips_of(rank, strips_turn_);
    std::size_t at = 0;
    for (const Tile& tile : tiles) unpack(Strips(theirs, tile, at++), down, right, tile);
  });
  strips_turn_ ^= 1U;
}

void SharedTeam::exchange_directly(std::initializer_list<Tile> tiles) {
  me_.barrier();
  for_each_neighbour(subgrid_, [&](int /*rank*/, int down, int right) {
    for (const Tile& tile : tiles) {
      Tile theirs = tile;
      theirs.origin += basin_.way_to(subgrid_, tile, down, right);
      copy_border(theirs, down, right, tile);
    }
  });
  me_.barrier();
}

template <class Combine>
double SharedTeam::accumulate(double value, Combine combine) {
  Basin::Accumulators& all = *basin_.accumulators_;
  const unsigned turn = accumulator_turn_;
  const unsigned next = (turn + 1) % 3;
  {
    const std::scoped_lock guard(all.lock);
    all.value[turn] = combine(all.value[turn], value);
    if (me_.rank() == 0) all.value[next] = 0;
  }
  me_.barrier();
  accumulator_turn_ = next;
  return all.value[turn];
}

double SharedTeam::max(double value) {
  return accumulate(value, [](double a, double b) { return std::max(a, b); });
}

double SharedTeam::sum(double value) {
  return accumulate(value, [](double a, double b) { return a + b; });
}

void SharedTeam::solve_gathered(const Subgrid& subgrid, const Tile& f, const Tile& u,
                                const std::function<void(const Tile& f, const Tile& u)>& solve) {
  double* to = basin_.gathered_of(me_.rank());
  for (int i = 0; i < f.rows; ++i) to = std::copy_n(f.row(i), f.columns, to);
  me_.barrier();
  if (me_.rank() == 0) gather_and_solve(subgrid, solve);
  me_.barrier();
  const Tile solved = Tile::in(basin_.solved_, subgrid.cells, subgrid.cells);
  for (int i = -1; i <= u.rows; ++i) {
    std::copy_n(solved.row(subgrid.first_row + i) + subgrid.first_column - 1, u.columns + 2, u.row(i) - 1);
  }
}

void SharedTeam::gather_and_solve(const Subgrid& subgrid, const std::function<void(const Tile& f, const Tile& u)>& solve) {
  const int cells = subgrid.cells;
  std::vector<double> f_memory(Tile::doubles(cells, cells));
  std::vector<double> u_memory(Tile::doubles(cells, cells));
  const Tile f = Tile::in(f_memory.data(), cells, cells);
  const Tile u = Tile::in(u_memory.data(), cells, cells);
  for (int rank = 0; rank < me_.count(); ++rank) {
    const Subgrid part = subgrid.of_rank(rank);
    const double* from = basin_.gathered_of(rank);
    for (int i = 0; i < part.rows; ++i, from += part.columns)
      std::copy_n(from, part.columns, f.row(part.first_row + i) + part.first_column);
  }
  solve(f, u);
  std::copy(u_memory.begin(), u_memory.end(), basin_.solved_);
}

}  // namespace splash2::ocean
