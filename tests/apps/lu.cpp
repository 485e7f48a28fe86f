// lu: blocks and their owners, the factors in either layout, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/lu/verify.hpp"

namespace splash2::lu {
namespace {

std::size_t unpadded(std::size_t doubles) { return doubles; }

TEST_CASE("every element has a place of its own, in every layout") {
  for (const Layout layout : {Layout::contiguous, Layout::rows}) {
    for (const int processors : {1, 2, 6, 7}) {
      BlockMatrix matrix(Problem{23, 4}, layout, processors, unpadded);
      std::vector<double> memory(matrix.doubles());
      matrix.lie_in(memory.data());
      std::set<const double*> places;
      for (std::size_t row = 0; row < 23; ++row) {
        for (std::size_t column = 0; column < 23; ++column) {
          const double* const place = &matrix.at(row, column);
          REQUIRE(place >= memory.data());
          REQUIRE(place < memory.data() + memory.size());
          CHECK(places.insert(place).second);
        }
      }
    }
  }
}

TEST_CASE("the processors stand in a rectangle as square as their number allows") {
  const BlockMatrix twelve(Problem{64, 8}, Layout::contiguous, 12, unpadded);
  CHECK(twelve.processor_rows() == 3);
  CHECK(twelve.processor_columns() == 4);
  CHECK(twelve.owner(4, 6) == 6);
  const BlockMatrix seven(Problem{64, 8}, Layout::contiguous, 7, unpadded);
  CHECK(seven.processor_rows() == 1);
}

TEST_CASE("L times U is the matrix") {
  const Problem problem{37, 8};
  BlockMatrix matrix(problem, Layout::contiguous, 1, unpadded);
  std::vector<double> memory(matrix.doubles());
  matrix.lie_in(memory.data());
  const Worker worker(matrix, 0);
  worker.make_input();
  factor(worker, [] {});
  for (std::size_t row = 0; row < problem.order; ++row) {
    for (std::size_t column = 0; column < problem.order; ++column) {
      double product = row <= column ? matrix.at(row, column) : 0;
      for (std::size_t k = 0; k < std::min(row, column + 1); ++k) product += matrix.at(row, k) * matrix.at(k, column);
      CHECK(product == doctest::Approx(problem.element(row, column)));
    }
  }
}

TEST_CASE("any number of threads and either layout give the sequential factors; one wrong element is seen") {
  const Problem problem{61, 8};
  const SequentialRun sequential(problem, 1);
  for (const int threads : {1, 3, 4}) {
    for (const Layout layout : {Layout::contiguous, Layout::rows}) {
      netvm::Job job(threads);
      BlockMatrix matrix(problem, layout, threads, unpadded);
      matrix.lie_in(job.allocate_all<double>(matrix.doubles()));
      job.parallel([&](netvm::Thread& me) {
        const Worker worker(matrix, me.rank());
        worker.make_input();
        me.barrier();
        factor(worker, [&me] { me.barrier(); });
      });
      CHECK(sequential.compare(matrix).passed);
      CHECK(self_test(matrix).passed);
      matrix.at(40, 17) *= 1 + 1e-6;
      CHECK_FALSE(self_test(matrix).passed);
      const Check check = sequential.compare(matrix);
      CHECK_FALSE(check.passed);
      CHECK(check.detail.find("(40, 17)") != std::string::npos);
    }
  }
}

TEST_CASE("padding brings parts to whole pages, whatever the size of what is in them") {
  LayoutOptions layout;
  CHECK(layout.padded(1, 8) == 512);
  CHECK(layout.padded(513, 8) == 1024);
  CHECK(layout.padded(1, 24) * 24 % kPageBytes == 0);
  layout.padding = "none";
  CHECK(layout.padded(513, 8) == 513);
}

}  // namespace
}  // namespace splash2::lu
