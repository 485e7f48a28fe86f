#include "apps/splash2/fmm/clusters.hpp"

#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::fmm {

namespace {

constexpr double kScale = 0.25;     // of a cluster
constexpr double kMostMass = 0.99;  // of a plummer's; the rest lies far out
constexpr double kDistance = 4;     // of two clusters
constexpr std::uint64_t kStream = std::uint64_t{51} << 32;

Complex make_position(Sequence& random, bool plummer) {
  const double inside = random.unit();
  const double angle = random.between(0, 2 * M_PI);
  const double radius = plummer ? std::sqrt(kMostMass * inside / (1 - kMostMass * inside)) : 2 * std::sqrt(inside);
  return std::polar(kScale * radius, angle);
}

/// Both components normally distributed (Box and Muller), with this mean square together.
Complex make_velocity(Sequence& random, double mean_square) {
  const double length = std::sqrt(-mean_square * std::log(1 - random.unit()));
  return std::polar(length, random.between(0, 2 * M_PI));
}

}  // namespace

std::vector<Body> make_clusters(std::size_t count, int clusters, const std::string& distribution) {
  std::vector<Body> bodies(count);
  Body mean;
  for (std::size_t i = 0; i < count; ++i) {
    Sequence random(kStream + i);
    Body& body = bodies[i];
    body.position = make_position(random, distribution == "plummer");
    body.velocity = make_velocity(random, 0.5 / clusters);
    if (clusters == 2) {
      // Half the mass pulls with 1 / (2 distance), on a circle of half the distance.
      const double side = i % 2 == 0 ? 1 : -1;
      body.position += side * kDistance / 2;
      body.velocity += Complex(0, side * 0.5);
    }
    mean.position += body.position;
    mean.velocity += body.velocity;
  }
  for (Body& body : bodies) {
    body.position -= mean.position / static_cast<double>(count);
    body.velocity -= mean.velocity / static_cast<double>(count);
  }
  return bodies;
}

}  // namespace splash2::fmm
