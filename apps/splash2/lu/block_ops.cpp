#include "apps/splash2/lu/block_ops.hpp"

namespace splash2::lu {

namespace {

/// to[j] -= factor * from[j].
void subtract_row(double* to, double factor, const double* from, std::size_t count) {
  for (std::size_t j = 0; j < count; ++j) to[j] -= factor * from[j];
}

}  // namespace

void factor_diagonal(const Block& diagonal) {
  for (std::size_t k = 0; k < diagonal.rows; ++k) {
    const double* const pivot = diagonal.row(k);
    for (std::size_t i = k + 1; i < diagonal.rows; ++i) {
      double* const row = diagonal.row(i);
      row[k] /= pivot[k];
      subtract_row(row + k + 1, row[k], pivot + k + 1, diagonal.columns - k - 1);
    }
  }
}

void divide_by_upper(const Block& below, const Block& diagonal) {
  for (std::size_t i = 0; i < below.rows; ++i) {
    double* const row = below.row(i);
    for (std::size_t k = 0; k < below.columns; ++k) {
      const double* const pivot = diagonal.row(k);
      row[k] /= pivot[k];
      subtract_row(row + k + 1, row[k], pivot + k + 1, below.columns - k - 1);
    }
  }
}

void divide_by_lower(const Block& right, const Block& diagonal) {
  for (std::size_t k = 0; k < right.rows; ++k) {
    for (std::size_t i = k + 1; i < right.rows; ++i) subtract_row(right.row(i), diagonal.row(i)[k], right.row(k), right.columns);
  }
}

void subtract_product(const Block& inner, const Block& left, const Block& above) {
  for (std::size_t i = 0; i < inner.rows; ++i) {
    double* const to = inner.row(i);
    const double* const factors = left.row(i);
    for (std::size_t k = 0; k < left.columns; ++k) subtract_row(to, factors[k], above.row(k), inner.columns);
  }
}

}  // namespace splash2::lu
