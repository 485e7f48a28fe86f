// ocean: eddies and boundary currents in an ocean basin, SPLASH-2's application (contiguous and non-contiguous partitions) on NetVM. docs/apps/ocean.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <bit>
#include <functional>
#include <optional>

#include "apps/splash2/ocean/basin.hpp"
#include "apps/splash2/ocean/verify.hpp"

namespace {

using splash2::ocean::Field;
using splash2::ocean::Parameters;
using splash2::ocean::Subgrid;

struct OceanOptions {
  splash2::CommonOptions common{{1, 4096, true}};
  splash2::LayoutOptions layout;
  std::int64_t points = 258;
  double tolerance = 1e-7;
  double spacing = 20000.0;
  double time_step = 28800.0;
  std::string cycle = "V";
  std::string borders = "strips";
  std::string grids = "contiguous";
  std::string parts = "rectangles";

  [[nodiscard]] Parameters parameters() const {
    return {static_cast<int>(points), tolerance, spacing, time_step, {.visits = cycle == "W" ? 2 : 1}};
  }
};

OceanOptions parse(int argc, char** argv) {
  OceanOptions chosen;
  splash2::Options options("ocean", "Simulates two days of eddies and boundary currents in an ocean basin (SPLASH-2's ocean).");
  options.whole("-n", chosen.points, {10, 32770}, "N", "Grid points a side, walls included: a power of two + 2.");
  options.real("-e", chosen.tolerance, 1e-14, 1, "E", "Tolerance of the solver: residual by right side.");
  options.real("-r", chosen.spacing, 0, 1e6, "R", "Metres between grid points.");
  options.real("-t", chosen.time_step, 0, 1e6, "T", "Seconds of a time step.");
  chosen.common.add_to(options);
  options.choice("--cycle", chosen.cycle, {"V", "W"}, "Order in which the solver visits its levels.");
  options.choice("--borders", chosen.borders, {"strips", "direct"},
                 "How neighbours read borders: from packed strips, or where they lie in the grids as in the suite.");
  options.choice("--grids", chosen.grids, {"contiguous", "rows"},
                 "How grids lie: a processor's part of all together; or each grid row by row (the suite's non-contiguous partitions).");
  options.choice("--parts", chosen.parts, {"rectangles", "strips"},
                 "What a processor has: a rectangle as square as can be, or a strip of whole rows, which is one piece also of rows.");
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 ocean -n258 -s");
  options.parse(argc, argv);
  const auto cells = static_cast<std::uint64_t>(chosen.points - 2);
  if (!std::has_single_bit(cells)) {
    throw splash2::UsageError(fmt::format("ocean: -n: {} is not a power of two + 2; give {} or {}.\nSee ocean --help.\n", chosen.points,
                                          std::bit_floor(cells) + 2, std::bit_ceil(cells) + 2),
                              2);
  }
  return chosen;
}

void print_field(const splash2::ocean::Basin& basin, const Parameters& parameters, const Subgrid& shape, Field name) {
  const int side = shape.columns_of_processors;
  for (int y = 0; y < parameters.cells(); ++y) {
    for (int block = 0; block < side; ++block) {
      const int rank = y / shape.rows * side + block;
      const Subgrid subgrid = shape.of_rank(rank);
      splash2::ocean::SoloTeam team;
      splash2::ocean::Arena arena = basin.arena_of(rank);
      const splash2::ocean::Model model(team, parameters, subgrid, arena);
      for (int x = 0; x < subgrid.columns; ++x) fmt::print("{:.9g} ", model.field(name).at(y - subgrid.first_row, x));
    }
    fmt::print("\n");
  }
}

/// Node 0, after the run: what the report says.
void conclude(const OceanOptions& options, const splash2::ocean::Basin& basin, const splash2::ProcessorTimes& times, const Subgrid& shape,
              const splash2::ocean::Progress& progress, splash2::Outcome& outcome) {
  const Parameters parameters = options.parameters();
  outcome.seconds = times.seconds();
  if (options.common.verify_reference()) {
    const splash2::ocean::SequentialRun sequential(parameters, options.common.sequential_runs);
    outcome.sequential_seconds = sequential.seconds();
    outcome.checks.push_back(sequential.compare(
        shape, [&](int rank) { return basin.arena_of(rank); }, progress));
  }
  fmt::print("ocean: {} x {} points, {} x {} processors, {} steps of {:g} s, {} multigrid cycles\n", parameters.points, parameters.points,
             shape.rows_of_processors, shape.columns_of_processors, progress.steps, parameters.time_step, progress.cycles);
  if (options.common.timing) times.print();
  if (options.common.print) print_field(basin, parameters, shape, Field::psi1);
}

int run(int argc, char** argv) {
  const OceanOptions options = parse(argc, argv);
  const Parameters parameters = options.parameters();
  const auto parts = options.parts == "strips" ? splash2::ocean::Parts::strips : splash2::ocean::Parts::rectangles;
  const std::int64_t half = parameters.cells() / 2;
  const auto job = splash2::join("ocean", options.common, parts == splash2::ocean::Parts::strips ? half : half * half);
  const int processors = job->nodes() * job->threads_per_node();
  const auto borders = options.borders == "direct" ? splash2::ocean::Borders::direct : splash2::ocean::Borders::strips;

  const auto grids = options.grids == "rows" ? splash2::ocean::Grids::rows : splash2::ocean::Grids::contiguous;
  const Subgrid shape = Subgrid::of(parameters.cells(), 0, processors, parts);
  const std::size_t unit = options.layout.padded(1, sizeof(double));
  const splash2::ocean::Basin basin(*job, shape, splash2::ocean::model_doubles(parameters, shape, grids, unit), grids, options.layout);
  splash2::ProcessorTimes times(*job, "multigrid");
  splash2::Outcome outcome;
  splash2::ocean::Progress progress;
  job->parallel([&](netvm::Thread& me) {
    const Subgrid subgrid = shape.of_rank(me.rank());
    splash2::ocean::SharedTeam team(me, basin, subgrid, borders);
    splash2::ocean::Arena arena = basin.arena_of(me.rank());
    splash2::ocean::Model model(team, parameters, subgrid, arena);
    model.start();
    me.barrier();
    const double start = splash2::clock_seconds();
    const splash2::ocean::Progress mine = model.run();
    me.barrier();
    times.set(me, {splash2::clock_seconds() - start, mine.solver_seconds});
    std::vector<splash2::Check> checks;
    if (options.common.verify_self()) checks = self_test(team, parameters, model, mine);
    if (me.local() == 0) {
      progress = mine;
      outcome.checks = std::move(checks);
    }
  });
  if (job->node() == 0) conclude(options, basin, times, shape, progress, outcome);
  return splash2::finish(*job, "ocean", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("ocean", [&] { return run(argc, argv); });
}
