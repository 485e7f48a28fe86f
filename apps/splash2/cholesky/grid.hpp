// The matrices that cholesky factors: Laplacians of square and cubic grids with mixed weights, numbered by nested dissection (George, SIAM J. Numer.
// Anal. 10, 1973).
#pragma once

#include <cstdint>
#include <vector>

namespace splash2::cholesky {

/// What is factored.
struct Problem {
  std::size_t side = 64;  ///< grid points a side
  bool cube = false;
  std::size_t panel = 32;  ///< most columns of a panel

  [[nodiscard]] std::size_t points() const { return side * side * (cube ? side : 1); }
};

/// A symmetric positive definite matrix: the diagonal and what is below it, by columns.
struct Matrix {
  struct Entry {
    std::int32_t row;
    double value;
  };
  std::vector<double> diagonal;
  std::vector<std::vector<Entry>> below;  ///< rows ascend

  [[nodiscard]] std::size_t order() const { return diagonal.size(); }
};

/// Neighbouring points have an entry of -w, with w from 0.5 to 1.5 by a mix of the two points; the diagonal is the sum of the weights to all four (six)
/// sides, walls included.
Matrix make_matrix(const Problem& problem);

}  // namespace splash2::cholesky
