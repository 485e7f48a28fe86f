#include "apps/splash2/volrend/render.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::volrend {

namespace {

constexpr double kOpaque = 0.97;
constexpr std::uint8_t kEmpty = 45;  // what is not denser is transparent
constexpr std::size_t kCheckedRays = 100;

/// Opacity of one sample. Skin is a veil, brain nearly clear, bone solid.
double opacity_of(double density) {
  if (density <= kEmpty) return 0;
  if (density < 100) return 0.03 * std::min(1.0, (density - kEmpty) / 20);
  if (density < 170) return 0.02;
  return 0.02 + 0.5 * std::min(1.0, (density - 170) / 50);
}

Vec3 colour_of(double density) {
  const double bone = std::clamp((density - 100) / 80, 0.0, 1.0);
  return Vec3{0.9, 0.55, 0.4} * (1 - bone) + Vec3{0.95, 0.93, 0.85} * bone;
}

}  // namespace

Caster::Caster(const Volume& volume, const View& view, int frame) : volume_(volume), view_(view) {
  const double angle = (30 + view.turn * frame) * M_PI / 180;
  const double tilt = 0.15;
  forward_ = normalized({std::sin(angle), std::cos(angle), -tilt});
  right_ = normalized(cross(forward_, {0, 0, 1}));
  up_ = cross(right_, forward_);
}

Pixel Caster::pixel(std::size_t x, std::size_t y, bool leap) {
  const auto side = static_cast<double>(volume_.side());
  const double scale = 1.25 * side / static_cast<double>(view_.pixels);
  const double half = 0.5 * static_cast<double>(view_.pixels);
  const Vec3 middle = Vec3{1, 1, 1} * (0.5 * (side - 1));
  const Vec3 start = middle + right_ * ((static_cast<double>(x) + 0.5 - half) * scale) -
                     up_ * ((static_cast<double>(y) + 0.5 - half) * scale) - forward_ * side;
  // The part of the ray inside of the volume.
  double from = 0;
  double to = 2 * side;
  for (int axis = 0; axis < 3; ++axis) {
    const double a = -start[axis] / forward_[axis];
    const double b = (side - 1 - start[axis]) / forward_[axis];
    if (forward_[axis] == 0) {
      if (start[axis] < 0 || start[axis] > side - 1) return pixel_of({});
      continue;
    }
    from = std::max(from, std::min(a, b));
    to = std::min(to, std::max(a, b));
  }
  Vec3 colour;
  double opacity = 0;
  for (double step = std::ceil(from); step <= to && opacity < kOpaque;) {
    const Vec3 at = start + forward_ * step;
    if (const Volume::Brick brick = leap ? volume_.empty_brick(at, kEmpty) : Volume::Brick{}; brick.edge > 0) {
      step += steps_to_leave(brick, at);
      continue;
    }
    ++samples_;
    if (const double density = volume_.density(at); density > kEmpty) shade(at, density, colour, opacity);
    step += 1;
  }
  return pixel_of(colour);
}

/// To the last sample in the brick at least one, and never beyond it.
double Caster::steps_to_leave(const Volume::Brick& brick, Vec3 at) const {
  double way = 3 * brick.edge;
  for (int axis = 0; axis < 3; ++axis) {
    if (forward_[axis] > 0) way = std::min(way, (brick.low[axis] + brick.edge - at[axis]) / forward_[axis]);
    if (forward_[axis] < 0) way = std::min(way, (brick.low[axis] - at[axis]) / forward_[axis]);
  }
  return std::max(1.0, std::floor(way));
}

void Caster::shade(Vec3 at, double density, Vec3& colour, double& opacity) const {
  const double own = opacity_of(density) * (1 - opacity);
  const Vec3 gradient = volume_.gradient(at);
  const double steepness = length(gradient);
  const double facing = steepness > 1e-9 ? std::abs(dot(gradient, forward_)) / steepness : 1;  // the light comes from the eye
  colour += colour_of(density) * (own * (0.25 + 0.75 * facing));
  opacity += own;
}

Renderer::Renderer(Store& store, const View& view)
    : view_(view),
      tiles_(view.pixels, view.pixels, view.tile),
      volume_(store, view.volume),
      queues_(store),
      pixels_(store.array<Pixel>(static_cast<std::size_t>(view.frames) * tiles_.count() * tiles_.pixels_of_a_tile())) {}

Renderer::Result Renderer::run(Team& team) {
  volume_.fill(team);
  Result result;
  const double start = clock_seconds();
  double samples = 0;
  for (int frame = 0; frame < view_.frames; ++frame) {
    queues_.fill(team, tiles_.count());
    team.barrier();
    Caster caster(volume_, view_, frame);
    Pixel* const pixels = frame_pixels(frame);
    while (const auto tile = queues_.next(team)) {
      const double before = clock_seconds();
      tiles_.for_each_pixel(*tile, [&](std::size_t x, std::size_t y, std::size_t place) { pixels[place] = caster.pixel(x, y); });
      result.time.part += clock_seconds() - before;
    }
    samples += static_cast<double>(caster.samples());
    team.barrier();
  }
  result.time.total = clock_seconds() - start;
  result.samples = team.sum(samples);
  for (int rank = 0; rank < team.count(); ++rank) result.stolen += static_cast<double>(queues_.stolen_from(rank));
  return result;
}

Check check_leaps(const Volume& volume, const View& view) {
  Caster caster(volume, view, 0);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < kCheckedRays; ++i) {
    const std::size_t x = uniform_below(mix64(13, 2 * i), view.pixels);
    const std::size_t y = uniform_below(mix64(13, 2 * i + 1), view.pixels);
    wrong += caster.pixel(x, y, true) != caster.pixel(x, y, false) ? 1 : 0;
  }
  return {"leaps", wrong == 0,
          wrong == 0 ? fmt::format("{} rays see the same when they take every sample", kCheckedRays)
                     : fmt::format("{} of {} rays leap over something", wrong, kCheckedRays)};
}

}  // namespace splash2::volrend
