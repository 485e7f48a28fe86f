#include "apps/splash2/volrend/volume.hpp"

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::volrend {

namespace {

constexpr std::size_t kFinestBrick = 4;

/// Later ones lie inside of earlier ones and replace their density. z is up, y to the back.
struct Ellipsoid {
  Vec3 centre;
  Vec3 axes;
  double density;
};
constexpr Ellipsoid kHead[] = {
    {{0.50, 0.52, 0.55}, {0.36, 0.42, 0.42}, 90},                                                   // skin
    {{0.50, 0.10, 0.48}, {0.05, 0.07, 0.08}, 90},                                                   // nose
    {{0.14, 0.54, 0.52}, {0.04, 0.07, 0.09}, 90},                                                   // ears
    {{0.86, 0.54, 0.52}, {0.04, 0.07, 0.09}, 90},    {{0.50, 0.55, 0.10}, {0.17, 0.18, 0.28}, 90},  // neck
    {{0.50, 0.53, 0.57}, {0.33, 0.385, 0.385}, 230},                                                // skull
    {{0.50, 0.36, 0.30}, {0.20, 0.22, 0.10}, 230},                                                  // jaw
    {{0.50, 0.55, 0.12}, {0.06, 0.07, 0.30}, 230},                                                  // spine
    {{0.50, 0.54, 0.60}, {0.30, 0.35, 0.34}, 120},                                                  // brain
    {{0.37, 0.17, 0.55}, {0.07, 0.07, 0.06}, 60},                                                   // eyes
    {{0.63, 0.17, 0.55}, {0.07, 0.07, 0.06}, 60},    {{0.44, 0.52, 0.62}, {0.05, 0.14, 0.08}, 40},  // ventricles
    {{0.56, 0.52, 0.62}, {0.05, 0.14, 0.08}, 40},
};
constexpr double kGrain = 12;

std::uint64_t key_of(Vec3 at) {
  const auto cell = [](double x) { return static_cast<std::uint64_t>(std::lround(x * 4096)); };
  return (cell(at.z) << 26U) + (cell(at.y) << 13U) + cell(at.x);
}

}  // namespace

std::uint8_t density_of_head(Vec3 at) {
  double density = 0;
  for (const Ellipsoid& part : kHead) {
    const Vec3 from = at - part.centre;
    const double depth = 1 - std::sqrt(from.x * from.x / (part.axes.x * part.axes.x) + from.y * from.y / (part.axes.y * part.axes.y) +
                                       from.z * from.z / (part.axes.z * part.axes.z));
    const double share = std::clamp(0.5 + depth * 25, 0.0, 1.0);  // surfaces are a little soft, as scanners see them
    density += share * (part.density - density);
  }
  if (density > 110 && density < 130) density += kGrain * (uniform_unit(mix64(12, key_of(at))) - 0.5);
  return static_cast<std::uint8_t>(std::lround(density));
}

Volume::Volume(Store& store, std::size_t side) : side_(side), voxels_(store.array<std::uint8_t>(side * side * side)) {
  for (std::size_t edge = kFinestBrick; edge == kFinestBrick || edge < side; edge *= 2) {
    const std::size_t count = (side + edge - 1) / edge;
    levels_.push_back({edge, count, store.array<std::uint8_t>(count * count * count)});
  }
}

void Volume::fill(Team& team) const {
  const Part slices = Part::of(side_, team.rank(), team.count());
  const double scale = 1.0 / static_cast<double>(side_);
  for (std::size_t z = slices.first; z < slices.last; ++z) {
    for (std::size_t y = 0; y < side_; ++y) {
      for (std::size_t x = 0; x < side_; ++x) {
        const Vec3 at{static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5, static_cast<double>(z) + 0.5};
        voxels_[(z * side_ + y) * side_ + x] = density_of_head(at * scale);
      }
    }
  }
  team.barrier();
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    fill_level(team, level);
    team.barrier();
  }
}

void Volume::fill_level(const Team& team, std::size_t level) const {
  const Level& to = levels_[level];
  const Part slices = Part::of(to.count, team.rank(), team.count());
  // The finest level looks at voxels, and one beyond its cells; the others at the eight bricks below.
  const std::size_t reach = level == 0 ? kFinestBrick + 1 : 2;
  const std::size_t step = level == 0 ? kFinestBrick : 2;
  const std::size_t below_side = level == 0 ? side_ : levels_[level - 1].count;
  const std::uint8_t* const below = level == 0 ? voxels_ : levels_[level - 1].most;
  for (std::size_t z = slices.first; z < slices.last; ++z) {
    for (std::size_t y = 0; y < to.count; ++y) {
      for (std::size_t x = 0; x < to.count; ++x) {
        std::uint8_t most = 0;
        for (std::size_t k = z * step; k < std::min(z * step + reach, below_side); ++k) {
          for (std::size_t j = y * step; j < std::min(y * step + reach, below_side); ++j) {
            for (std::size_t i = x * step; i < std::min(x * step + reach, below_side); ++i)
              most = std::max(most, below[(k * below_side + j) * below_side + i]);
          }
        }
        to.most[(z * to.count + y) * to.count + x] = most;
      }
    }
  }
}

double Volume::density(Vec3 at) const {
  const auto last = static_cast<double>(side_ - 1);
  if (!(at.x >= 0 && at.x <= last && at.y >= 0 && at.y <= last && at.z >= 0 && at.z <= last)) return 0;
  const auto cell = [&](double x) { return std::min(static_cast<std::size_t>(x), side_ - 2); };
  const std::size_t x = cell(at.x);
  const std::size_t y = cell(at.y);
  const std::size_t z = cell(at.z);
  const double u = at.x - static_cast<double>(x);
  const double v = at.y - static_cast<double>(y);
  const double w = at.z - static_cast<double>(z);
  const auto row = [&](std::size_t j, std::size_t k) { return voxel(x, j, k) * (1 - u) + voxel(x + 1, j, k) * u; };
  const auto plane = [&](std::size_t k) { return row(y, k) * (1 - v) + row(y + 1, k) * v; };
  return plane(z) * (1 - w) + plane(z + 1) * w;
}

Vec3 Volume::gradient(Vec3 at) const {
  Vec3 gradient;
  for (int axis = 0; axis < 3; ++axis) {
    Vec3 ahead = at;
    Vec3 behind = at;
    ahead[axis] += 1;
    behind[axis] -= 1;
    gradient[axis] = 0.5 * (density(ahead) - density(behind));
  }
  return gradient;
}

Volume::Brick Volume::empty_brick(Vec3 at, std::uint8_t empty) const {
  Brick found;
  for (const Level& level : levels_) {
    const auto edge = static_cast<double>(level.edge);
    const auto index = [&](double x) { return std::min(static_cast<std::size_t>(std::max(0.0, x / edge)), level.count - 1); };
    const std::size_t x = index(at.x);
    const std::size_t y = index(at.y);
    const std::size_t z = index(at.z);
    if (level.most[(z * level.count + y) * level.count + x] > empty) break;
    found = {edge, Vec3{static_cast<double>(x), static_cast<double>(y), static_cast<double>(z)} * edge};
  }
  return found;
}

}  // namespace splash2::volrend
