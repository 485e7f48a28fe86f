// Whether fmm's answer is right, and what the same simulation costs one processor in private memory.
#pragma once

#include <vector>

#include "apps/splash2/common/bodies.hpp"
#include "apps/splash2/fmm/simulation.hpp"

namespace splash2::fmm {

/// The program's own test: energy is kept, the tree has all bodies, each leaf's lists name every body once, and the fields of some bodies are those
/// of a direct sum to the precision that was asked for. One thread.
std::vector<Check> self_test(const Parameters& parameters, const Simulation& simulation, const Result& result);

using SequentialRun = SequentialBodies<Simulation, Parameters>;

}  // namespace splash2::fmm
