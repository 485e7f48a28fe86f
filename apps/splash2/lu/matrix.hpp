// The matrix that lu factors, in square blocks, and which processor has which block.
//
// 1. Blocks are dealt to a rectangle of processors, as square as their number allows, in both directions in turn (2-D scatter decomposition).
// 2. Layout::contiguous: a block is one piece of memory, and the blocks of a processor lie together. Layout::rows: the whole matrix is stored
//    by rows, so that a block is as many short pieces as it has rows, between pieces of other processors' blocks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "apps/splash2/common/random.hpp"

namespace splash2::lu {

/// What is factored.
struct Problem {
  std::size_t order = 512;
  std::size_t block = 16;  ///< rows and columns of a block; the last ones are smaller if the order is no multiple

  [[nodiscard]] std::size_t blocks() const { return (order + block - 1) / block; }
  /// Rows of block row (columns of block column) `index`.
  [[nodiscard]] std::size_t extent(std::size_t index) const { return std::min(block, order - index * block); }
  /// The input: uniform in [-1, 1), and the diagonal so much larger that no pivoting is needed.
  [[nodiscard]] double element(std::size_t row, std::size_t column) const {
    return uniform_signed(mix64(3, row * order + column)) + (row == column ? static_cast<double>(order) : 0.0);
  }
};

enum class Layout : std::uint8_t { contiguous, rows };

class BlockMatrix {
 public:
  /// No memory yet. `padded(n)` gives the doubles that a processor's part of n doubles takes.
  template <class Padded>
  BlockMatrix(const Problem& problem, Layout layout, int processors, Padded padded) : problem_(problem), layout_(layout) {
    const auto count = static_cast<std::size_t>(processors);
    for (std::size_t rows = 1; rows * rows <= count; ++rows) {
      if (count % rows == 0) rows_ = rows;
    }
    columns_ = count / rows_;
    blocks_down_ = (problem.blocks() + rows_ - 1) / rows_;
    blocks_across_ = (problem.blocks() + columns_ - 1) / columns_;
    block_doubles_ = problem.block * problem.block;
    part_doubles_ = padded(blocks_down_ * blocks_across_ * block_doubles_);
  }

  [[nodiscard]] std::size_t doubles() const {
    return layout_ == Layout::rows ? problem_.order * problem_.order : part_doubles_ * rows_ * columns_;
  }
  void lie_in(double* memory) { memory_ = memory; }

  [[nodiscard]] const Problem& problem() const { return problem_; }
  [[nodiscard]] std::size_t processor_rows() const { return rows_; }
  [[nodiscard]] std::size_t processor_columns() const { return columns_; }
  [[nodiscard]] int owner(std::size_t i, std::size_t j) const { return static_cast<int>(i % rows_ * columns_ + j % columns_); }
  /// First element of block (i, j); its rows are stride() apart.
  [[nodiscard]] double* block(std::size_t i, std::size_t j) const {
    if (layout_ == Layout::rows) return memory_ + i * problem_.block * problem_.order + j * problem_.block;
    const std::size_t among_own = i / rows_ * blocks_across_ + j / columns_;
    return memory_ + static_cast<std::size_t>(owner(i, j)) * part_doubles_ + among_own * block_doubles_;
  }
  [[nodiscard]] std::size_t stride() const { return layout_ == Layout::rows ? problem_.order : problem_.block; }
  [[nodiscard]] double& at(std::size_t row, std::size_t column) const {
    const std::size_t edge = problem_.block;
    return block(row / edge, column / edge)[row % edge * stride() + column % edge];
  }

 private:
  Problem problem_;
  Layout layout_;
  std::size_t rows_ = 1;  ///< of the rectangle of processors
  std::size_t columns_ = 1;
  std::size_t blocks_down_ = 0;  ///< most blocks of a processor in one column, in one row
  std::size_t blocks_across_ = 0;
  std::size_t block_doubles_ = 0;
  std::size_t part_doubles_ = 0;
  double* memory_ = nullptr;
};

}  // namespace splash2::lu
