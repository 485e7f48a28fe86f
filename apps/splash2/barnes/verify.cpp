#include "apps/splash2/barnes/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace splash2::barnes {

namespace {

constexpr double kMostDrift = 5e-3;       // of the energy
constexpr double kForceTolerance = 0.04;  // at theta 1; the error is about a third of it, and falls with the fourth power of theta
constexpr std::size_t kSample = 50;

/// Root mean square of the accelerations' errors, by that of the accelerations.
double sampled_error(const Parameters& parameters, const Simulation& simulation) {
  double errors = 0;
  double magnitudes = 0;
  const std::size_t sample = std::min(kSample, parameters.bodies);
  for (std::size_t i = 0; i < sample; ++i) {
    const std::size_t body = parameters.bodies * i / sample;
    Vec3 expected;
    for (std::size_t other = 0; other < parameters.bodies; ++other) {
      const Vec3 towards = simulation.place(other).at - simulation.place(body).at;
      const double softened2 = norm2(towards) + parameters.softening * parameters.softening;
      if (other != body) expected += towards * (simulation.place(other).mass / (softened2 * std::sqrt(softened2)));
    }
    errors += norm2(simulation.motion(body).acceleration - expected);
    magnitudes += norm2(expected);
  }
  return magnitudes > 0 ? std::sqrt(errors / magnitudes) : 0;
}

}  // namespace

std::vector<Check> self_test(const Parameters& parameters, const Simulation& simulation, const Result& result) {
  const double drift = std::abs(result.last_energy / result.first_energy - 1);
  const double allowed = kForceTolerance * std::pow(std::max(0.3, parameters.theta), 3);
  const double error = sampled_error(parameters, simulation);
  return {{"energy", std::isfinite(drift) && drift <= kMostDrift,
           fmt::format("{:.6f}, changed by {:.1e} in {} steps, {:.0e} allowed (if it is more: a smaller --time-step)", result.last_energy,
                       drift, parameters.steps, kMostDrift)},
          {"mass", std::abs(result.mass - 1) <= 1e-12, fmt::format("the tree has {:.12f} of it", result.mass)},
          {"forces", error <= allowed,
           fmt::format("differ from direct sums by {:.1e} (root mean square of {} bodies), {:.0e} allowed", error,
                       std::min(kSample, parameters.bodies), allowed)}};
}

}  // namespace splash2::barnes
