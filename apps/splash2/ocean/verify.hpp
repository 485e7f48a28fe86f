// Whether ocean's answer is right, and what the same model costs one processor in private memory.
#pragma once

#include <netvm/netvm.hpp>

#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/ocean/model.hpp"

namespace splash2::ocean {

/// Largest difference to the sequential run, relative to the largest value. All that differs is the order in which the integral's terms are
/// summed (a part in 1e13), unless that tips a convergence test, when the difference is the tolerance's.
inline constexpr double kRoundingTolerance = 1e-9;

/// The kernel's own test, by all processors: the last step's elliptic equations hold at every point, mass is kept, the flow is finite and was
/// solved. Uses the model's work grids.
std::vector<Check> self_test(Team& team, const Parameters& parameters, const Model& model, const Progress& progress);

/// A whole run by one processor in private memory, without NetVM.
class SequentialRun {
 public:
  /// Runs `runs` times and keeps the median time.
  SequentialRun(const Parameters& parameters, std::int64_t runs);
  [[nodiscard]] double seconds() const { return seconds_; }
  /// Compares stream functions and their means with those of processors whose arenas `arena_of` gives.
  [[nodiscard]] Check compare(const Subgrid& shape, const std::function<Arena(int)>& arena_of, const Progress& progress) const;

 private:
  Parameters parameters_;
  double seconds_ = 0;
  std::vector<double> memory_;
  Progress progress_;
};

}  // namespace splash2::ocean
