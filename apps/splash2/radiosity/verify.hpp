// Whether radiosity's answer is right, and what the same solution costs one processor in private memory.
#pragma once

#include <vector>

#include "apps/splash2/common/runs.hpp"
#include "apps/splash2/radiosity/solver.hpp"

namespace splash2::radiosity {

/// The program's own test: power is conserved, form factors are symmetric, lines meet what they meet when all patches are tried, and every leaf's radiosity is
/// between what it emits and what is possible. One thread.
std::vector<Check> self_test(const Parameters& parameters, const Solver& solver, const Result& result);

class SequentialRun : public SoloRun<Solver> {
 public:
  SequentialRun(const Model& model, const Parameters& parameters, std::int64_t runs);
  /// Elements and their radiosities.
  [[nodiscard]] Check compare(const Solver& solver) const;
};

}  // namespace splash2::radiosity
