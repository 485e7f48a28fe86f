#include "apps/gas/stencil/block.hpp"

#include <algorithm>
#include <cmath>

namespace gas::stencil {

namespace {

/// Half waves down and across, and how high.
struct Wave {
  int down;
  int across;
  double height;
};
constexpr std::array<Wave, 3> kWaves = {Wave{1, 1, 1.0}, Wave{3, 2, 0.5}, Wave{2, 7, 0.25}};

/// A wave's phase at the i-th of n inner points.
double phase(int half_waves, std::size_t i, std::size_t n) {
  return half_waves * M_PI * static_cast<double>(i + 1) / static_cast<double>(n + 1);
}

double shape(const Parameters& p, const Wave& wave, std::size_t row, std::size_t column) {
  return wave.height * std::sin(phase(wave.down, row, p.rows)) * std::sin(phase(wave.across, column, p.columns));
}

/// What a step multiplies a wave with.
double factor(const Parameters& p, const Wave& wave) {
  const double down = std::sin(phase(wave.down, 0, p.rows) / 2);
  const double across = std::sin(phase(wave.across, 0, p.columns) / 2);
  return 1 - 4 * p.diffusion * (down * down + across * across);
}

}  // namespace

double initial_value(const Parameters& parameters, std::size_t row, std::size_t column) { return exact_value(parameters, row, column, 0); }

double exact_value(const Parameters& parameters, std::size_t row, std::size_t column, int steps) {
  double sum = 0;
  for (const Wave& wave : kWaves) sum += shape(parameters, wave, row, column) * std::pow(factor(parameters, wave), steps);
  return sum;
}

Block::Block(const Parameters& parameters, Rectangle where)
    : where_(where),
      diffusion_(parameters.diffusion),
      stride_(where.width() + 2),
      now_((where.height() + 2) * stride_),
      next_(now_.size()) {
  for (std::size_t row = 0; row < where.height(); ++row) {
    for (std::size_t column = 0; column < where.width(); ++column)
      now_[index(row + 1, column + 1)] = initial_value(parameters, where.first_row + row, where.first_column + column);
  }
}

void Block::step(std::size_t first, std::size_t last, std::size_t left, std::size_t right) {
  for (std::size_t row = first; row < last; ++row) {
    const double* above = &now_[index(row - 1, 0)];
    const double* here = &now_[index(row, 0)];
    const double* below = &now_[index(row + 1, 0)];
    double* out = &next_[index(row, 0)];
    for (std::size_t i = left; i < right; ++i)
      out[i] = here[i] + diffusion_ * ((above[i] + below[i]) + (here[i - 1] + here[i + 1]) - 4 * here[i]);
  }
}

void Block::step_inside() {
  if (where_.height() > 2 && where_.width() > 2) step(2, where_.height(), 2, where_.width());
}

void Block::step_rim() {
  const std::size_t bottom = where_.height();
  const std::size_t right = where_.width();
  step(1, 2, 1, right + 1);
  if (bottom > 1) step(bottom, bottom + 1, 1, right + 1);
  if (bottom <= 2) return;
  step(2, bottom, 1, 2);
  if (right > 1) step(2, bottom, right, right + 1);
}

void Block::copy_side(Side side, double* to) const {
  const std::size_t row = side == Side::down ? where_.height() : 1;
  const std::size_t column = side == Side::right ? where_.width() : 1;
  if (side == Side::up || side == Side::down) {
    std::copy_n(&now_[index(row, 1)], where_.width(), to);
  } else {
    for (std::size_t i = 0; i < where_.height(); ++i) to[i] = now_[index(i + 1, column)];
  }
}

void Block::set_frame(Side side, const double* from) {
  const std::size_t row = side == Side::down ? where_.height() + 1 : 0;
  const std::size_t column = side == Side::right ? where_.width() + 1 : 0;
  if (side == Side::up || side == Side::down) {
    std::copy_n(from, where_.width(), &now_[index(row, 1)]);
  } else {
    for (std::size_t i = 0; i < where_.height(); ++i) now_[index(i + 1, column)] = from[i];
  }
}

}  // namespace gas::stencil
