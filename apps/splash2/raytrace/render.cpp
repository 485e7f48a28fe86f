#include "apps/splash2/raytrace/render.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::raytrace {

namespace {

constexpr double kAmbient = 0.12;
constexpr std::size_t kCheckedRays = 200;

Vec3 sky(Vec3 direction) {
  const double share = 0.5 * (direction.z + 1);
  return Vec3{0.75, 0.78, 0.82} * (1 - share) + Vec3{0.2, 0.35, 0.65} * share;
}

Vec3 colour_at(const Material& material, Vec3 at) {
  if (material.squares <= 0) return material.colour;
  const auto square = std::lround(std::floor(at.x / material.squares)) + std::lround(std::floor(at.y / material.squares));
  return square % 2 == 0 ? material.colour : material.other;
}

}  // namespace

Tracer::Tracer(const Scene& scene, const View& view) : scene_(scene), view_(view) {
  const Camera& camera = scene.camera();
  forward_ = normalized(camera.towards - camera.at);
  const double half = std::tan(camera.field * M_PI / 360);
  right_ = normalized(cross(forward_, {0, 0, 1})) * (half * static_cast<double>(view.width) / static_cast<double>(view.height));
  up_ = normalized(cross(right_, forward_)) * half;
}

Ray Tracer::ray_through(double x, double y) const {
  const double across = 2 * x / static_cast<double>(view_.width) - 1;
  const double down = 2 * y / static_cast<double>(view_.height) - 1;
  return {scene_.camera().at, normalized(forward_ + right_ * across - up_ * down)};
}

Pixel Tracer::pixel(std::size_t x, std::size_t y) {
  Vec3 sum;
  for (int i = 0; i < view_.samples; ++i) {
    for (int j = 0; j < view_.samples; ++j) {
      const double across = static_cast<double>(x) + (i + 0.5) / view_.samples;
      const double down = static_cast<double>(y) + (j + 0.5) / view_.samples;
      sum += trace(ray_through(across, down), view_.reflections);
    }
  }
  return pixel_of(sum * (1.0 / (view_.samples * view_.samples)));
}

Vec3 Tracer::trace(const Ray& ray, int reflections) {
  ++rays_;
  const Hit hit = find_hit(scene_.primitives(), scene_.boxes(), ray, kFar);
  if (hit.primitive < 0) return sky(ray.direction);
  const Primitive& primitive = scene_.primitives()[static_cast<std::size_t>(hit.primitive)];
  const Material& material = scene_.material(primitive.material);
  const Vec3 at = ray.origin + ray.direction * hit.distance;
  const Vec3 normal = primitive.normal(at, ray);
  Vec3 colour = lit(ray, at, normal, material);
  if (material.mirror > 0 && reflections > 0) {
    const Ray reflected{at, ray.direction - normal * (2 * dot(normal, ray.direction))};
    colour = colour * (1 - material.mirror) + trace(reflected, reflections - 1) * material.mirror;
  }
  return colour;
}

Vec3 Tracer::lit(const Ray& ray, Vec3 at, Vec3 normal, const Material& material) {
  const Vec3 own = colour_at(material, at);
  Vec3 colour = own * kAmbient;
  for (const Light& light : scene_.lights()) {
    const double distance = length(light.at - at);
    const Vec3 towards = (light.at - at) * (1 / distance);
    const double slope = dot(normal, towards);
    if (slope <= 0) continue;
    ++rays_;
    if (find_hit(scene_.primitives(), scene_.boxes(), {at, towards}, distance, true).primitive >= 0) continue;
    const Vec3 reflected = normal * (2 * slope) - towards;
    const double highlight = std::pow(std::max(0.0, -dot(reflected, ray.direction)), material.sharpness);
    colour += light.colour * (own * (material.diffuse * slope) + Vec3{1, 1, 1} * (material.shine * highlight));
  }
  return colour;
}

Renderer::Renderer(Store& store, Model model, const View& view)
    : view_(view),
      tiles_(view.width, view.height, view.tile),
      scene_(store, std::move(model)),
      queues_(store),
      pixels_(store.array<Pixel>(tiles_.count() * tiles_.pixels_of_a_tile())) {}

Renderer::Result Renderer::run(Team& team) {
  if (team.rank() == 0) scene_.fill();
  queues_.fill(team, tiles_.count());
  team.barrier();
  Result result;
  const double start = clock_seconds();
  Tracer tracer(scene_, view_);
  while (const auto tile = queues_.next(team)) {
    const double before = clock_seconds();
    tiles_.for_each_pixel(*tile, [&](std::size_t x, std::size_t y, std::size_t place) { pixels_[place] = tracer.pixel(x, y); });
    result.time.part += clock_seconds() - before;
  }
  team.barrier();
  result.time.total = clock_seconds() - start;
  result.rays = team.sum(static_cast<double>(tracer.rays()));
  for (int rank = 0; rank < team.count(); ++rank) result.stolen += static_cast<double>(queues_.stolen_from(rank));
  return result;
}

Check check_boxes(const Scene& scene, const View& view) {
  const Tracer tracer(scene, view);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < kCheckedRays; ++i) {
    const Ray ray = tracer.ray_through(static_cast<double>(view.width) * uniform_unit(mix64(10, 2 * i)),
                                       static_cast<double>(view.height) * uniform_unit(mix64(10, 2 * i + 1)));
    const Hit hit = find_hit(scene.primitives(), scene.boxes(), ray, kFar);
    wrong += hit.distance != find_hit_slowly(scene.primitives(), ray, kFar).distance ? 1 : 0;
  }
  return {"boxes", wrong == 0,
          wrong == 0 ? fmt::format("{} rays hit what they hit when all {} primitives are tried", kCheckedRays, scene.primitives().size())
                     : fmt::format("{} of {} rays miss what they should hit", wrong, kCheckedRays)};
}

}  // namespace splash2::raytrace
