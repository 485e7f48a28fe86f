// An image of the solved room.
#pragma once

#include "apps/splash2/common/image.hpp"
#include "apps/splash2/radiosity/solver.hpp"

namespace splash2::radiosity {

/// Seen by the camera; each pixel shows four rays. Brightness is chosen so that the middle one of all pixels is a medium grey.
Image render(const Solver& solver, const Camera& camera, std::size_t width, std::size_t height);

/// The leaf at a place of a patch.
const Element& leaf_at(const Solver& solver, std::int32_t patch, double s, double t);

}  // namespace splash2::radiosity
