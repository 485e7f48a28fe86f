// raytrace: an image of a three-dimensional scene, SPLASH-2's application on NetVM. docs/apps/raytrace.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/splash2/common/runs.hpp"
#include "apps/splash2/raytrace/render.hpp"

namespace {

using splash2::raytrace::Renderer;

struct RaytraceOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::string scene = "balls";
  std::int64_t detail = 4;
  std::int64_t width = 256;
  std::int64_t height = 256;
  std::int64_t samples = 1;
  std::int64_t reflections = 5;
  std::int64_t tile = 8;
  std::string image;

  [[nodiscard]] splash2::raytrace::View view() const {
    return {static_cast<std::size_t>(width), static_cast<std::size_t>(height), static_cast<int>(samples), static_cast<int>(reflections),
            static_cast<std::size_t>(tile)};
  }
};

RaytraceOptions parse(int argc, char** argv) {
  RaytraceOptions chosen;
  splash2::Options options("raytrace", "Renders a scene, ray by ray (SPLASH-2's raytrace).");
  options.choice("--scene", chosen.scene, {"balls", "land"}, "What is shown: balls upon balls, or hills with mirrors.");
  options.whole("--detail", chosen.detail, {1, 6}, "D",
                "How fine the scene is: balls upon balls D times; hills of 2 x (16 x 2^D)^2 triangles.");
  options.whole("--width", chosen.width, {1, 16384}, "W", "Pixels of a row.");
  options.whole("--height", chosen.height, {1, 16384}, "H", "Rows.");
  options.whole("-a", chosen.samples, {1, 16}, "A", "Rays of a pixel: A x A.");
  options.whole("--reflections", chosen.reflections, {0, 64}, "R", "How often a ray is reflected at most.");
  options.whole("--tile", chosen.tile, {1, 1024}, "T", "Rows and columns of a tile, the unit of work.");
  options.text("--image", chosen.image, "FILE", "Write the image to this PNG file.");
  chosen.common.add_to(options);
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 raytrace -a2 --image balls.png -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const RaytraceOptions options = parse(argc, argv);
  const auto job = splash2::join("raytrace", options.common, 4096);
  splash2::SharedStore store(*job, options.layout);
  Renderer renderer(store, splash2::raytrace::make_model(options.scene, static_cast<int>(options.detail)), options.view());
  splash2::ProcessorTimes times(*job, "rendering");
  splash2::Outcome outcome;
  const Renderer::Result result = splash2::run_on_all(*job, renderer, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("raytrace: {}, {} primitives, {} x {} pixels, {:.0f} rays, {:.0f} tiles stolen\n", options.scene,
               renderer.scene().primitives().size(), options.width, options.height, result.rays, result.stolen);
    if (options.common.timing) times.print();
    const splash2::Image image = renderer.image();
    if (options.common.print) image.print();
    if (options.common.verify_self()) outcome.checks = {splash2::all_set(image), check_boxes(renderer.scene(), options.view())};
    if (options.common.verify_reference()) {
      const splash2::SoloRun<Renderer> sequential(options.common.sequential_runs, [&](splash2::Store& own) {
        return std::make_unique<Renderer>(own, splash2::raytrace::make_model(options.scene, static_cast<int>(options.detail)),
                                          options.view());
      });
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(splash2::compare(image, sequential.algorithm().image()));
    }
    splash2::write_if_asked(image, options.image, outcome.checks);
  }
  return splash2::finish(*job, "raytrace", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("raytrace", [&] { return run(argc, argv); });
}
