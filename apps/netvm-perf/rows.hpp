// Rows of netvm-perf: a figure beside its floor, taken in the same run, interleaved; medians of many batches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace netvm::perf {

/// Nanoseconds of CLOCK_MONOTONIC.
std::int64_t clock_ns();

/// Times of one operation, one value a batch.
class Series {
 public:
  void add(double ns) { values_.push_back(ns); }
  [[nodiscard]] bool empty() const { return values_.empty(); }
  /// The value below which the fraction q lies.
  [[nodiscard]] double quantile(double q) const;
  [[nodiscard]] double median() const { return quantile(0.5); }

 private:
  std::vector<double> values_;
};

/// Runs `batch` operations by calling op(i), and returns nanoseconds an operation.
template <class Op>
double time_batch(int batch, Op&& op) {
  const std::int64_t begin = clock_ns();
  for (int i = 0; i < batch; ++i) op(i);
  return static_cast<double>(clock_ns() - begin) / batch;
}

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

/// What the sections are given.
struct Options {
  bool quick = false;  ///< a few batches, to see that everything runs
  int batches = 31;
};

void print_table(const std::vector<Row>& rows);
std::string to_json(const std::vector<Row>& rows);
std::vector<Row> from_json(const std::string& text);

}  // namespace netvm::perf
