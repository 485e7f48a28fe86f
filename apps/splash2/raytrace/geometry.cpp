#include "apps/splash2/raytrace/geometry.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace splash2::raytrace {

namespace {

constexpr std::int32_t kLeaf = 4;  // primitives that are not divided further

Vec3 least(Vec3 a, Vec3 b) { return {std::min(a.x, b.x), std::min(a.y, b.y), std::min(a.z, b.z)}; }
Vec3 greatest(Vec3 a, Vec3 b) { return {std::max(a.x, b.x), std::max(a.y, b.y), std::max(a.z, b.z)}; }

std::optional<double> in_range(double distance, double most) {
  return distance > kNear && distance < most ? std::optional<double>(distance) : std::nullopt;
}

std::optional<double> hit_sphere(Vec3 centre, double radius, const Ray& ray, double most) {
  const Vec3 from = ray.origin - centre;
  const double half = dot(from, ray.direction);
  const double square = half * half - norm2(from) + radius * radius;
  if (square < 0) return std::nullopt;
  const double root = std::sqrt(square);
  if (const auto near = in_range(-half - root, most)) return near;
  return in_range(-half + root, most);
}

/// Moeller and Trumbore's.
std::optional<double> hit_triangle(const Primitive& triangle, const Ray& ray, double most) {
  const Vec3 u = triangle.b - triangle.a;
  const Vec3 v = triangle.c - triangle.a;
  const Vec3 p = cross(ray.direction, v);
  const double determinant = dot(u, p);
  if (determinant == 0) return std::nullopt;
  const double inverse = 1 / determinant;
  const Vec3 from = ray.origin - triangle.a;
  const double along_u = dot(from, p) * inverse;
  if (along_u < 0 || along_u > 1) return std::nullopt;
  const Vec3 q = cross(from, u);
  const double along_v = dot(ray.direction, q) * inverse;
  if (along_v < 0 || along_u + along_v > 1) return std::nullopt;
  return in_range(dot(v, q) * inverse, most);
}

/// Where the ray enters the box; kFar if it does not before `most`.
double enters(const Box& box, const Ray& ray, Vec3 inverse, double most) {
  double from = 0;
  double to = most;
  for (int axis = 0; axis < 3; ++axis) {
    if (ray.direction[axis] == 0) {
      if (ray.origin[axis] < box.low[axis] || ray.origin[axis] > box.high[axis]) return kFar;
      continue;
    }
    const double a = (box.low[axis] - ray.origin[axis]) * inverse[axis];
    const double b = (box.high[axis] - ray.origin[axis]) * inverse[axis];
    from = std::max(from, std::min(a, b));
    to = std::min(to, std::max(a, b));
  }
  return from <= to ? from : kFar;
}

void divide(std::vector<Primitive>& primitives, std::vector<Box>& boxes, std::size_t index, std::int32_t first, std::int32_t count) {
  const auto begin = primitives.begin() + first;
  Box box{begin->low(), begin->high(), first, count};
  for (auto it = begin; it != begin + count; ++it) {
    box.low = least(box.low, it->low());
    box.high = greatest(box.high, it->high());
  }
  if (count > kLeaf) {
    const Vec3 size = box.high - box.low;
    const int axis = size.x >= size.y && size.x >= size.z ? 0 : size.y >= size.z ? 1 : 2;
    const std::int32_t half = count / 2;
    std::nth_element(begin, begin + half, begin + count, [axis](const Primitive& a, const Primitive& b) {
      return a.low()[axis] + a.high()[axis] < b.low()[axis] + b.high()[axis];
    });
    box.first = static_cast<std::int32_t>(boxes.size());
    box.count = 0;
    boxes.resize(boxes.size() + 2);
    const auto left = static_cast<std::size_t>(box.first);
    divide(primitives, boxes, left, first, half);
    divide(primitives, boxes, left + 1, first + half, count - half);
  }
  boxes[index] = box;
}

}  // namespace

Vec3 Primitive::low() const { return radius > 0 ? a - Vec3{radius, radius, radius} : least(a, least(b, c)); }
Vec3 Primitive::high() const { return radius > 0 ? a + Vec3{radius, radius, radius} : greatest(a, greatest(b, c)); }

std::optional<double> Primitive::hit(const Ray& ray, double most) const {
  return radius > 0 ? hit_sphere(a, radius, ray, most) : hit_triangle(*this, ray, most);
}

Vec3 Primitive::normal(Vec3 at, const Ray& ray) const {
  const Vec3 outward = radius > 0 ? (at - a) * (1 / radius) : normalized(cross(b - a, c - a));
  return dot(outward, ray.direction) > 0 ? -outward : outward;
}

std::vector<Box> make_boxes(std::vector<Primitive>& primitives) {
  std::vector<Box> boxes(1);
  if (!primitives.empty()) divide(primitives, boxes, 0, 0, static_cast<std::int32_t>(primitives.size()));
  return boxes;
}

Hit find_hit(std::span<const Primitive> primitives, const Box* boxes, const Ray& ray, double most, bool any) {
  struct Waiting {
    std::int32_t box;
    double enters;
  };
  const Vec3 inverse{1 / ray.direction.x, 1 / ray.direction.y, 1 / ray.direction.z};
  std::array<Waiting, 64> stack;  // one waits for each level, and halving never makes as many levels
  std::size_t waiting = 0;
  Hit nearest{-1, most};
  if (!primitives.empty() && enters(boxes[0], ray, inverse, most) < kFar) stack[waiting++] = {0, 0};
  while (waiting > 0) {
    const Waiting next = stack[--waiting];
    if (next.enters > nearest.distance) continue;
    const Box& box = boxes[next.box];
    for (std::int32_t i = box.first; i < box.first + box.count; ++i) {
      if (const auto distance = primitives[static_cast<std::size_t>(i)].hit(ray, nearest.distance)) {
        nearest = {i, *distance};
        if (any) return nearest;
      }
    }
    if (box.count > 0) continue;
    Waiting near{box.first, enters(boxes[box.first], ray, inverse, nearest.distance)};
    Waiting far{box.first + 1, enters(boxes[box.first + 1], ray, inverse, nearest.distance)};
    if (far.enters < near.enters) std::swap(near, far);
    if (far.enters < kFar) stack[waiting++] = far;
    if (near.enters < kFar) stack[waiting++] = near;
  }
  return nearest;
}

Hit find_hit_slowly(std::span<const Primitive> primitives, const Ray& ray, double most) {
  Hit nearest{-1, most};
  for (std::size_t i = 0; i < primitives.size(); ++i) {
    if (const auto distance = primitives[i].hit(ray, nearest.distance)) nearest = {static_cast<std::int64_t>(i), *distance};
  }
  return nearest;
}

}  // namespace splash2::raytrace
