// Whether cholesky's answer is right, and what the same factorization costs one processor in private memory.
#pragma once

#include "apps/splash2/cholesky/factor.hpp"
#include "apps/splash2/common/runs.hpp"

namespace splash2::cholesky {

/// The program's own test: L L^T x = A (1, ..., 1) has the solution (1, ..., 1). One thread.
Check self_test(const Matrix& matrix, const Structure& structure, const Factorization& factorization);

class SequentialRun {
 public:
  /// Runs `runs` times and keeps the median time.
  SequentialRun(const Problem& problem, const Matrix& matrix, std::int64_t runs);
  [[nodiscard]] double seconds() const { return run_.seconds(); }
  /// The factors, number by number; panels are the same at any number of processors.
  [[nodiscard]] Check compare(const Factorization& factorization) const;

 private:
  Structure structure_;
  SoloRun<Factorization> run_;
};

}  // namespace splash2::cholesky
