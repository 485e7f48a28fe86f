// fmm: bodies in the plane by the adaptive fast multipole method, SPLASH-2's application on NetVM. docs/apps/fmm.md.
#include <fmt/format.h>

#include "apps/splash2/fmm/verify.hpp"

namespace {

using splash2::fmm::Parameters;
using splash2::fmm::Result;
using splash2::fmm::Simulation;

int run(int argc, char** argv) {
  splash2::BodyOptions chosen;
  chosen.steps = 5;
  std::int64_t clusters = 2;
  std::string distribution = "plummer";
  double precision = 1e-6;
  splash2::Options options("fmm", "Simulates bodies in the plane by the adaptive fast multipole method (SPLASH-2's fmm).");
  chosen.add_first(options);
  options.whole("--clusters", clusters, {1, 2}, "C", "One cluster at rest, or two that go round each other.");
  options.choice("--distribution", distribution, {"plummer", "uniform"}, "How the bodies of a cluster lie.");
  options.real("--precision", precision, 1e-16, 0.5, "E", "How exact fields are; an expansion has log2(1 / E) terms.");
  chosen.add_last(options);
  options.footer("Example: netvmrun -n 4 fmm -n65536 -s");
  options.parse(argc, argv);

  const Parameters parameters{static_cast<std::size_t>(chosen.bodies), static_cast<int>(clusters), distribution,           precision,
                              static_cast<int>(chosen.steps),          chosen.time_step,           chosen.in_space_order()};
  const splash2::BodyProgram<Simulation> program{
      "fmm", "fields",
      [&](const Simulation& simulation, const Result& result) {
        fmt::print("fmm: {} bodies in {} clusters ({}), {} terms, {} steps of {:g}, energy {:.9f}\n", parameters.bodies, clusters,
                   distribution, simulation.tree().expansions().terms(), parameters.steps, parameters.time_step, result.last_energy);
      },
      [](const Simulation& simulation, std::size_t body) {
        const splash2::fmm::Complex at = simulation.place(body).at;
        fmt::print("{:.9f} {:.9f}\n", at.real(), at.imag());
      }};
  return splash2::run_bodies(program, chosen, parameters);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("fmm", [&] { return run(argc, argv); });
}
