// What lu does to single blocks. All blocks have their rows `stride` apart; sizes are at most a block's.
#pragma once

#include <cstddef>

namespace splash2::lu {

/// A piece of the matrix.
struct Block {
  double* at = nullptr;
  std::size_t stride = 0;
  std::size_t rows = 0;
  std::size_t columns = 0;
  [[nodiscard]] double* row(std::size_t i) const { return at + i * stride; }
};

/// diagonal = L U, in place; L has ones on its diagonal, which are not stored.
void factor_diagonal(const Block& diagonal);
/// below = below U^-1, where U is the upper triangle of `diagonal`.
void divide_by_upper(const Block& below, const Block& diagonal);
/// right = L^-1 right, where L is the lower triangle of `diagonal`.
void divide_by_lower(const Block& right, const Block& diagonal);
/// inner -= left * above.
void subtract_product(const Block& inner, const Block& left, const Block& above);

}  // namespace splash2::lu
