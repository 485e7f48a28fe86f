#include "apps/splash2/cholesky/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace splash2::cholesky {

namespace {

constexpr double kSolutionTolerance = 1e-9;
constexpr double kDifferenceTolerance = 1e-10;  // of the largest number: updates are subtracted in another order

}  // namespace

Check self_test(const Matrix& matrix, const Structure& structure, const Factorization& factorization) {
  std::vector<double> x = matrix.diagonal;
  for (std::size_t column = 0; column < matrix.order(); ++column) {
    for (const Matrix::Entry& entry : matrix.below[column]) {
      x[column] += entry.value;
      x[static_cast<std::size_t>(entry.row)] += entry.value;
    }
  }
  const auto count = static_cast<std::int32_t>(structure.panels.size());
  for (std::int32_t index = 0; index < count; ++index) {  // L y = b
    const Panel& panel = structure.panels[static_cast<std::size_t>(index)];
    const double* const values = factorization.values(index);
    const auto columns = static_cast<std::size_t>(panel.columns);
    for (std::size_t c = 0; c < columns; ++c) {
      double& own = x[static_cast<std::size_t>(panel.rows[c])];
      own /= values[c * columns + c];
      for (std::size_t i = c + 1; i < panel.rows.size(); ++i) x[static_cast<std::size_t>(panel.rows[i])] -= values[i * columns + c] * own;
    }
  }
  for (std::int32_t index = count; index-- > 0;) {  // L^T x = y
    const Panel& panel = structure.panels[static_cast<std::size_t>(index)];
    const double* const values = factorization.values(index);
    const auto columns = static_cast<std::size_t>(panel.columns);
    for (std::size_t c = columns; c-- > 0;) {
      double& own = x[static_cast<std::size_t>(panel.rows[c])];
      for (std::size_t i = c + 1; i < panel.rows.size(); ++i) own -= values[i * columns + c] * x[static_cast<std::size_t>(panel.rows[i])];
      own /= values[c * columns + c];
    }
  }
  double worst = 0;
  bool finite = true;
  for (const double value : x) {
    finite = finite && std::isfinite(value);
    worst = std::max(worst, std::abs(value - 1));
  }
  return {"self-test", finite && worst <= kSolutionTolerance,
          fmt::format("the solution of L L^T x = A 1 is wrong by {:.1e} at most, {:.0e} allowed", finite ? worst : INFINITY,
                      kSolutionTolerance)};
}

SequentialRun::SequentialRun(const Problem& problem, const Matrix& matrix, std::int64_t runs)
    : structure_(find_structure(problem, matrix, 1)),
      run_(runs, [&](Store& store) { return std::make_unique<Factorization>(store, matrix, structure_); }) {}

Check SequentialRun::compare(const Factorization& factorization) const {
  double largest = 0;
  double worst = 0;
  bool finite = true;
  for (std::size_t i = 0; i < structure_.panels.size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    const Panel& panel = structure_.panels[i];
    const auto columns = static_cast<std::size_t>(panel.columns);
    for (std::size_t at = 0; at < panel.doubles(); ++at) {
      if (at / columns < at % columns) continue;  // above the diagonal
      const double expected = run_.algorithm().values(index)[at];
      const double difference = std::abs(factorization.values(index)[at] - expected);
      finite = finite && std::isfinite(difference);
      worst = std::max(worst, difference);
      largest = std::max(largest, std::abs(expected));
    }
  }
  return {"reference", finite && worst <= kDifferenceTolerance * largest,
          fmt::format("differs from the sequential run's factor by {:.1e} of the largest number, {:.0e} allowed",
                      finite ? worst / largest : INFINITY, kDifferenceTolerance)};
}

}  // namespace splash2::cholesky
