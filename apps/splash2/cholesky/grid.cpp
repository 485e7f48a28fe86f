#include "apps/splash2/cholesky/grid.hpp"

#include <algorithm>
#include <array>

#include "apps/splash2/common/random.hpp"

namespace splash2::cholesky {

namespace {

using Corner = std::array<std::size_t, 3>;

/// Numbers the points of a box: one half, the other half, then the plane that parts them.
class Dissection {
 public:
  explicit Dissection(std::size_t side) : side_(side) {}
  void number_box(Corner low, Corner high, std::vector<std::int32_t>& numbers) {
    int longest = 0;
    for (int axis = 1; axis < 3; ++axis) {
      if (size(low, high, axis) > size(low, high, longest)) longest = axis;
    }
    const auto along = static_cast<std::size_t>(longest);
    if (size(low, high, longest) < 3) {
      number_in_rows(low, high, numbers);
      return;
    }
    const std::size_t middle = (low[along] + high[along]) / 2;
    const auto cut = [&](std::size_t from, std::size_t to) {
      Corner a = low;
      Corner b = high;
      a[along] = from;
      b[along] = to;
      return std::array{a, b};
    };
    const auto [left_low, left_high] = cut(low[along], middle);
    const auto [right_low, right_high] = cut(middle + 1, high[along]);
    const auto [plane_low, plane_high] = cut(middle, middle + 1);
    number_box(left_low, left_high, numbers);
    number_box(right_low, right_high, numbers);
    number_in_rows(plane_low, plane_high, numbers);
  }

 private:
  static std::size_t size(const Corner& low, const Corner& high, int axis) {
    return high[static_cast<std::size_t>(axis)] - low[static_cast<std::size_t>(axis)];
  }
  /// For the smallest boxes, and for planes: a plane's points are joined to each other in the factor, so that their order hardly matters.
  void number_in_rows(const Corner& low, const Corner& high, std::vector<std::int32_t>& numbers) {
    for (std::size_t z = low[2]; z < high[2]; ++z) {
      for (std::size_t y = low[1]; y < high[1]; ++y) {
        for (std::size_t x = low[0]; x < high[0]; ++x) numbers[(z * side_ + y) * side_ + x] = next_++;
      }
    }
  }

  std::size_t side_;
  std::int32_t next_ = 0;
};

double weight(std::size_t a, std::size_t b) { return 0.5 + uniform_unit(mix64(11, (std::uint64_t{a} << 32) + b)); }

}  // namespace

Matrix make_matrix(const Problem& problem) {
  const std::size_t side = problem.side;
  const std::size_t depth = problem.cube ? side : 1;
  std::vector<std::int32_t> numbers(problem.points());
  Dissection(side).number_box({0, 0, 0}, {side, side, depth}, numbers);

  Matrix matrix;
  matrix.diagonal.resize(problem.points());
  matrix.below.resize(problem.points());
  const auto join = [&](std::size_t a, std::size_t b) {
    const double w = weight(a, b);
    const std::int32_t column = std::min(numbers[a], numbers[b]);
    matrix.below[static_cast<std::size_t>(column)].push_back({std::max(numbers[a], numbers[b]), -w});
    matrix.diagonal[static_cast<std::size_t>(numbers[a])] += w;
    matrix.diagonal[static_cast<std::size_t>(numbers[b])] += w;
  };
  for (std::size_t z = 0; z < depth; ++z) {
    for (std::size_t y = 0; y < side; ++y) {
      for (std::size_t x = 0; x < side; ++x) {
        const std::size_t at = (z * side + y) * side + x;
        if (x + 1 < side) join(at, at + 1);
        if (y + 1 < side) join(at, at + side);
        if (z + 1 < depth) join(at, at + side * side);
        double& diagonal = matrix.diagonal[static_cast<std::size_t>(numbers[at])];
        const auto at_wall = [side](std::size_t c) { return (c == 0 ? 1 : 0) + (c + 1 == side ? 1 : 0); };
        diagonal += weight(at, at) * (at_wall(x) + at_wall(y) + (problem.cube ? at_wall(z) : 0));
      }
    }
  }
  for (std::vector<Matrix::Entry>& column : matrix.below)
    std::sort(column.begin(), column.end(), [](const Matrix::Entry& a, const Matrix::Entry& b) { return a.row < b.row; });
  return matrix;
}

}  // namespace splash2::cholesky
