// The galaxy that barnes begins with: a Plummer model (Aarseth, Henon, Wielen, Astronomy and Astrophysics 37, 1974), as in the suite. Units: the
// mass and the constant of gravity are 1, the energy is -1/4.
#pragma once

#include <cstddef>
#include <vector>

#include "apps/splash2/common/vec3.hpp"

namespace splash2::barnes {

struct Body {
  Vec3 position;
  Vec3 velocity;
};

/// All bodies, at rest as a whole round the origin. Each has 1 / count of the mass.
std::vector<Body> plummer(std::size_t count);

}  // namespace splash2::barnes
