// Programs that move bodies in time steps (barnes, fmm): their flags, their driver, and the sequential run that says whether the answer is right.
//
// A simulation is made from (Store&, Parameters) and run by every member of a team. It has place(body).at and motion(body).velocity. Its namespace has
// self_test(parameters, simulation, result), a vector of checks for one thread.
#pragma once

#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "apps/splash2/common/runs.hpp"
#include "apps/splash2/common/vec3.hpp"

namespace splash2 {

/// Flags that they all have.
struct BodyOptions {
  CommonOptions common;
  LayoutOptions layout;
  std::int64_t bodies = 16384;
  std::int64_t steps = 1;
  double time_step = 0.025;
  std::string order = "space";

  [[nodiscard]] bool in_space_order() const { return order == "space"; }
  /// Before the program's own flags, and after them.
  void add_first(Options& options) {
    options.whole("-n", bodies, {2, 1 << 24}, "N", "Bodies.");
    options.whole("--steps", steps, {1, 1000000}, "S", "Time steps.");
    options.real("--time-step", time_step, 0, 10, "T", "Time of a step.");
  }
  void add_last(Options& options) {
    options.choice("--order", order, {"space", "input"}, "How bodies lie in memory: neighbours in space together, or as they come.");
    common.add_to(options);
    layout.add_to(options);
  }
};

inline double distance(const Vec3& a, const Vec3& b) { return length(a - b); }
inline double distance(const std::complex<double>& a, const std::complex<double>& b) { return std::abs(a - b); }

/// The same simulation by one processor in private memory.
template <class Simulation, class Parameters>
class SequentialBodies : public SoloRun<Simulation> {
 public:
  SequentialBodies(const Parameters& parameters, std::int64_t runs)
      : SoloRun<Simulation>(runs, [&](Store& store) { return std::make_unique<Simulation>(store, parameters); }),
        bodies_(parameters.bodies) {}

  /// Positions and velocities, body by body.
  [[nodiscard]] Check compare(const Simulation& simulation) const {
    constexpr double kMostDifference = 1e-9;
    double worst = 0;
    bool finite = true;
    for (std::size_t body = 0; body < bodies_; ++body) {
      const double position = distance(simulation.place(body).at, this->algorithm().place(body).at);
      const double velocity = distance(simulation.motion(body).velocity, this->algorithm().motion(body).velocity);
      finite = finite && std::isfinite(position) && std::isfinite(velocity);
      worst = std::max({worst, position, velocity});
    }
    return {"reference", finite && worst <= kMostDifference,
            fmt::format("positions and velocities differ from the sequential run's by {:.1e} at most, {:.0e} allowed",
                        finite ? worst : INFINITY, kMostDifference)};
  }

 private:
  std::size_t bodies_;
};

/// What a program of bodies says of itself.
template <class Simulation>
struct BodyProgram {
  std::string name;
  std::string timed_part;  ///< what the walks or fields are called in the table of -s
  std::function<void(const Simulation&, const typename SoloRun<Simulation>::Result&)> print_summary;
  std::function<void(const Simulation&, std::size_t body)> print_place;
};

/// From the flags to the exit status: the simulation on all threads of the job, its answer checked on node 0.
template <class Simulation, class Parameters>
int run_bodies(const BodyProgram<Simulation>& program, const BodyOptions& options, const Parameters& parameters) {
  const auto job = join(program.name, options.common, std::min<std::int64_t>(options.bodies, 4096));
  require(program.name, *job, netvm::Consistency::scope);
  SharedStore store(*job, options.layout, netvm::Consistency::scope);
  Simulation simulation(store, parameters);
  ProcessorTimes times(*job, program.timed_part);
  Outcome outcome;
  const auto result = run_on_all(*job, simulation, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    program.print_summary(simulation, result);
    if (options.common.timing) times.print();
    for (std::size_t body = 0; options.common.print && body < parameters.bodies; ++body) program.print_place(simulation, body);
    if (options.common.verify_self()) outcome.checks = self_test(parameters, simulation, result);
    if (options.common.verify_reference()) {
      const SequentialBodies<Simulation, Parameters> sequential(parameters, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(simulation));
    }
  }
  return finish(*job, program.name, outcome);
}

}  // namespace splash2
