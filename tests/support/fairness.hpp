// How evenly something was shared out.
#pragma once

#include <cstdint>
#include <vector>

namespace netvm::test {

/// Jain's index of how often each was served: 1 if all were equally often.
inline double fairness(const std::vector<std::uint64_t>& served) {
  double sum = 0;
  double squares = 0;
  for (const std::uint64_t n : served) {
    sum += static_cast<double>(n);
    squares += static_cast<double>(n) * static_cast<double>(n);
  }
  return sum * sum / (static_cast<double>(served.size()) * squares);
}

}  // namespace netvm::test
