#include "apps/splash2/fft/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace splash2::fft {

namespace {

/// Decimation in time, from every `step`-th element of `from` to `to`; roots[k] = w_n^k of the whole transform.
void recursive_fft(const Complex* from, Complex* to, std::size_t points, std::size_t step, const std::vector<Complex>& roots) {
  if (points == 1) {
    *to = *from;
    return;
  }
  const std::size_t half = points / 2;
  recursive_fft(from, to, half, 2 * step, roots);
  recursive_fft(from + step, to + half, half, 2 * step, roots);
  for (std::size_t k = 0; k < half; ++k) {
    const Complex even = to[k];
    const Complex odd = to[k + half] * roots[k * step];
    to[k] = even + odd;
    to[k + half] = even - odd;
  }
}

struct Difference {
  double most = 0;      ///< largest squared distance of two elements
  double expected = 0;  ///< sum of squares of what is expected
  bool finite = true;
};

Difference combine(const Difference& a, const Difference& b) {
  return {std::max(a.most, b.most), a.expected + b.expected, a.finite && b.finite};
}

void add(Difference& difference, Complex got, Complex expected) {
  const double distance = norm(got - expected);
  difference.most = std::max(difference.most, distance);
  difference.finite = difference.finite && std::isfinite(distance);
  difference.expected += norm(expected);
}

Check judge(const std::string& name, const std::string& what, const Difference& difference, std::size_t points) {
  const double error = std::sqrt(difference.most / (difference.expected / static_cast<double>(points)));
  return {name, difference.finite && error <= kTolerance,
          fmt::format("{}: largest error {:.2e} of the root mean square, {:.0e} allowed", what, difference.finite ? error : INFINITY,
                      kTolerance)};
}

}  // namespace

Check compare_with_input(netvm::Thread& me, const Problem& problem, const RowLayout& layout, const Complex* back) {
  Difference mine;
  const Part rows = layout.rows_of(me.rank());
  for (std::size_t row = rows.first; row < rows.last; ++row) {
    const Complex* const elements = back + layout.row(me.rank(), row);
    for (std::size_t column = 0; column < layout.edge(); ++column) add(mine, elements[column], problem.input(row * layout.edge() + column));
  }
  return judge("self-test", "the inverse transform gives the input", me.reduce(mine, combine), problem.points());
}

Check compare_with_recursive_fft(const Problem& problem, const RowLayout& layout, const Complex* outcome) {
  const std::size_t points = problem.points();
  std::vector<Complex> input(points);
  std::vector<Complex> roots(points / 2);
  std::vector<Complex> expected(points);
  for (std::size_t i = 0; i < points; ++i) input[i] = problem.input(i);
  for (std::size_t k = 0; k < points / 2; ++k) roots[k] = root_of_unity(k, points);
  recursive_fft(input.data(), expected.data(), points, 1, roots);

  Difference difference;
  for (int owner = 0; owner < layout.processors(); ++owner) {
    const Part rows = layout.rows_of(owner);
    for (std::size_t row = rows.first; row < rows.last; ++row) {
      const Complex* const elements = outcome + layout.row(owner, row);
      for (std::size_t column = 0; column < layout.edge(); ++column)
        add(difference, elements[column], expected[row * layout.edge() + column]);
    }
  }
  return judge("reference", "equal to a recursive FFT's", difference, points);
}

double sequential_seconds(const Problem& problem, std::int64_t runs) {
  const RowLayout layout(problem.edge(), 1, problem.line_elements());
  std::vector<Complex> data(layout.elements());
  std::vector<Complex> other(layout.elements());
  std::vector<Complex> roots(layout.elements());
  const Matrices matrices{data.data(), other.data(), roots.data()};
  Worker worker(problem, layout, 0);
  worker.make_roots(matrices);
  return median_seconds(
      runs, [&] { worker.make_input(matrices); }, [&] { six_steps(worker, matrices, Direction::forward, [] {}); });
}

}  // namespace splash2::fft
