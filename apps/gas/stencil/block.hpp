// One processor's part of the field: a rectangle of cells in private memory, with a frame of one cell for its neighbours' values.
//
// 1. A step computes each cell from itself and its four neighbours: the explicit scheme for the heat equation, u + c (sum of the four - 4 u).
// 2. step_inside() reads no frame and may run while the neighbours' values are under way; step_rim() computes the rest. Each cell is computed once, by the same
//    expression wherever the field is cut: any division of the field gives the same bits.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace gas::stencil {

struct Parameters {
  std::size_t rows = 1024;
  std::size_t columns = 1024;
  int steps = 200;
  double diffusion = 0.2;  ///< c: stable up to 1/4
};

enum class Side : std::size_t { up, down, left, right };
inline constexpr std::array<Side, 4> kSides = {Side::up, Side::down, Side::left, Side::right};
constexpr Side opposite(Side side) { return static_cast<Side>(static_cast<std::size_t>(side) ^ 1U); }

/// [first, last) of rows and columns of the field.
struct Rectangle {
  std::size_t first_row = 0, last_row = 0, first_column = 0, last_column = 0;
  [[nodiscard]] std::size_t height() const { return last_row - first_row; }
  [[nodiscard]] std::size_t width() const { return last_column - first_column; }
  /// Cells along a side.
  [[nodiscard]] std::size_t length(Side side) const { return side == Side::up || side == Side::down ? width() : height(); }
};

/// The field at the start, whose edges are 0 for all time: a few waves, of which the scheme is known to keep the shape.
double initial_value(const Parameters& parameters, std::size_t row, std::size_t column);
/// What the scheme makes of them after `steps` steps, but for rounding: each wave shrinks by its own factor.
double exact_value(const Parameters& parameters, std::size_t row, std::size_t column, int steps);

class Block {
 public:
  /// With the initial field.
  Block(const Parameters& parameters, Rectangle where);

  [[nodiscard]] const Rectangle& where() const { return where_; }
  /// The current value of a cell, by its place in the block.
  [[nodiscard]] double at(std::size_t row, std::size_t column) const { return now_[index(row + 1, column + 1)]; }

  void step_inside();
  void step_rim();
  /// After both: the new values become the current ones.
  void advance() { now_.swap(next_); }

  /// Copies the outermost cells of a side out, and a neighbour's into the frame.
  void copy_side(Side side, double* to) const;
  void set_frame(Side side, const double* from);

 private:
  [[nodiscard]] std::size_t index(std::size_t row, std::size_t column) const { return row * stride_ + column; }
  /// Rows [first, last) and columns [left, right) of the block with its frame.
  void step(std::size_t first, std::size_t last, std::size_t left, std::size_t right);

  Rectangle where_;
  double diffusion_;
  std::size_t stride_;
  std::vector<double> now_;
  std::vector<double> next_;
};

}  // namespace gas::stencil
