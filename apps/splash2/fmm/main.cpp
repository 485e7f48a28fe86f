// fmm: bodies in the plane by the adaptive fast multipole method, SPLASH-2's application on NetVM. docs/apps/fmm.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/splash2/common/runs.hpp"
#include "apps/splash2/fmm/verify.hpp"

namespace {

struct FmmOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t bodies = 16384;
  std::int64_t clusters = 2;
  std::string distribution = "plummer";
  double precision = 1e-6;
  std::int64_t steps = 5;
  double time_step = 0.025;

  [[nodiscard]] splash2::fmm::Parameters parameters() const {
    return {static_cast<std::size_t>(bodies), static_cast<int>(clusters), distribution, precision, static_cast<int>(steps), time_step};
  }
};

FmmOptions parse(int argc, char** argv) {
  FmmOptions chosen;
  splash2::Options options("fmm", "Simulates bodies in the plane by the adaptive fast multipole method (SPLASH-2's fmm).");
  options.whole("-n", chosen.bodies, {2, 1 << 24}, "N", "Bodies.");
  options.whole("--clusters", chosen.clusters, {1, 2}, "C", "One cluster at rest, or two that go round each other.");
  options.choice("--distribution", chosen.distribution, {"plummer", "uniform"}, "How the bodies of a cluster lie.");
  options.real("--precision", chosen.precision, 1e-16, 0.5, "E", "How exact fields are; an expansion has log2(1 / E) terms.");
  options.whole("--steps", chosen.steps, {1, 1000000}, "S", "Time steps.");
  options.real("--time-step", chosen.time_step, 0, 10, "T", "Time of a step.");
  chosen.common.add_to(options);
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 fmm -n65536 -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const FmmOptions options = parse(argc, argv);
  const splash2::fmm::Parameters parameters = options.parameters();
  const auto job = splash2::join("fmm", options.common, std::min<std::int64_t>(options.bodies, 4096));
  splash2::require("fmm", *job, netvm::Consistency::scope);
  splash2::SharedStore store(*job, options.layout, netvm::Consistency::scope);
  splash2::fmm::Simulation simulation(store, parameters);
  splash2::ProcessorTimes times(*job, "fields");
  splash2::Outcome outcome;
  const splash2::fmm::Result result = splash2::run_on_all(*job, simulation, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("fmm: {} bodies in {} clusters ({}), {} terms, {} steps of {:g}, energy {:.9f}\n", parameters.bodies, parameters.clusters,
               parameters.distribution, simulation.tree().expansions().terms(), parameters.steps, parameters.time_step, result.last_energy);
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (std::size_t body = 0; body < parameters.bodies; ++body) {
        const splash2::fmm::Complex at = simulation.place(body).at;
        fmt::print("{:.9f} {:.9f}\n", at.real(), at.imag());
      }
    }
    if (options.common.verify_self()) outcome.checks = self_test(parameters, simulation, result);
    if (options.common.verify_reference()) {
      const splash2::fmm::SequentialRun sequential(parameters, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(simulation));
    }
  }
  return splash2::finish(*job, "fmm", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("fmm", [&] { return run(argc, argv); });
}
