#include "apps/gas/stencil/halo.hpp"

#include <algorithm>
#include <limits>

#include "apps/splash2/common/layout.hpp"
#include "apps/splash2/common/partition.hpp"

namespace gas::stencil {

Rectangle Division::part(const Parameters& parameters, int rank) const {
  const auto rows = splash2::Part::of(parameters.rows, rank / across, down);
  const auto columns = splash2::Part::of(parameters.columns, rank % across, across);
  return {rows.first, rows.last, columns.first, columns.last};
}

int Division::neighbour(int rank, Side side) const {
  const int row = rank / across + (side == Side::down ? 1 : side == Side::up ? -1 : 0);
  const int column = rank % across + (side == Side::right ? 1 : side == Side::left ? -1 : 0);
  return row >= 0 && row < down && column >= 0 && column < across ? row * across + column : -1;
}

Division Division::best(const Parameters& parameters, int processors) {
  Division best;
  std::size_t shortest = std::numeric_limits<std::size_t>::max();
  for (int down = 1; down <= processors; ++down) {
    const int across = processors / down;
    if (down * across != processors) continue;
    const auto high = static_cast<std::size_t>(down);
    const auto wide = static_cast<std::size_t>(across);
    if (high > parameters.rows || wide > parameters.columns) continue;
    const std::size_t cut = (high - 1) * parameters.columns + (wide - 1) * parameters.rows;
    if (cut < shortest) {
      shortest = cut;
      best = {down, across};
    }
  }
  return best;
}

Field::Field(netvm::Job& job, const Parameters& parameters, Exchange exchange)
    : parameters_(parameters),
      exchange_(exchange),
      threads_(job.threads_per_node()),
      division_(Division::best(parameters, splash2::processors_of(job))),
      strip_(1),
      largest_(1) {
  for (int rank = 0; rank < splash2::processors_of(job); ++rank) {
    const Rectangle part = division_.part(parameters, rank);
    strip_ = std::max({strip_, part.height(), part.width()});
    largest_ = std::max(largest_, part.height() * part.width());
  }
  const auto threads = static_cast<std::size_t>(threads_);
  strips_ = job.symmetric_all<double>(threads * 2 * kSides.size() * strip_);
  results_ = job.symmetric_all<double>(threads * largest_);
  for (std::size_t i = 0; i < threads * kSides.size(); ++i) counters_.push_back(std::make_unique<netvm::EventCounter>(job));
}

/// The memory of a processor's side, at its node: inbox or outbox.
double* Field::strip(int rank, int step, Side side) const {
  const auto thread = static_cast<std::size_t>(rank % threads_);
  return strips_ + ((thread * 2 + static_cast<std::size_t>(step % 2)) * kSides.size() + static_cast<std::size_t>(side)) * strip_;
}

/// Counts what comes to a processor from that side; on its node.
netvm::EventCounter& Field::counter(int rank, Side side) const {
  return *counters_[static_cast<std::size_t>(rank % threads_) * kSides.size() + static_cast<std::size_t>(side)];
}

void Field::send(const Block& block, int rank, int step) {
  std::vector<double> cells(strip_);
  for (const Side side : kSides) {
    const int to = division_.neighbour(rank, side);
    if (to < 0) continue;
    const Side from = opposite(side);  // as the receiver sees it
    if (exchange_ == Exchange::put) {
      block.copy_side(side, cells.data());
      counter(to, from).put(node_of(to), strip(to, step, from), cells.data(), block.where().length(side));
    } else {
      block.copy_side(side, strip(rank, step, side));
      counter(to, from).notify(node_of(to));
    }
  }
}

void Field::receive(Block& block, int rank, int step) {
  std::vector<double> cells(strip_);
  for (const Side side : kSides) {
    const int from = division_.neighbour(rank, side);
    if (from < 0) continue;
    counter(rank, side).wait(static_cast<std::uint64_t>(step) + 1);
    if (exchange_ == Exchange::put) {
      block.set_frame(side, strip(rank, step, side));
    } else {
      netvm::get(node_of(from), strip(from, step, opposite(side)), cells.data(), block.where().length(side));
      block.set_frame(side, cells.data());
    }
  }
}

splash2::ProcessorTime Field::run(netvm::Thread& me) {
  Block block(parameters_, division_.part(parameters_, me.rank()));
  splash2::ProcessorTime time;
  me.barrier();
  const double start = splash2::clock_seconds();
  for (int step = 0; step < parameters_.steps; ++step) {
    send(block, me.rank(), step);
    block.step_inside();
    const double before = splash2::clock_seconds();
    receive(block, me.rank(), step);
    time.part += splash2::clock_seconds() - before;
    block.step_rim();
    block.advance();
  }
  me.barrier();
  time.total = splash2::clock_seconds() - start;

  double* result = results_ + static_cast<std::size_t>(me.local()) * largest_;
  for (std::size_t row = 0; row < block.where().height(); ++row) {
    for (std::size_t column = 0; column < block.where().width(); ++column) *result++ = block.at(row, column);
  }
  return time;
}

std::vector<double> Field::collect() const {
  std::vector<double> field(parameters_.rows * parameters_.columns);
  std::vector<double> cells(largest_);
  for (int rank = 0; rank < division_.down * division_.across; ++rank) {
    const Rectangle part = division_.part(parameters_, rank);
    netvm::get(node_of(rank), results_ + static_cast<std::size_t>(rank % threads_) * largest_, cells.data(), part.height() * part.width());
    for (std::size_t row = 0; row < part.height(); ++row) {
      std::copy_n(&cells[row * part.width()], part.width(), &field[(part.first_row + row) * parameters_.columns + part.first_column]);
    }
  }
  return field;
}

std::size_t Field::bytes_a_step() const {
  std::size_t cells = 0;
  for (int rank = 0; rank < division_.down * division_.across; ++rank) {
    for (const Side side : kSides) {
      if (division_.neighbour(rank, side) >= 0) cells += division_.part(parameters_, rank).length(side);
    }
  }
  return cells * sizeof(double);
}

}  // namespace gas::stencil
