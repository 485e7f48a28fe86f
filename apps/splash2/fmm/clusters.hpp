// What fmm begins with: one or two clusters of bodies in the plane, where gravity falls with the distance (mass 1, constant of gravity 1).
//
// 1. plummer: density as (1 + r^2 / a^2)^-2, what a Plummer model looks like from far away, and in the plane the exact balance of bodies whose velocities are
//    normally distributed, the same everywhere. uniform: a disc with the same velocities. In the plane balance asks for a mean square of half the
//    cluster's mass, whatever its size.
// 2. Two clusters go round each other on circles. All is at rest as a whole round the origin.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "apps/splash2/fmm/expansion.hpp"

namespace splash2::fmm {

struct Body {
  Complex position;
  Complex velocity;
};

/// `clusters` is 1 or 2, `distribution` "plummer" or "uniform". Each body has 1 / count of the mass.
std::vector<Body> make_clusters(std::size_t count, int clusters, const std::string& distribution);

}  // namespace splash2::fmm
