// Whether cholesky's answer is right, and what the same factorization costs one processor in private memory.
#pragma once

#include <memory>

#include "apps/splash2/cholesky/factor.hpp"

namespace splash2::cholesky {

/// The program's own test: L L^T x = A (1, ..., 1) has the solution (1, ..., 1). One thread.
Check self_test(const Matrix& matrix, const Structure& structure, const Factorization& factorization);

class SequentialRun {
 public:
  /// Runs `runs` times and keeps the median time.
  SequentialRun(const Problem& problem, const Matrix& matrix, std::int64_t runs);
  [[nodiscard]] double seconds() const { return seconds_; }
  /// The factors, number by number; panels are the same at any number of processors.
  [[nodiscard]] Check compare(const Factorization& factorization) const;

 private:
  Structure structure_;
  std::unique_ptr<PrivateStore> store_;
  std::unique_ptr<Factorization> factorization_;
  double seconds_ = 0;
};

}  // namespace splash2::cholesky
