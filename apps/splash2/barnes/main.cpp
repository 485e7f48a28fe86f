// barnes: the gravitational N-body problem by Barnes and Hut's method, SPLASH-2's application on NetVM. docs/apps/barnes.md.
#include <fmt/format.h>

#include "apps/splash2/barnes/verify.hpp"

namespace {

using splash2::barnes::Parameters;
using splash2::barnes::Result;
using splash2::barnes::Simulation;

int run(int argc, char** argv) {
  splash2::BodyOptions chosen;
  chosen.steps = 4;
  double theta = 1.0;
  double softening = 0.05;
  splash2::Options options("barnes", "Simulates a galaxy under its own gravity with an octree (SPLASH-2's barnes).");
  chosen.add_first(options);
  options.real("--theta", theta, 0, 10, "A", "A cell is opened if its edge is at least A times the distance.");
  options.real("--softening", softening, 0, 10, "E", "Length within which gravity is softened.");
  chosen.add_last(options);
  options.footer("Example: netvmrun -n 4 barnes -n16384 -s");
  options.parse(argc, argv);

  const Parameters parameters{
      static_cast<std::size_t>(chosen.bodies), static_cast<int>(chosen.steps), chosen.time_step, theta, softening, chosen.in_space_order()};
  const splash2::BodyProgram<Simulation> program{"barnes", "forces",
                                                 [&](const Simulation&, const Result& result) {
                                                   fmt::print("barnes: {} bodies, theta {:g}, {} steps of {:g}, energy {:.9f}\n",
                                                              parameters.bodies, theta, parameters.steps, parameters.time_step,
                                                              result.last_energy);
                                                 },
                                                 [](const Simulation& simulation, std::size_t body) {
                                                   const splash2::Vec3 at = simulation.place(body).at;
                                                   fmt::print("{:.9f} {:.9f} {:.9f}\n", at.x, at.y, at.z);
                                                 }};
  return splash2::run_bodies(program, chosen, parameters);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("barnes", [&] { return run(argc, argv); });
}
