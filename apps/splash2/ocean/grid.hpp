// Rectangles of grid points, and which rectangle of the basin a processor has.
#pragma once

#include <cstddef>
#include <cstdint>

namespace splash2::ocean {

/// Points (0..rows-1, 0..columns-1) with a frame of one point around them: (-1, j), (rows, j), (i, -1), (i, columns). The frame holds copies
/// of the neighbours' points, or the basin's walls.
struct Tile {
  double* origin = nullptr;  ///< point (0, 0)
  std::ptrdiff_t stride = 0;
  int rows = 0;
  int columns = 0;

  [[nodiscard]] double* row(int i) const { return origin + stride * i; }
  [[nodiscard]] double& at(int i, int j) const { return origin[stride * i + j]; }
  /// Doubles that a tile with its frame takes.
  static std::size_t doubles(int rows, int columns) { return static_cast<std::size_t>(rows + 2) * static_cast<std::size_t>(columns + 2); }
  /// The tile that lies in `memory`.
  static Tile in(double* memory, int rows, int columns) {
    const std::ptrdiff_t stride = columns + 2;
    return {memory + stride + 1, stride, rows, columns};
  }
};

/// How the interior is divided: rectangles as square as powers of two allow, or strips of whole rows.
enum class Parts : std::uint8_t { rectangles, strips };

/// A processor's rectangle of a square of cells x cells interior points.
struct Subgrid {
  int cells = 0;
  int rows_of_processors = 1;
  int columns_of_processors = 1;
  int row = 0;  ///< of the processor, in the rectangle of processors
  int column = 0;
  int first_row = 0;  ///< of the points, among the basin's interior points
  int first_column = 0;
  int rows = 0;
  int columns = 0;

  static Subgrid of(int cells, int rank, int processors, Parts parts = Parts::rectangles) {
    Subgrid s;
    s.cells = cells;
    while (s.rows_of_processors * s.columns_of_processors < processors) {
      const bool more_rows = parts == Parts::strips || s.rows_of_processors <= s.columns_of_processors;
      (more_rows ? s.rows_of_processors : s.columns_of_processors) *= 2;
    }
    return s.of_rank(rank);
  }
  /// Another processor's.
  [[nodiscard]] Subgrid of_rank(int rank) const {
    Subgrid s = *this;
    s.row = rank / columns_of_processors;
    s.column = rank % columns_of_processors;
    return s.with_cells(cells);
  }
  /// The same processor's rectangle of a finer or coarser grid.
  [[nodiscard]] Subgrid with_cells(int other_cells) const {
    Subgrid s = *this;
    s.cells = other_cells;
    s.rows = other_cells / rows_of_processors;
    s.columns = other_cells / columns_of_processors;
    s.first_row = row * s.rows;
    s.first_column = column * s.columns;
    return s;
  }
  [[nodiscard]] bool north_wall() const { return row == 0; }
  [[nodiscard]] bool south_wall() const { return row == rows_of_processors - 1; }
  [[nodiscard]] bool west_wall() const { return column == 0; }
  [[nodiscard]] bool east_wall() const { return column == columns_of_processors - 1; }
  /// The processor so many rows and columns away; -1 beyond a wall.
  [[nodiscard]] int neighbour(int down, int right) const {
    const int r = row + down;
    const int c = column + right;
    return r < 0 || c < 0 || r >= rows_of_processors || c >= columns_of_processors ? -1 : r * columns_of_processors + c;
  }
};

}  // namespace splash2::ocean
