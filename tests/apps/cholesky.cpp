// cholesky: the matrix and its order, the structure of the factor, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "apps/splash2/cholesky/verify.hpp"

namespace splash2::cholesky {
namespace {

TEST_CASE("the matrix of a grid joins neighbours, each pair once, and its diagonal outweighs them") {
  for (const bool cube : {false, true}) {
    const Problem problem{6, cube, 8};
    const Matrix matrix = make_matrix(problem);
    const std::size_t edges = cube ? 3 * 6 * 6 * 5 : 2 * 6 * 5;
    std::size_t entries = 0;
    std::vector<double> others(matrix.order(), 0);
    for (std::size_t column = 0; column < matrix.order(); ++column) {
      for (const Matrix::Entry& entry : matrix.below[column]) {
        REQUIRE(entry.row > static_cast<std::int32_t>(column));
        CHECK(entry.value < 0);
        others[column] -= entry.value;
        others[static_cast<std::size_t>(entry.row)] -= entry.value;
        ++entries;
      }
    }
    CHECK(entries == edges);
    for (std::size_t i = 0; i < matrix.order(); ++i) CHECK(matrix.diagonal[i] >= others[i] - 1e-12);
    CHECK(std::accumulate(matrix.diagonal.begin(), matrix.diagonal.end(), 0.0) > std::accumulate(others.begin(), others.end(), 0.0) + 1);
  }
}

TEST_CASE("nested dissection keeps the factor sparse") {
  const Problem problem{31, false, 16};
  const Matrix matrix = make_matrix(problem);
  const Structure structure = find_structure(problem, matrix, 1);
  CHECK(structure.nonzeros < 961 * 31 * 2 / 3);  // row by row it has 31 numbers in almost each column
}

TEST_CASE("panels hold every column once, their rows are those of the factor, and every update has its place") {
  const Problem problem{9, false, 4};
  const Matrix matrix = make_matrix(problem);
  const std::size_t n = matrix.order();
  std::vector<std::vector<char>> full(n, std::vector<char>(n, 0));  // the factor's structure by elimination
  for (std::size_t j = 0; j < n; ++j) {
    full[j][j] = 1;
    for (const Matrix::Entry& entry : matrix.below[j]) full[static_cast<std::size_t>(entry.row)][j] = 1;
  }
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t j = k + 1; j < n; ++j) {
      for (std::size_t i = j; i < n && full[j][k] != 0; ++i) full[i][j] |= full[i][k];
    }
  }
  for (const int processors : {1, 3}) {
    const Structure structure = find_structure(problem, matrix, processors);
    std::size_t next = 0;
    std::size_t owned = 0;
    for (const auto& own : structure.own) owned += own.size();
    CHECK(owned == structure.panels.size());
    for (const Panel& panel : structure.panels) {
      CHECK(static_cast<std::size_t>(panel.first) == next);
      CHECK(panel.columns <= 4);
      for (std::int32_t c = 0; c < panel.columns; ++c, ++next) {
        for (std::size_t row = next; row < n; ++row)
          CHECK(std::binary_search(panel.rows.begin(), panel.rows.end(), static_cast<std::int32_t>(row)) == (full[row][next] != 0));
      }
    }
    CHECK(next == n);
  }
}

TEST_CASE("any number of threads gives the sequential factor; a wrong number is seen") {
  for (const bool cube : {false, true}) {
    const Problem problem{cube ? std::size_t{6} : std::size_t{17}, cube, 8};
    const Matrix matrix = make_matrix(problem);
    const SequentialRun sequential(problem, matrix, 1);
    for (const int threads : {1, 3, 4}) {
      netvm::Job job(threads);
      SharedStore store(job, {});
      const Structure structure = find_structure(problem, matrix, threads);
      Factorization factorization(store, matrix, structure);
      job.parallel([&](netvm::Thread& me) {
        SharedTeam team(me);
        factorization.run(team);
      });
      CHECK(self_test(matrix, structure, factorization).passed);
      CHECK(sequential.compare(factorization).passed);
      factorization.values(static_cast<std::int32_t>(structure.panels.size() / 2))[0] *= 1 + 1e-6;
      CHECK_FALSE(self_test(matrix, structure, factorization).passed);
      CHECK_FALSE(sequential.compare(factorization).passed);
    }
  }
}

TEST_CASE("a matrix that is not positive definite ends in a message") {
  const Problem problem{4, false, 4};
  Matrix matrix = make_matrix(problem);
  matrix.diagonal[3] = -1;
  const Structure structure = find_structure(problem, matrix, 1);
  PrivateStore store;
  Factorization factorization(store, matrix, structure);
  SoloTeam team;
  CHECK_THROWS_WITH_AS(factorization.run(team), doctest::Contains("not positive definite"), std::runtime_error);
}

}  // namespace
}  // namespace splash2::cholesky
