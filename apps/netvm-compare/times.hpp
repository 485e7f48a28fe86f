// Where the threads' time went: a table for people, and stacked bars as papers draw them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/netvm-compare/results.hpp"

namespace netvm::compare {

/// A part of the time of a run's threads, in seconds, all threads together.
struct Share {
  std::string_view name;
  double seconds = 0;
};

/// Computing, page wait, lock wait, barriers (what they cost), imbalance (what a barrier waited for the last), protocol: together the time of the
/// application threads (Stat::thread_ns). The protocol's time at locks and barriers is taken out of these two, in proportion. Last, handlers: on top of that, as they run in whichever thread is there, a waiting one too.
/// Empty if the reports do not say how long the threads ran.
[[nodiscard]] std::vector<Share> shares_of(const Row& row);

/// A line for each row: per cent of the threads' time; mean latency of a lock.
[[nodiscard]] std::string to_times_table(const Options& options, const std::vector<Row>& rows);

/// The gnuplot script of the bars: a group for each program, its first bar 100.
[[nodiscard]] std::string times_script(const Options& options, const std::vector<Row>& rows, const std::string& file);

}  // namespace netvm::compare
