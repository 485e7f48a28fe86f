#include "apps/splash2/barnes/plummer.hpp"

#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::barnes {

namespace {

constexpr double kScale = 3 * M_PI / 16;  // of lengths, from the model's units to ours
constexpr double kMostMass = 0.999;       // the rest lies far out
constexpr std::uint64_t kStream = std::uint64_t{7} << 32;

/// A direction that is uniform on the sphere, times `length`.
Vec3 anywhere(Sequence& random, double length) {
  const double z = random.between(-1, 1);
  const double angle = random.between(0, 2 * M_PI);
  const double flat = std::sqrt(1 - z * z);
  return Vec3{flat * std::cos(angle), flat * std::sin(angle), z} * length;
}

Body make(std::size_t number) {
  Sequence random(kStream + number);
  const double inside = random.between(1e-9, kMostMass);
  const double radius = 1 / std::sqrt(std::pow(inside, -2.0 / 3) - 1);
  Body body;
  body.position = anywhere(random, radius * kScale);
  double share = 0;  // of the speed of escape: its density is share^2 (1 - share^2)^(7/2)
  double height = 0;
  do {
    share = random.unit();
    height = random.between(0, 0.1);
  } while (height > share * share * std::pow(1 - share * share, 3.5));
  const double escape = std::sqrt(2.0) * std::pow(1 + radius * radius, -0.25);
  body.velocity = anywhere(random, share * escape / std::sqrt(kScale));
  return body;
}

}  // namespace

std::vector<Body> plummer(std::size_t count) {
  std::vector<Body> bodies(count);
  Vec3 position;
  Vec3 velocity;
  for (std::size_t i = 0; i < count; ++i) {
    bodies[i] = make(i);
    position += bodies[i].position;
    velocity += bodies[i].velocity;
  }
  for (Body& body : bodies) {
    body.position -= position * (1 / static_cast<double>(count));
    body.velocity -= velocity * (1 / static_cast<double>(count));
  }
  return bodies;
}

}  // namespace splash2::barnes
