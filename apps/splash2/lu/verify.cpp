#include "apps/splash2/lu/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace splash2::lu {

Check self_test(const BlockMatrix& factors) {
  const Problem& problem = factors.problem();
  const std::size_t n = problem.order;
  std::vector<double> x(n, 0.0);
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t column = 0; column < n; ++column) x[row] += problem.element(row, column);
  }
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t column = 0; column < row; ++column) x[row] -= factors.at(row, column) * x[column];
  }
  for (std::size_t row = n; row-- > 0;) {
    for (std::size_t column = row + 1; column < n; ++column) x[row] -= factors.at(row, column) * x[column];
    x[row] /= factors.at(row, row);
  }
  double worst = 0;
  bool finite = true;
  for (const double value : x) {
    worst = std::max(worst, std::abs(value - 1));
    finite = finite && std::isfinite(value);
  }
  return {"self-test", finite && worst <= kTolerance,
          fmt::format("the solution of L U x = A 1 is wrong by {:.1e} at most, {:.0e} allowed", finite ? worst : INFINITY, kTolerance)};
}

SequentialRun::SequentialRun(const Problem& problem, std::int64_t runs)
    : matrix_(problem, Layout::contiguous, 1, [](std::size_t doubles) { return doubles; }), memory_(matrix_.doubles()) {
  matrix_.lie_in(memory_.data());
  const Worker worker(matrix_, 0);
  seconds_ = median_seconds(
      runs, [&] { worker.make_input(); }, [&] { factor(worker, [] {}); });
}

Check SequentialRun::compare(const BlockMatrix& factors) const {
  const std::size_t n = matrix_.problem().order;
  std::size_t different = 0;
  std::string first;
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t column = 0; column < n; ++column) {
      const double got = factors.at(row, column);
      const double expected = matrix_.at(row, column);
      if (got != expected && different++ == 0) first = fmt::format("({}, {}): {:.17g} instead of {:.17g}", row, column, got, expected);
    }
  }
  return {"reference", different == 0,
          different == 0 ? std::string("equal to the sequential run's factors, element by element")
                         : fmt::format("{} of {} elements differ from the sequential run's, the first at {}", different, n * n, first)};
}

}  // namespace splash2::lu
