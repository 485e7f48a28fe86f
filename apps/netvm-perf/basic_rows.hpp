// Rows of `netvm-perf basic`: a figure beside its floor, taken in the same run, interleaved; medians of many batches.
#pragma once

#include <string>
#include <vector>

#include "apps/netvm-perf/stats.hpp"

namespace netvm::perf {

/// One line of the table. `ratio` = measured / floor, or floor / measured where `higher_is_better`.
struct Row {
  std::string name;
  std::string floor_name;
  double measured_ns = 0;
  double floor_ns = 0;  ///< 0: this row has no floor
  double ratio = 0;
  double ratio_low = 0;  ///< from the quartiles: the middle half of the batches lies between
  double ratio_high = 0;
  double aim = 0;  ///< 0: none
  bool higher_is_better = false;
  std::string note;
};

Row make_row(std::string name, const Series& measured, std::string floor_name, const Series& floor, double aim,
             bool higher_is_better = false);

void print_table(const std::vector<Row>& rows);
std::string to_json(const std::vector<Row>& rows);
std::vector<Row> from_json(const std::string& text);

}  // namespace netvm::perf
