// Whether barnes's answer is right, and what the same simulation costs one processor in private memory.
#pragma once

#include <vector>

#include "apps/splash2/barnes/simulation.hpp"
#include "apps/splash2/common/bodies.hpp"

namespace splash2::barnes {

/// The program's own test: energy is kept, the tree has all the mass, and accelerations of some bodies are those of a direct sum. One thread.
std::vector<Check> self_test(const Parameters& parameters, const Simulation& simulation, const Result& result);

using SequentialRun = SequentialBodies<Simulation, Parameters>;

}  // namespace splash2::barnes
