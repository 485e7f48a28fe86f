// The table of `netvm-perf thesis`: what the thesis says, ours, what must be reached, what is aimed at.
#pragma once

#include <optional>
#include <string>

#include "apps/netvm-perf/stats.hpp"
#include "apps/netvm-perf/table.hpp"

namespace netvm::perf {

/// What a ratio is held against.
struct Bound {
  std::optional<double> must;
  std::optional<double> aim;
  bool at_least = false;  ///< else: at most
};

[[nodiscard]] Table make_thesis_table();
/// `thesis`: its figure, in words; "-" if it has none.
void add_figure(Table& table, const std::string& name, const std::string& thesis, const Interval& ours, const Bound& bound);
/// The figures that miss what they must reach.
[[nodiscard]] std::size_t missed(const Table& table);
/// Adds a remark about intervals that are too wide; once, at the end.
void finish_thesis_table(Table& table);

}  // namespace netvm::perf
