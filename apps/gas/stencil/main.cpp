// stencil: heat in a plate, its parts exchanging their edges with one-sided puts or gets and notifications. docs/apps/stencil.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/gas/stencil/halo.hpp"
#include "apps/gas/stencil/verify.hpp"

namespace {

using gas::stencil::Exchange;
using gas::stencil::Field;

struct StencilOptions {
  splash2::CommonOptions common;
  std::int64_t rows = 1024;
  std::int64_t columns = 1024;
  std::int64_t steps = 200;
  double diffusion = 0.2;
  std::string exchange = "put";

  [[nodiscard]] gas::stencil::Parameters parameters() const {
    return {static_cast<std::size_t>(rows), static_cast<std::size_t>(columns), static_cast<int>(steps), diffusion};
  }
};

StencilOptions parse(int argc, char** argv) {
  StencilOptions chosen;
  splash2::Options options(
      "stencil",
      "Heat that spreads in a plate: a five-point stencil, cut into rectangles, one a processor. Neighbours exchange their\n"
      "outermost cells by one-sided puts or gets with notifications: no coherent memory, no lock, no barrier in the loop.");
  options.whole("--rows", chosen.rows, {1, 1 << 20}, "R", "Cells of a column.");
  options.whole("--columns", chosen.columns, {1, 1 << 20}, "C", "Cells of a row.");
  options.whole("--steps", chosen.steps, {1, 10000000}, "S", "Time steps.");
  options.real("--diffusion", chosen.diffusion, 0, 0.25, "D",
               "How much of the difference flows in a step; above 1/4 it would not be stable.");
  options.choice("--exchange", chosen.exchange, {"put", "get"},
                 "Who moves the cells: their owner, into the neighbour's memory, or the neighbour, when it is notified.");
  chosen.common.add_to(options);
  options.footer("Example: netvmrun -n 4 stencil --rows 2048 --columns 2048 -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const StencilOptions options = parse(argc, argv);
  const gas::stencil::Parameters parameters = options.parameters();
  const auto job = splash2::join("stencil", options.common, std::min<std::int64_t>(1024, std::max(options.rows, options.columns)));
  Field field(*job, parameters, options.exchange == "put" ? Exchange::put : Exchange::get);
  splash2::ProcessorTimes times(*job, "waiting");
  splash2::Outcome outcome;
  job->parallel([&](netvm::Thread& me) { times.set(me, field.run(me)); });
  if (job->node() == 0) {
    const std::vector<double> result = field.collect();
    outcome.seconds = times.seconds();
    fmt::print("stencil: {} x {} cells in {} x {} parts, {} steps, {:.1f} million cells a second, {} bytes exchanged a step ({})\n",
               parameters.rows, parameters.columns, field.division().down, field.division().across, parameters.steps,
               1e-6 * static_cast<double>(result.size()) * parameters.steps / outcome.seconds, field.bytes_a_step(), options.exchange);
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (std::size_t i = 0; i < result.size(); ++i) fmt::print("{:.17g}{}", result[i], (i + 1) % parameters.columns == 0 ? '\n' : ' ');
    }
    if (options.common.verify_self()) outcome.checks.push_back(check_exact(parameters, result));
    if (options.common.verify_reference()) {
      const gas::stencil::SequentialRun sequential(parameters, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(result));
    }
  }
  return splash2::finish(*job, "stencil", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("stencil", [&] { return run(argc, argv); });
}
