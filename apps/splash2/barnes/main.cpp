// barnes: the gravitational N-body problem by Barnes and Hut's method, SPLASH-2's application on NetVM. docs/apps/barnes.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/splash2/barnes/verify.hpp"
#include "apps/splash2/common/runs.hpp"

namespace {

struct BarnesOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t bodies = 16384;
  std::int64_t steps = 4;
  double time_step = 0.025;
  double theta = 1.0;
  double softening = 0.05;

  [[nodiscard]] splash2::barnes::Parameters parameters() const {
    return {static_cast<std::size_t>(bodies), static_cast<int>(steps), time_step, theta, softening};
  }
};

BarnesOptions parse(int argc, char** argv) {
  BarnesOptions chosen;
  splash2::Options options("barnes", "Simulates a galaxy under its own gravity with an octree (SPLASH-2's barnes).");
  options.whole("-n", chosen.bodies, {2, 1 << 24}, "N", "Bodies.");
  options.whole("--steps", chosen.steps, {1, 1000000}, "S", "Time steps.");
  options.real("--time-step", chosen.time_step, 0, 10, "T", "Time of a step.");
  options.real("--theta", chosen.theta, 0, 10, "A", "A cell is opened if its edge is at least A times the distance.");
  options.real("--softening", chosen.softening, 0, 10, "E", "Length within which gravity is softened.");
  chosen.common.add_to(options);
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 barnes -n16384 -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const BarnesOptions options = parse(argc, argv);
  const splash2::barnes::Parameters parameters = options.parameters();
  const auto job = splash2::join("barnes", options.common, std::min<std::int64_t>(options.bodies, 4096));
  splash2::require("barnes", *job, netvm::Consistency::scope);
  splash2::SharedStore store(*job, options.layout, netvm::Consistency::scope);
  splash2::barnes::Simulation simulation(store, parameters);
  splash2::ProcessorTimes times(*job, "forces");
  splash2::Outcome outcome;
  const splash2::barnes::Result result = splash2::run_on_all(*job, simulation, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("barnes: {} bodies, theta {:g}, {} steps of {:g}, energy {:.9f}\n", parameters.bodies, parameters.theta, parameters.steps,
               parameters.time_step, result.last_energy);
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (std::size_t body = 0; body < parameters.bodies; ++body) {
        const splash2::Vec3 at = simulation.place(body).at;
        fmt::print("{:.9f} {:.9f} {:.9f}\n", at.x, at.y, at.z);
      }
    }
    if (options.common.verify_self()) outcome.checks = self_test(parameters, simulation, result);
    if (options.common.verify_reference()) {
      const splash2::barnes::SequentialRun sequential(parameters, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(simulation));
    }
  }
  return splash2::finish(*job, "barnes", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("barnes", [&] { return run(argc, argv); });
}
