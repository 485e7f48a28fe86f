// The blocked dense LU factorization of SPLASH-2 (Woo, Singh, Hennessy, ASPLOS 1994; Woo et al., ISCA 1995), without pivoting. Step k: the
// owner of the diagonal block factors it; barrier; owners divide the blocks below and to the right of it by it; barrier; owners update the
// blocks that remain.
//
// 1. A block is written by its owner alone. What a step reads of others (one diagonal block, one row and one column of blocks) is final.
// 2. So two barriers a step suffice: the next diagonal block was last updated by the processor that factors it.
// 3. Each element sees the same operations in the same order at any number of processors, in either layout: the answer does not depend on them.
#pragma once

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/lu/block_ops.hpp"
#include "apps/splash2/lu/matrix.hpp"

namespace splash2::lu {

/// One processor's share of the work.
class Worker {
 public:
  Worker(const BlockMatrix& matrix, int rank) : matrix_(matrix), blocks_(matrix.problem().blocks()), rank_(rank) {}

  void make_input() const;
  void factor_diagonal(std::size_t step) const;
  void divide_perimeter(std::size_t step) const;
  void update_interior(std::size_t step) const;
  [[nodiscard]] std::size_t steps() const { return blocks_; }

 private:
  [[nodiscard]] bool mine(std::size_t i, std::size_t j) const { return matrix_.owner(i, j) == rank_; }
  [[nodiscard]] Block block(std::size_t i, std::size_t j) const {
    return {matrix_.block(i, j), matrix_.stride(), matrix_.problem().extent(i), matrix_.problem().extent(j)};
  }

  const BlockMatrix& matrix_;
  std::size_t blocks_;
  int rank_;
};

/// All steps. `wait` is called where all must have come. Returns seconds in all and at barriers.
template <class Wait>
ProcessorTime factor(const Worker& worker, Wait wait) {
  ProcessorTime time;
  const double start = clock_seconds();
  const auto timed_wait = [&] {
    const double before = clock_seconds();
    wait();
    time.part += clock_seconds() - before;
  };
  for (std::size_t step = 0; step < worker.steps(); ++step) {
    worker.factor_diagonal(step);
    timed_wait();
    worker.divide_perimeter(step);
    timed_wait();
    worker.update_interior(step);
  }
  timed_wait();
  time.total = clock_seconds() - start;
  return time;
}

}  // namespace splash2::lu
