// volrend: images of a volume from several sides, SPLASH-2's application on NetVM. docs/apps/volrend.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include "apps/splash2/common/runs.hpp"
#include "apps/splash2/volrend/render.hpp"

namespace {

using splash2::volrend::Renderer;
using splash2::volrend::View;

struct VolrendOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t volume = 96;
  std::int64_t pixels = 256;
  std::int64_t frames = 4;
  double turn = 10;
  std::int64_t tile = 8;
  std::string image;

  [[nodiscard]] View view() const {
    return {static_cast<std::size_t>(volume), static_cast<std::size_t>(pixels), static_cast<int>(frames), turn,
            static_cast<std::size_t>(tile)};
  }
};

VolrendOptions parse(int argc, char** argv) {
  VolrendOptions chosen;
  splash2::Options options("volrend", "Shows a volume (a head) from several sides by casting rays through it (SPLASH-2's volrend).");
  options.whole("-n", chosen.volume, {2, 1024}, "N", "Voxels a side of the volume.");
  options.whole("--pixels", chosen.pixels, {1, 8192}, "W", "Pixels a side of an image.");
  options.whole("--frames", chosen.frames, {1, 1000}, "F", "Images, one after the other.");
  options.real("--turn", chosen.turn, 0, 360, "D", "Degrees that the volume turns from frame to frame.");
  options.whole("--tile", chosen.tile, {1, 1024}, "T", "Rows and columns of a tile, the unit of work.");
  options.text("--image", chosen.image, "FILE", "Write the last image to this PNG file.");
  chosen.common.add_to(options);
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 volrend -n128 --image head.png -s");
  options.parse(argc, argv);
  return chosen;
}

/// Checks all frames against those of one processor in private memory, and measures that.
void compare_with_sequential(const VolrendOptions& options, const Renderer& renderer, splash2::Outcome& outcome) {
  const splash2::SoloRun<Renderer> sequential(options.common.sequential_runs,
                                              [&](splash2::Store& own) { return std::make_unique<Renderer>(own, options.view()); });
  splash2::Check check;
  for (int frame = 0; frame < options.frames && (frame == 0 || check.passed); ++frame)
    check = splash2::compare(renderer.image(frame), sequential.algorithm().image(frame));
  outcome.checks.push_back(std::move(check));
  outcome.sequential_seconds = sequential.seconds();
}

int run(int argc, char** argv) {
  const VolrendOptions options = parse(argc, argv);
  const auto job = splash2::join("volrend", options.common, 4096);
  splash2::SharedStore store(*job, options.layout);
  Renderer renderer(store, options.view());
  splash2::ProcessorTimes times(*job, "casting");
  splash2::Outcome outcome;
  const Renderer::Result result = splash2::run_on_all(*job, renderer, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("volrend: {}^3 voxels, {} images of {} x {} pixels, {:.0f} samples, {:.0f} tiles of the last image stolen\n", options.volume,
               options.frames, options.pixels, options.pixels, result.samples, result.stolen);
    if (options.common.timing) times.print();
    const splash2::Image last = renderer.image(static_cast<int>(options.frames) - 1);
    if (options.common.print) last.print();
    if (options.common.verify_self()) outcome.checks = {splash2::all_set(last), check_leaps(renderer.volume(), options.view())};
    if (options.common.verify_reference()) compare_with_sequential(options, renderer, outcome);
    splash2::write_if_asked(last, options.image, outcome.checks);
  }
  return splash2::finish(*job, "volrend", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("volrend", [&] { return run(argc, argv); });
}
