#include "apps/gas/stencil/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace gas::stencil {

splash2::Check check_exact(const Parameters& parameters, const std::vector<double>& field) {
  const double allowed = 1e-13 + 1e-15 * parameters.steps;  // each step rounds; no wave is higher than 1
  double worst = 0;
  bool finite = true;
  // A wave is the product of two sines: rows and columns are sampled so that the check costs less than the run.
  const std::size_t by_row = std::max<std::size_t>(1, parameters.rows / 97);
  const std::size_t by_column = std::max<std::size_t>(1, parameters.columns / 101);
  std::size_t cells = 0;
  for (std::size_t row = 0; row < parameters.rows; row += by_row) {
    for (std::size_t column = 0; column < parameters.columns; column += by_column, ++cells) {
      const double error = std::abs(field[row * parameters.columns + column] - exact_value(parameters, row, column, parameters.steps));
      finite = finite && std::isfinite(error);
      worst = std::max(worst, error);
    }
  }
  return {"waves", finite && worst <= allowed,
          fmt::format("{} cells differ from the scheme's exact solution by {:.1e} at most, {:.0e} allowed", cells,
                      finite ? worst : INFINITY, allowed)};
}

SequentialRun::SequentialRun(const Parameters& parameters, std::int64_t runs)
    : parameters_(parameters), block_(parameters, {0, parameters.rows, 0, parameters.columns}) {
  std::vector<double> times;
  for (std::int64_t run = 0; run < runs; ++run) {
    block_ = Block(parameters, block_.where());
    const double start = splash2::clock_seconds();
    for (int step = 0; step < parameters.steps; ++step) {
      block_.step_inside();
      block_.step_rim();
      block_.advance();
    }
    times.push_back(splash2::clock_seconds() - start);
  }
  seconds_ = splash2::median(std::move(times));
}

splash2::Check SequentialRun::compare(const std::vector<double>& field) const {
  std::size_t different = 0;
  std::string first;
  for (std::size_t row = 0; row < parameters_.rows; ++row) {
    for (std::size_t column = 0; column < parameters_.columns; ++column) {
      const double value = field[row * parameters_.columns + column];
      if (value != block_.at(row, column) && different++ == 0)
        first = fmt::format("({}, {}): {} instead of {}", row, column, value, block_.at(row, column));
    }
  }
  return {"reference", different == 0,
          different == 0 ? std::string("equal to the sequential run's field, bit by bit")
                         : fmt::format("{} cells differ from the sequential run's, the first at {}", different, first)};
}

}  // namespace gas::stencil
