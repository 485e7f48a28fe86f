// Points, directions and colours: three doubles.
#pragma once

#include <cmath>

namespace splash2 {

struct Vec3 {
  double x = 0;
  double y = 0;
  double z = 0;

  double& operator[](int axis) { return axis == 0 ? x : axis == 1 ? y : z; }
  double operator[](int axis) const { return axis == 0 ? x : axis == 1 ? y : z; }
  Vec3& operator+=(Vec3 b) { return x += b.x, y += b.y, z += b.z, *this; }
  Vec3& operator-=(Vec3 b) { return x -= b.x, y -= b.y, z -= b.z, *this; }
  Vec3& operator*=(double s) { return x *= s, y *= s, z *= s, *this; }
  bool operator==(const Vec3&) const = default;
};
inline Vec3 operator+(Vec3 a, Vec3 b) { return a += b; }
inline Vec3 operator-(Vec3 a, Vec3 b) { return a -= b; }
inline Vec3 operator-(Vec3 a) { return {-a.x, -a.y, -a.z}; }
inline Vec3 operator*(Vec3 a, double s) { return a *= s; }
inline Vec3 operator*(double s, Vec3 a) { return a *= s; }
/// Component by component: a colour through a filter.
inline Vec3 operator*(Vec3 a, Vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline double dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
inline double norm2(Vec3 a) { return dot(a, a); }
inline double length(Vec3 a) { return std::sqrt(norm2(a)); }
inline Vec3 normalized(Vec3 a) { return a * (1 / length(a)); }

}  // namespace splash2
