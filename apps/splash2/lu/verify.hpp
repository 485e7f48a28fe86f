// Whether lu's answer is right, and what the same factorization costs one processor in private memory.
#pragma once

#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/lu/factor.hpp"

namespace splash2::lu {

/// Largest error that the self-test allows. Elements of the solution are 1; the input is so well conditioned that rounding costs a part in 1e13.
inline constexpr double kTolerance = 1e-10;

/// The kernel's own test: L U x = A (1, ..., 1) has the solution x = (1, ..., 1). One thread.
Check self_test(const BlockMatrix& factors);

/// The same factorization by one processor in private memory, without NetVM, contiguous blocks.
class SequentialRun {
 public:
  /// Runs `runs` times and keeps the median time.
  SequentialRun(const Problem& problem, std::int64_t runs);
  [[nodiscard]] double seconds() const { return seconds_; }
  /// Equal element by element (factor.hpp, 3).
  [[nodiscard]] Check compare(const BlockMatrix& factors) const;

 private:
  BlockMatrix matrix_;
  std::vector<double> memory_;
  double seconds_ = 0;
};

}  // namespace splash2::lu
