// Rays, what they hit, and the hierarchy of boxes that finds it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "apps/splash2/common/vec3.hpp"

namespace splash2::raytrace {

struct Ray {
  Vec3 origin;
  Vec3 direction;  ///< of length 1
};

/// A triangle, or (radius > 0) a sphere round a.
struct Primitive {
  Vec3 a;
  Vec3 b;
  Vec3 c;
  double radius = 0;
  std::int64_t material = 0;

  [[nodiscard]] Vec3 low() const;
  [[nodiscard]] Vec3 high() const;
  /// Distance along the ray, between kNear and `most`.
  [[nodiscard]] std::optional<double> hit(const Ray& ray, double most) const;
  /// At a point on it, towards the side that the ray comes from.
  [[nodiscard]] Vec3 normal(Vec3 at, const Ray& ray) const;
};

inline constexpr double kNear = 1e-6;
inline constexpr double kFar = std::numeric_limits<double>::infinity();

/// A box round primitives [first, first + count), or (count 0) round the boxes first and first + 1.
struct Box {
  Vec3 low;
  Vec3 high;
  std::int32_t first = 0;
  std::int32_t count = 0;
};

/// Puts the primitives into the order that the boxes need; the first box is round all of them.
std::vector<Box> make_boxes(std::vector<Primitive>& primitives);

struct Hit {
  std::int64_t primitive = -1;
  double distance = kFar;
};

/// The nearest primitive that the ray meets before `most`; at any one (the first found) if `any`.
Hit find_hit(std::span<const Primitive> primitives, const Box* boxes, const Ray& ray, double most, bool any = false);
/// The same without boxes.
Hit find_hit_slowly(std::span<const Primitive> primitives, const Ray& ray, double most);

}  // namespace splash2::raytrace
