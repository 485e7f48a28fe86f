#include "apps/splash2/water/program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/splash2/common/runs.hpp"

namespace splash2::water {

void WaterOptions::add_to(Options& options) {
  options.whole("-n", molecules, {2, 1 << 20}, "N", "Molecules.");
  options.whole("--steps", steps, {1, 1000000}, "S", "Time steps.");
  options.real("--time-step", time_step, 0, 10, "T", "Femtoseconds of a time step.");
  options.real("--cutoff", cutoff, 2, 1000, "R", "Angstrom at which molecules cease to interact; at most half the box is used.");
  common.add_to(options);
  layout.add_to(options);
}

Parameters WaterOptions::parameters() const {
  Parameters parameters;
  parameters.molecules = static_cast<std::size_t>(molecules);
  parameters.steps = static_cast<int>(steps);
  parameters.time_step = time_step / 1000;
  parameters.cutoff = std::min(cutoff, parameters.side() / 2);
  return parameters;
}

namespace {

void print_molecules(const Simulation& simulation, int processors, std::size_t molecules) {
  std::vector<Sites> positions(molecules);
  for (int rank = 0; rank < processors; ++rank) {
    simulation.for_each_of(rank, [&](Sites& position, Motion& motion, Sites& /*force*/) { positions[motion.number] = position; });
  }
  for (const Sites& position : positions) {
    for (const Vec3& site : position.at) fmt::print("{:.9f} {:.9f} {:.9f}  ", site.x, site.y, site.z);
    fmt::print("\n");
  }
}

}  // namespace

int run_water(const std::string& program, const WaterOptions& options, const MakeSimulation& make) {
  const Parameters parameters = options.parameters();
  const auto job = join(program, options.common, std::min<std::int64_t>(options.molecules, 4096));
  SharedStore store(*job, options.layout);
  const std::unique_ptr<Simulation> simulation = make(store, parameters);
  ProcessorTimes times(*job, "forces");
  Outcome outcome;
  const Result result = run_on_all(*job, *simulation, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("{}: {} molecules in a box of {:.3f} Angstrom, cut-off {:.3f}, {} steps of {:g} fs\n", program, parameters.molecules,
               parameters.side(), parameters.cutoff_used(), parameters.steps, options.time_step);
    if (options.common.timing) times.print();
    if (options.common.print) print_molecules(*simulation, processors_of(*job), parameters.molecules);
    if (options.common.verify_self()) outcome.checks = self_test(parameters, result);
    if (options.common.verify_reference()) {
      const SoloRun<Simulation> sequential(options.common.sequential_runs, [&](Store& own) { return make(own, parameters); });
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(compare(parameters, *simulation, processors_of(*job), result, sequential.algorithm(), sequential.result()));
    }
  }
  return finish(*job, program, outcome);
}

}  // namespace splash2::water
