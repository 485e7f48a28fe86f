// fft: complex one-dimensional six-step FFT, SPLASH-2's kernel on NetVM. docs/apps/fft.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include "apps/splash2/common/layout.hpp"
#include "apps/splash2/fft/six_step.hpp"
#include "apps/splash2/fft/verify.hpp"

namespace {

using splash2::fft::Complex;
using splash2::fft::Direction;

struct FftOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t log2_points = 16;
  std::int64_t cache_lines = 65536;
  std::int64_t log2_line = 4;
  bool test = false;
};

FftOptions parse(int argc, char** argv) {
  FftOptions chosen;
  splash2::Options options("fft", "Transforms 2^M complex points in parallel, by six steps on a square matrix (SPLASH-2's fft kernel).");
  options.whole("-m", chosen.log2_points, {2, 34}, "M", "Transform 2^M points; M is even.");
  options.whole("-n", chosen.cache_lines, {1, std::int64_t{1} << 32}, "N",
                "Lines of the cache that the patches of a transpose are to fit.");
  options.whole("-l", chosen.log2_line, {0, 12}, "L", "Log2 of the bytes of a cache line.");
  chosen.common.add_to(options);
  options.on("-t", chosen.test, "Transform back and compare with the input, whatever --verify says.");
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 fft -m20 -t -s");
  options.parse(argc, argv);
  if (chosen.log2_points % 2 != 0) {
    throw splash2::UsageError(
        fmt::format("fft: -m: {} is odd, the points would not make a square matrix; give {} or {}.\nSee fft --help.\n", chosen.log2_points,
                    chosen.log2_points - 1, chosen.log2_points + 1),
        2);
  }
  return chosen;
}

/// In the order of the points: the sum that the suite prints, and with -o all.
void print_outcome(const splash2::fft::RowLayout& layout, const Complex* outcome, bool all) {
  Complex sum;
  for (int owner = 0; owner < layout.processors(); ++owner) {
    const splash2::Part rows = layout.rows_of(owner);
    for (std::size_t row = rows.first; row < rows.last; ++row) {
      for (std::size_t column = 0; column < layout.edge(); ++column) {
        const Complex element = outcome[layout.row(owner, row) + column];
        sum = sum + element;
        if (all) fmt::print("{:.17g} {:.17g}\n", element.re, element.im);
      }
    }
  }
  fmt::print("  checksum {:.9g} {:+.9g}i\n", sum.re, sum.im);
}

int run(int argc, char** argv) {
  const FftOptions options = parse(argc, argv);
  const splash2::fft::Problem problem{static_cast<int>(options.log2_points), static_cast<std::size_t>(options.cache_lines),
                                      static_cast<int>(options.log2_line)};
  const auto job = splash2::join("fft", options.common, static_cast<std::int64_t>(problem.edge()));
  const splash2::fft::RowLayout layout(problem.edge(), splash2::processors_of(*job), problem.line_elements(),
                                       options.layout.padding == "pages");
  const netvm::AllocationOptions placed = options.layout.allocation();
  const splash2::fft::Matrices matrices{job->allocate_all<Complex>(layout.elements(), placed),
                                        job->allocate_all<Complex>(layout.elements(), placed),
                                        job->allocate_all<Complex>(layout.elements(), placed)};
  splash2::ProcessorTimes times(*job, "transposing");
  splash2::Outcome outcome;

  job->parallel([&](netvm::Thread& me) {
    splash2::fft::Worker worker(problem, layout, me.rank());
    worker.make_input(matrices);
    worker.make_roots(matrices);
    me.barrier();
    times.set(me, six_steps(worker, matrices, Direction::forward, [&me] { me.barrier(); }));
  });
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    fmt::print("fft: 2^{} points, matrix of {} x {}, patches of {} rows\n", problem.log2_points, problem.edge(), problem.edge(),
               problem.patch_edge(layout.rows_of(0).size()));
    if (options.common.timing) times.print();
    print_outcome(layout, matrices.other, options.common.print);
    if (options.common.verify_reference()) {
      outcome.checks.push_back(compare_with_recursive_fft(problem, layout, matrices.other));
      outcome.sequential_seconds = splash2::fft::sequential_seconds(problem, options.common.sequential_runs);
    }
  }
  if (options.test || options.common.verify_self()) {
    job->parallel([&](netvm::Thread& me) {
      splash2::fft::Worker worker(problem, layout, me.rank());
      const splash2::fft::Matrices back{matrices.other, matrices.data, matrices.roots};
      six_steps(worker, back, Direction::inverse, [&me] { me.barrier(); });
      splash2::Check check = compare_with_input(me, problem, layout, back.other);
      if (me.local() == 0) outcome.checks.push_back(std::move(check));
    });
  }
  return splash2::finish(*job, "fft", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("fft", [&] { return run(argc, argv); });
}
