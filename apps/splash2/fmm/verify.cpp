#include "apps/splash2/fmm/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace splash2::fmm {

namespace {

constexpr double kMostDrift = 1e-3;  // of the kinetic energy's scale, which is about 1/4
constexpr std::size_t kSample = 50;

struct Errors {
  double acceleration = 0;  ///< root mean square, by that of the accelerations
  double potential = 0;
};

Errors sampled_errors(const Parameters& parameters, const Simulation& simulation) {
  Errors errors;
  double accelerations = 0;
  double potentials = 0;
  const std::size_t sample = std::min(kSample, parameters.bodies);
  for (std::size_t i = 0; i < sample; ++i) {
    const std::size_t body = parameters.bodies * i / sample;
    Complex acceleration;
    double potential = 0;
    for (std::size_t other = 0; other < parameters.bodies; ++other) {
      if (other == body) continue;
      const Complex towards = simulation.place(other).at - simulation.place(body).at;
      acceleration += towards * (simulation.place(other).mass / std::norm(towards));
      potential += simulation.place(other).mass * std::log(std::abs(towards));
    }
    errors.acceleration += std::norm(simulation.motion(body).acceleration - acceleration);
    errors.potential += std::norm(simulation.motion(body).potential - potential);
    accelerations += std::norm(acceleration);
    potentials += std::norm(potential);
  }
  return {std::sqrt(errors.acceleration / accelerations), std::sqrt(errors.potential / potentials)};
}

}  // namespace

std::vector<Check> self_test(const Parameters& parameters, const Simulation& simulation, const Result& result) {
  const double drift = std::abs(result.last_energy - result.first_energy);
  const Errors errors = sampled_errors(parameters, simulation);
  const double allowed = std::max(parameters.precision, 1e-14);
  return {{"energy", std::isfinite(drift) && drift <= kMostDrift,
           fmt::format("{:.9f}, changed by {:.1e} in {} steps, {:.0e} allowed (if it is more: a smaller --time-step)", result.last_energy,
                       drift, parameters.steps, kMostDrift)},
          {"bodies", result.count == static_cast<double>(parameters.bodies),
           fmt::format("the tree has {:.0f} of {}", result.count, parameters.bodies)},
          {"lists", result.incomplete == 0, fmt::format("{:.0f} leaves on which not every body acted exactly once", result.incomplete)},
          {"fields", errors.acceleration <= allowed && errors.potential <= allowed,
           fmt::format(
               "accelerations and potentials of {} bodies differ from direct sums by {:.1e} and {:.1e} (root mean square), {:.0e} allowed",
               std::min(kSample, parameters.bodies), errors.acceleration, errors.potential, allowed)}};
}

}  // namespace splash2::fmm
