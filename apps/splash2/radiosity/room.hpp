// The room whose light radiosity computes, made of rectangles: our own, documented, the same each time.
#pragma once

#include <string>
#include <vector>

#include "apps/splash2/common/vec3.hpp"

namespace splash2::radiosity {

/// A rectangle that sends light to one side: that of cross(u, v).
struct Patch {
  Vec3 corner;
  Vec3 u;  ///< edges; at right angles
  Vec3 v;
  Vec3 reflectance;
  Vec3 emission;

  [[nodiscard]] Vec3 at(double s, double t) const { return corner + u * s + v * t; }
  [[nodiscard]] Vec3 normal() const { return normalized(cross(u, v)); }
  [[nodiscard]] double area() const { return length(u) * length(v); }
};

struct Camera {
  Vec3 at;
  Vec3 towards;
  double field = 60;  ///< degrees of the image's height
};

struct Model {
  std::vector<Patch> patches;
  Camera camera;
};

/// A closed room, in metres, with lamps in its ceiling. "room": 6 x 4 x 2.8, with a table, chairs, a cupboard, a box (137 patches); "hall": 12 x 8 x 3, with four
/// such groups (515).
Model make_model(const std::string& name);

}  // namespace splash2::radiosity
