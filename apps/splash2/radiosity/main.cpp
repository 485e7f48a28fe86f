// radiosity: the light in a room of matt surfaces, SPLASH-2's application on NetVM. docs/apps/radiosity.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include "apps/splash2/common/runs.hpp"
#include "apps/splash2/radiosity/verify.hpp"
#include "apps/splash2/radiosity/view.hpp"

namespace {

using splash2::radiosity::Solver;

struct RadiosityOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::string scene = "room";
  double share = 3e-4;
  double area = 0.02;
  double tolerance = 1e-3;
  std::int64_t iterations = 50;
  std::string image;
  std::int64_t width = 640;
  std::int64_t height = 480;
  std::string elements = "apart";

  [[nodiscard]] splash2::radiosity::Parameters parameters() const {
    using splash2::radiosity::ElementLayout;
    return {share, area, tolerance, static_cast<int>(iterations), elements == "apart" ? ElementLayout::apart : ElementLayout::together};
  }
};

RadiosityOptions parse(int argc, char** argv) {
  RadiosityOptions chosen;
  splash2::Options options("radiosity", "Computes the light in a room of matt surfaces by hierarchical radiosity (SPLASH-2's radiosity).");
  options.choice("--scene", chosen.scene, {"room", "hall"}, "What is lit: a furnished room, or a hall with four times the furniture.");
  options.real("--share", chosen.share, 0, 1, "F", "Share of the lamps' power above which a link is divided.");
  options.real("--area", chosen.area, 1e-5, 1000, "A", "Square metres; no element with less is divided.");
  options.real("--tolerance", chosen.tolerance, 0, 1, "T", "Ends when the light in the room changes by less, relatively.");
  options.whole("--iterations", chosen.iterations, {1, 100000}, "I", "At most so many iterations.");
  options.text("--image", chosen.image, "FILE", "Write an image to this PNG file.");
  options.whole("--width", chosen.width, {1, 16384}, "W", "Pixels of a row of the image.");
  options.whole("--height", chosen.height, {1, 16384}, "H", "Rows of the image.");
  options.choice("--elements", chosen.elements, {"apart", "together"},
                 "How elements lie: what changes in each phase in arrays of its own, or each element in one piece.");
  chosen.common.add_to(options);
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 radiosity --image room.png -s");
  options.parse(argc, argv);
  return chosen;
}

/// Each patch's mean radiosity, which is its root's.
void print_patches(const Solver& solver) {
  for (std::int32_t patch = 0; patch < solver.elements().patches(); ++patch) {
    const splash2::Vec3 light = solver.radiosity(solver.elements().element(patch));
    fmt::print("{} {:.9f} {:.9f} {:.9f}\n", patch, light.x, light.y, light.z);
  }
}

int run(int argc, char** argv) {
  const RadiosityOptions options = parse(argc, argv);
  const splash2::radiosity::Parameters parameters = options.parameters();
  const splash2::radiosity::Model model = splash2::radiosity::make_model(options.scene);
  const auto job = splash2::join("radiosity", options.common, 256);
  splash2::require("radiosity", *job, netvm::Consistency::scope);
  splash2::SharedStore store(*job, options.layout, netvm::Consistency::scope);
  Solver solver(store, model, parameters);
  splash2::ProcessorTimes times(*job, "tasks");
  splash2::Outcome outcome;
  const splash2::radiosity::Result result = splash2::run_on_all(*job, solver, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("radiosity: {}, {} patches, {:.0f} links, {} iterations, {:.0f} patches of the last phase stolen\n", options.scene,
               model.patches.size(), result.links, result.iterations, result.stolen);
    if (options.common.timing) times.print();
    if (options.common.print) print_patches(solver);
    if (options.common.verify_self()) outcome.checks = self_test(parameters, solver, result);
    if (options.common.verify_reference()) {
      const splash2::radiosity::SequentialRun sequential(model, parameters, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(solver));
    }
    if (!options.image.empty()) {
      const splash2::Image image =
          render(solver, model.camera, static_cast<std::size_t>(options.width), static_cast<std::size_t>(options.height));
      splash2::write_if_asked(image, options.image, outcome.checks);
    }
  }
  return splash2::finish(*job, "radiosity", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("radiosity", [&] { return run(argc, argv); });
}
