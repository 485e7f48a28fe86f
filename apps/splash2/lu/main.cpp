// lu: blocked dense LU factorization, SPLASH-2's kernel (contiguous and non-contiguous blocks) on NetVM. docs/apps/lu.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/splash2/common/layout.hpp"
#include "apps/splash2/lu/verify.hpp"

namespace {

using splash2::lu::BlockMatrix;
using splash2::lu::Layout;
using splash2::lu::Worker;

struct LuOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t order = 512;
  std::int64_t block = 16;
  std::string blocks = "contiguous";
  bool test = false;
};

LuOptions parse(int argc, char** argv) {
  LuOptions chosen;
  splash2::Options options("lu", "Factors a dense matrix into lower and upper triangles, block by block (SPLASH-2's lu kernel).");
  options.whole("-n", chosen.order, {1, 65536}, "N", "Rows and columns of the matrix.");
  options.whole("-b", chosen.block, {1, 1024}, "B", "Rows and columns of a block.");
  chosen.common.add_to(options);
  options.on("-t", chosen.test, "Solve a system with the factors and look at the solution, whatever --verify says.");
  options.choice(
      "--blocks", chosen.blocks, {"contiguous", "rows"},
      "How blocks lie: each in one piece, a processor's together; or the matrix row by row (the suite's non-contiguous blocks).");
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 lu -n1024 -b16 -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const LuOptions options = parse(argc, argv);
  const splash2::lu::Problem problem{static_cast<std::size_t>(options.order), static_cast<std::size_t>(options.block)};
  const auto blocks = static_cast<std::int64_t>(problem.blocks());
  const auto job = splash2::join("lu", options.common, std::min<std::int64_t>(blocks * blocks, 4096));
  BlockMatrix matrix(problem, options.blocks == "rows" ? Layout::rows : Layout::contiguous, splash2::processors_of(*job),
                     [&](std::size_t doubles) { return options.layout.padded(doubles, sizeof(double)); });
  matrix.lie_in(job->allocate_all<double>(matrix.doubles(), options.layout.allocation()));
  splash2::ProcessorTimes times(*job, "at barriers");
  splash2::Outcome outcome;

  job->parallel([&](netvm::Thread& me) {
    const Worker worker(matrix, me.rank());
    worker.make_input();
    me.barrier();
    times.set(me, factor(worker, [&me] { me.barrier(); }));
  });
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("lu: {} x {} elements, blocks of {} x {}, {}, {} x {} processors\n", problem.order, problem.order, problem.block,
               problem.block, options.blocks == "rows" ? "stored by rows" : "contiguous", matrix.processor_rows(),
               matrix.processor_columns());
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (std::size_t row = 0; row < problem.order; ++row) {
        for (std::size_t column = 0; column < problem.order; ++column) fmt::print("{:.9g} ", matrix.at(row, column));
        fmt::print("\n");
      }
    }
    if (options.test || options.common.verify_self()) outcome.checks.push_back(self_test(matrix));
    if (options.common.verify_reference()) {
      const splash2::lu::SequentialRun sequential(problem, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(matrix));
    }
  }
  return splash2::finish(*job, "lu", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("lu", [&] { return run(argc, argv); });
}
