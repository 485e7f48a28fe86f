// cholesky: blocked sparse Cholesky factorization, SPLASH-2's kernel on NetVM. docs/apps/cholesky.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/splash2/cholesky/verify.hpp"
#include "apps/splash2/common/runs.hpp"

namespace {

struct CholeskyOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t side = 64;
  std::string grid = "square";
  std::int64_t panel = 32;
  bool test = false;
};

CholeskyOptions parse(int argc, char** argv) {
  CholeskyOptions chosen;
  splash2::Options options("cholesky", "Factors a sparse matrix into a lower triangle and its transpose (SPLASH-2's cholesky kernel).");
  options.choice("--grid", chosen.grid, {"square", "cube"}, "The matrix: of a grid in the plane, or in space.");
  options.whole("-n", chosen.side, {1, 1024}, "N", "Grid points a side: N x N (at most 1024) or N x N x N (at most 64) unknowns.");
  options.whole("-B", chosen.panel, {1, 1024}, "B", "Most columns of a panel, the unit of work.");
  chosen.common.add_to(options);
  options.on("-t", chosen.test, "Solve a system with the factor and look at the solution, whatever --verify says.");
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 cholesky --grid cube -n16 -s");
  options.parse(argc, argv);
  if (chosen.grid == "cube" && chosen.side > 64) {
    throw splash2::UsageError(
        fmt::format("cholesky: -n: {} points a side of a cube are too many; give 64 at most.\nSee cholesky --help.\n", chosen.side), 2);
  }
  return chosen;
}

int run(int argc, char** argv) {
  const CholeskyOptions options = parse(argc, argv);
  const splash2::cholesky::Problem problem{static_cast<std::size_t>(options.side), options.grid == "cube",
                                           static_cast<std::size_t>(options.panel)};
  const auto job = splash2::join("cholesky", options.common, 1024);
  const splash2::cholesky::Matrix matrix = splash2::cholesky::make_matrix(problem);
  const splash2::cholesky::Structure structure = splash2::cholesky::find_structure(problem, matrix, splash2::processors_of(*job));
  splash2::SharedStore store(*job, options.layout);
  splash2::cholesky::Factorization factorization(store, matrix, structure);
  splash2::ProcessorTimes times(*job, "waiting");
  splash2::Outcome outcome;
  splash2::run_on_all(*job, factorization, times);
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("cholesky: {} unknowns of a {}, {} numbers in the factor, {} panels, {:.1f} million operations\n", matrix.order(),
               options.grid, structure.nonzeros, structure.panels.size(), structure.operations / 1e6);
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (std::size_t i = 0; i < structure.panels.size(); ++i) {
        const splash2::cholesky::Panel& panel = structure.panels[i];
        const auto columns = static_cast<std::size_t>(panel.columns);
        for (std::size_t c = 0; c < columns; ++c) {
          for (std::size_t r = c; r < panel.rows.size(); ++r)
            fmt::print("{} {} {:.9g}\n", panel.rows[r], panel.rows[c], factorization.values(static_cast<std::int32_t>(i))[r * columns + c]);
        }
      }
    }
    if (options.test || options.common.verify_self()) outcome.checks.push_back(self_test(matrix, structure, factorization));
    if (options.common.verify_reference()) {
      const splash2::cholesky::SequentialRun sequential(problem, matrix, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(factorization));
    }
  }
  return splash2::finish(*job, "cholesky", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("cholesky", [&] { return run(argc, argv); });
}
