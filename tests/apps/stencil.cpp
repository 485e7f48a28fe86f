// stencil: the division of the field, a block's steps, the exchange, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <vector>

#include "apps/gas/stencil/halo.hpp"
#include "apps/gas/stencil/verify.hpp"

namespace gas::stencil {
namespace {

TEST_CASE("the field is divided into parts that fit, with short cuts") {
  for (const int processors : {1, 2, 3, 4, 6, 7, 12}) {
    const Parameters parameters{14, 31, 1, 0.2};
    const Division division = Division::best(parameters, processors);
    CHECK(division.down * division.across == processors);
    std::vector<int> owners(14 * 31);
    for (int rank = 0; rank < processors; ++rank) {
      const Rectangle part = division.part(parameters, rank);
      CHECK(part.height() * part.width() > 0);
      for (std::size_t row = part.first_row; row < part.last_row; ++row) {
        for (std::size_t column = part.first_column; column < part.last_column; ++column) ++owners[row * 31 + column];
      }
      for (const Side side : kSides) {
        const int other = division.neighbour(rank, side);
        if (other >= 0) CHECK(division.neighbour(other, opposite(side)) == rank);
        if (other >= 0) CHECK(division.part(parameters, other).length(opposite(side)) == part.length(side));
      }
    }
    CHECK(owners == std::vector<int>(14 * 31, 1));
  }
  CHECK(Division::best({100, 100, 1, 0.2}, 4).down == 2);
  CHECK(Division::best({1, 9, 1, 0.2}, 7).across == 7);
}

TEST_CASE("inside and rim are every cell once, however small the block") {
  for (std::size_t rows = 1; rows <= 5; ++rows) {
    for (std::size_t columns = 1; columns <= 5; ++columns) {
      const Parameters parameters{rows, columns, 3, 0.25};
      const SequentialRun run(parameters, 1);
      Block block(parameters, {0, rows, 0, columns});
      std::vector<double> field(rows * columns);
      for (std::size_t i = 0; i < field.size(); ++i) field[i] = exact_value(parameters, i / columns, i % columns, 3);
      CHECK(check_exact(parameters, field).passed);
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < columns; ++column) CHECK(block.at(row, column) == initial_value(parameters, row, column));
      }
      for (int step = 0; step < 3; ++step) {
        block.step_rim();  // in the other order
        block.step_inside();
        block.advance();
      }
      for (std::size_t i = 0; i < field.size(); ++i) {
        CHECK(block.at(i / columns, i % columns) == doctest::Approx(field[i]).epsilon(1e-12));
        field[i] = block.at(i / columns, i % columns);
      }
      CHECK(run.compare(field).passed);
    }
  }
}

TEST_CASE("threads that exchange their sides give the sequential field; a wrong cell is seen") {
  const Parameters parameters{60, 45, 30, 0.2};
  const SequentialRun sequential(parameters, 1);
  for (const int threads : {1, 2, 4}) {
    for (const Exchange exchange : {Exchange::put, Exchange::get}) {
      netvm::Job job(threads);
      Field field(job, parameters, exchange);
      job.parallel([&](netvm::Thread& me) { field.run(me); });
      std::vector<double> result = field.collect();
      CHECK(sequential.compare(result).passed);
      CHECK(check_exact(parameters, result).passed);
      result[22 * 45] += 1e-9;
      CHECK_FALSE(sequential.compare(result).passed);
      result.assign(result.size(), 0.125);
      CHECK_FALSE(check_exact(parameters, result).passed);
    }
  }
}

}  // namespace
}  // namespace gas::stencil
