// What tests of barnes and fmm have in common.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>

#include "apps/splash2/common/bodies.hpp"

namespace splash2 {

/// With each number of threads: the sequential answer, and a self-test that passes. Then spoil(simulation, result, sequential) makes it wrong, and checks.
template <class Simulation, class Parameters, class Spoil>
void check_threads(const Parameters& parameters, std::initializer_list<int> threads, Spoil spoil) {
  const SequentialBodies<Simulation, Parameters> sequential(parameters, 1);
  for (const int count : threads) {
    CAPTURE(count);
    netvm::Job job(count);
    SharedStore store(job, {});
    Simulation simulation(store, parameters);
    ProcessorTimes times(job, "steps");
    auto result = run_on_all(job, simulation, times);
    const Check check = sequential.compare(simulation);
    CHECK_MESSAGE(check.passed, check.detail);
    for (const Check& self : self_test(parameters, simulation, result)) CHECK_MESSAGE(self.passed, self.name, ": ", self.detail);
    spoil(simulation, result, sequential);
  }
}

}  // namespace splash2
