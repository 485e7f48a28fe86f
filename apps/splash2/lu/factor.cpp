#include "apps/splash2/lu/factor.hpp"

namespace splash2::lu {

void Worker::make_input() const {
  const Problem& problem = matrix_.problem();
  for (std::size_t i = 0; i < blocks_; ++i) {
    for (std::size_t j = 0; j < blocks_; ++j) {
      if (!mine(i, j)) continue;
      const Block to = block(i, j);
      for (std::size_t row = 0; row < to.rows; ++row) {
        for (std::size_t column = 0; column < to.columns; ++column)
          to.row(row)[column] = problem.element(i * problem.block + row, j * problem.block + column);
      }
    }
  }
}

void Worker::factor_diagonal(std::size_t step) const {
  if (mine(step, step)) lu::factor_diagonal(block(step, step));
}

void Worker::divide_perimeter(std::size_t step) const {
  for (std::size_t other = step + 1; other < blocks_; ++other) {
    if (mine(other, step)) divide_by_upper(block(other, step), block(step, step));
    if (mine(step, other)) divide_by_lower(block(step, other), block(step, step));
  }
}

void Worker::update_interior(std::size_t step) const {
  for (std::size_t i = step + 1; i < blocks_; ++i) {
    for (std::size_t j = step + 1; j < blocks_; ++j) {
      if (mine(i, j)) subtract_product(block(i, j), block(i, step), block(step, j));
    }
  }
}

}  // namespace splash2::lu
