// fft: rows, layout, six steps, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <vector>

#include "apps/splash2/fft/verify.hpp"

namespace splash2::fft {
namespace {

std::vector<Complex> slow_transform(const std::vector<Complex>& in) {
  std::vector<Complex> out(in.size());
  for (std::size_t k = 0; k < in.size(); ++k) {
    for (std::size_t j = 0; j < in.size(); ++j) out[k] = out[k] + in[j] * root_of_unity(j * k % in.size(), in.size());
  }
  return out;
}

TEST_CASE("a row's transform is the sum that defines it, and the inverse undoes it") {
  for (const std::size_t length : {1, 2, 8, 64}) {
    std::vector<Complex> row(length);
    for (std::size_t i = 0; i < length; ++i) row[i] = Problem{}.input(i);
    const std::vector<Complex> input = row;
    const std::vector<Complex> expected = slow_transform(input);
    const RowFft transform(length);
    transform(row.data(), Direction::forward);
    for (std::size_t i = 0; i < length; ++i) CHECK(norm(row[i] - expected[i]) < 1e-24);
    transform(row.data(), Direction::inverse);
    const double scale = static_cast<double>(length);
    for (std::size_t i = 0; i < length; ++i) CHECK(norm(row[i] - Complex{input[i].re * scale, input[i].im * scale}) < 1e-22);
  }
}

TEST_CASE("each processor's rows begin on a page of their own and do not overlap") {
  for (const int processors : {1, 2, 3, 8}) {
    const RowLayout layout(64, processors, 1);
    std::vector<bool> used(layout.elements());
    for (int owner = 0; owner < processors; ++owner) {
      const Part rows = layout.rows_of(owner);
      CHECK(layout.row(owner, rows.first) * sizeof(Complex) % kPageBytes == 0);
      for (std::size_t row = rows.first; row < rows.last; ++row) {
        for (std::size_t column = 0; column < layout.edge(); ++column) {
          REQUIRE_FALSE(used.at(layout.row(owner, row) + column));
          used[layout.row(owner, row) + column] = true;
        }
      }
    }
  }
}

TEST_CASE("the patches of a transpose fit the cache and the rows") {
  Problem problem{20, 65536, 4};
  CHECK(problem.patch_edge(1024) == 128);
  CHECK(problem.patch_edge(64) == 64);
  problem.cache_lines = 1;
  CHECK(problem.patch_edge(64) == 1);
}

TEST_CASE("six steps by any number of threads are the transform; a wrong point is seen") {
  for (const int threads : {1, 2, 3}) {
    netvm::Job job(threads);
    const Problem problem{8, 64, 4};
    const RowLayout layout(problem.edge(), threads, problem.line_elements());
    const Matrices matrices{job.allocate_all<Complex>(layout.elements()), job.allocate_all<Complex>(layout.elements()),
                            job.allocate_all<Complex>(layout.elements())};
    job.parallel([&](netvm::Thread& me) {
      Worker worker(problem, layout, me.rank());
      worker.make_input(matrices);
      worker.make_roots(matrices);
      me.barrier();
      six_steps(worker, matrices, Direction::forward, [&me] { me.barrier(); });
    });
    CHECK(compare_with_recursive_fft(problem, layout, matrices.other).passed);
    matrices.other[layout.row(0, 0)].re += 1e-9;
    CHECK_FALSE(compare_with_recursive_fft(problem, layout, matrices.other).passed);
    matrices.other[layout.row(0, 0)].re = std::nan("");
    CHECK_FALSE(compare_with_recursive_fft(problem, layout, matrices.other).passed);
  }
}

}  // namespace
}  // namespace splash2::fft
