#include "apps/splash2/radiosity/view.hpp"

#include <algorithm>
#include <cmath>

namespace splash2::radiosity {

namespace {

constexpr double kFar = 1000;         // metres: outside of any room
constexpr double kMediumGrey = 0.22;  // of the middle pixel, before the gamma of screens

double brightness(Vec3 colour) { return (colour.x + colour.y + colour.z) / 3; }

/// Radiosity between the middles of elements: what the leaves half an edge away to each side have, by their distance. Hides the elements' edges.
Vec3 smooth(const Solver& solver, std::int32_t patch, double s, double t) {
  const double edge = leaf_at(solver, patch, s, t).edge;
  Vec3 sum;
  for (const double along : {-0.5, 0.5}) {
    for (const double across : {-0.5, 0.5}) {
      // The middle of the cell of this edge's grid, in which the place half an edge away lies, and how near it is.
      const double cell_s = (std::floor(s / edge + along) + 0.5) * edge;
      const double cell_t = (std::floor(t / edge + across) + 0.5) * edge;
      const double near = (1 - std::abs(s - cell_s) / edge) * (1 - std::abs(t - cell_t) / edge);
      sum += solver.radiosity(leaf_at(solver, patch, std::clamp(cell_s, 0.0, 1.0), std::clamp(cell_t, 0.0, 1.0))) * near;
    }
  }
  return sum;
}

}  // namespace

const Element& leaf_at(const Solver& solver, std::int32_t patch, double s, double t) {
  const Elements& elements = solver.elements();
  const Element* element = &elements.element(patch);
  while (solver.children(*element) >= 0) {
    const double half = element->edge / 2;
    const int right = s >= element->s + half ? 1 : 0;
    const int up = t >= element->t + half ? 1 : 0;
    element = &elements.element(solver.children(*element) + 2 * up + right);
  }
  return *element;
}

Image render(const Solver& solver, const Camera& camera, std::size_t width, std::size_t height) {
  const Vec3 forward = normalized(camera.towards - camera.at);
  const double half = std::tan(camera.field * M_PI / 360);
  const Vec3 right = normalized(cross(forward, {0, 0, 1})) * (half * static_cast<double>(width) / static_cast<double>(height));
  const Vec3 up = normalized(cross(right, forward)) * half;
  const auto light_at = [&](double x, double y) {
    const Vec3 direction =
        normalized(forward + right * (2 * x / static_cast<double>(width) - 1) - up * (2 * y / static_cast<double>(height) - 1));
    const auto seen = solver.bsp().first(camera.at, camera.at + direction * kFar);
    if (!seen) return Vec3{};
    const Patch& patch = solver.bsp().patches()[static_cast<std::size_t>(seen->patch)];
    const Vec3 from = camera.at + direction * (kFar * seen->share) - patch.corner;
    return smooth(solver, seen->patch, dot(from, patch.u) / norm2(patch.u), dot(from, patch.v) / norm2(patch.v));
  };
  std::vector<Vec3> light(width * height);
  std::vector<double> levels;
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      Vec3& sum = light[y * width + x];
      for (const double i : {0.25, 0.75}) {
        for (const double j : {0.25, 0.75}) sum += light_at(static_cast<double>(x) + i, static_cast<double>(y) + j) * 0.25;
      }
      levels.push_back(brightness(sum));
    }
  }
  const double scale = kMediumGrey / std::max(1e-12, median(std::move(levels)));
  Image image(width, height);
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) image.at(x, y) = pixel_of(light[y * width + x] * scale);
  }
  return image;
}

}  // namespace splash2::radiosity
