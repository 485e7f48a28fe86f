#include "apps/splash2/fft/six_step.hpp"

#include <algorithm>

#include "apps/splash2/common/random.hpp"

namespace splash2::fft {

std::size_t Problem::line_elements() const { return std::max<std::size_t>(1, (std::size_t{1} << log2_line) / sizeof(Complex)); }

std::size_t Problem::patch_edge(std::size_t rows) const {
  const std::size_t cache_elements = (cache_lines << log2_line) / sizeof(Complex);
  std::size_t edge = 1;
  while (2 * edge <= rows && 2 * (2 * edge) * (2 * edge) <= cache_elements) edge *= 2;
  return edge;
}

Complex Problem::input(std::size_t i) const { return {uniform_signed(mix64(2, 2 * i)), uniform_signed(mix64(2, 2 * i + 1))}; }

Worker::Worker(const Problem& problem, const RowLayout& layout, int rank)
    : problem_(problem),
      layout_(layout),
      rank_(rank),
      rows_(layout.rows_of(rank)),
      row_fft_(problem.edge()),
      patch_(problem.patch_edge(rows_.size())),
      tile_(patch_ * patch_) {}

void Worker::make_input(const Matrices& matrices) const {
  for (std::size_t row = rows_.first; row < rows_.last; ++row) {
    Complex* const to = matrices.data + layout_.row(rank_, row);
    for (std::size_t column = 0; column < layout_.edge(); ++column) to[column] = problem_.input(row * layout_.edge() + column);
    std::fill_n(matrices.other + layout_.row(rank_, row), layout_.edge(), Complex{});
  }
}

void Worker::make_roots(const Matrices& matrices) const {
  for (std::size_t row = rows_.first; row < rows_.last; ++row) {
    Complex* const to = matrices.roots + layout_.row(rank_, row);
    for (std::size_t column = 0; column < layout_.edge(); ++column) to[column] = root_of_unity(row * column, problem_.points());
  }
}

void Worker::transpose(const Complex* from, Complex* to) {
  for (int turn = 1; turn <= layout_.processors(); ++turn) transpose_block(from, to, (rank_ + turn) % layout_.processors());
}

/// to[row][column] = from[column][row], for own rows and the columns that are `owner`'s rows.
void Worker::transpose_block(const Complex* from, Complex* to, int owner) {
  const Part columns = layout_.rows_of(owner);
  for (std::size_t column = columns.first; column < columns.last; column += patch_) {
    const std::size_t height = std::min(patch_, columns.last - column);
    for (std::size_t row = rows_.first; row < rows_.last; row += patch_) {
      const std::size_t width = std::min(patch_, rows_.last - row);
      for (std::size_t j = 0; j < height; ++j) {
        const Complex* const source = from + layout_.row(owner, column + j) + row;
        std::copy_n(source, width, tile_.data() + j * patch_);
      }
      for (std::size_t i = 0; i < width; ++i) {
        Complex* const target = to + layout_.row(rank_, row + i) + column;
        for (std::size_t j = 0; j < height; ++j) target[j] = tile_[j * patch_ + i];
      }
    }
  }
}

void Worker::transform_and_turn(Complex* matrix, const Complex* roots, Direction direction) const {
  for (std::size_t row = rows_.first; row < rows_.last; ++row) {
    Complex* const elements = matrix + layout_.row(rank_, row);
    const Complex* const turn = roots + layout_.row(rank_, row);
    row_fft_(elements, direction);
    if (direction == Direction::inverse) {
      for (std::size_t k = 0; k < layout_.edge(); ++k) elements[k] = elements[k] * conj(turn[k]);
    } else {
      for (std::size_t k = 0; k < layout_.edge(); ++k) elements[k] = elements[k] * turn[k];
    }
  }
}

void Worker::transform(Complex* matrix, Direction direction) const {
  const double scale = direction == Direction::inverse ? 1.0 / static_cast<double>(problem_.points()) : 1.0;
  for (std::size_t row = rows_.first; row < rows_.last; ++row) {
    Complex* const elements = matrix + layout_.row(rank_, row);
    row_fft_(elements, direction);
    if (direction == Direction::inverse) {
      for (std::size_t k = 0; k < layout_.edge(); ++k) elements[k] = {elements[k].re * scale, elements[k].im * scale};
    }
  }
}

}  // namespace splash2::fft
