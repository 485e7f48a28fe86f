// Statistics of measurements: order statistics, and confidence intervals by the bootstrap (Efron & Tibshirani 1993: resample with
// replacement, take the percentiles of the resamples' medians).
//
// Invariants
//  1. The same values and seed give the same interval: the generator is our own use of splitmix64, not the library's distributions.
//  2. Two arms are compared by their ratios batch by batch: what disturbed the machine during a batch hit both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace netvm::perf {

/// Nanoseconds of CLOCK_MONOTONIC.
std::int64_t clock_ns();

/// Runs `batch` operations by calling op(i), and returns nanoseconds an operation.
template <class Op>
double time_batch(int batch, Op&& op) {
  const std::int64_t begin = clock_ns();
  for (int i = 0; i < batch; ++i) op(i);
  return static_cast<double>(clock_ns() - begin) / batch;
}

/// The value below which the fraction q lies (nearest rank); 0 of nothing.
[[nodiscard]] double quantile(std::span<const double> values, double q);
[[nodiscard]] inline double median(std::span<const double> values) { return quantile(values, 0.5); }

/// Times of one operation, one value a batch.
class Series {
 public:
  void add(double ns) { values_.push_back(ns); }
  [[nodiscard]] bool empty() const { return values_.empty(); }
  [[nodiscard]] double quantile(double q) const { return perf::quantile(values_, q); }
  [[nodiscard]] double median() const { return quantile(0.5); }
  [[nodiscard]] std::span<const double> values() const { return values_; }

 private:
  std::vector<double> values_;
};

/// A median and where it lies with 95 % confidence.
struct Interval {
  double value = 0;
  double low = 0;
  double high = 0;
  /// Width as a part of the value; 0 of nothing.
  [[nodiscard]] double spread() const { return value > 0 ? (high - low) / value : 0; }
};

/// Whether an interval keeps a bound: "met" or "not met" if all of it does or does not, else "undecided".
[[nodiscard]] std::string_view verdict(double low, double high, double bound, bool at_least);

/// An interval wider than this part of its value says that the machine was not quiet.
inline constexpr double kNoisySpread = 0.10;

[[nodiscard]] Interval bootstrap_median(std::span<const double> values, std::uint64_t seed = 1);
/// Of the ratios above[i] / below[i]; pairs whose divisor is not positive are left out.
[[nodiscard]] Interval paired_ratio(std::span<const double> above, std::span<const double> below, std::uint64_t seed = 1);

/// A small generator with one word of state, for orders and resamples that are to be the same on every node and in every run.
class Mixer {
 public:
  explicit Mixer(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// 0 .. limit - 1.
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }

 private:
  std::uint64_t state_;
};

/// 0 to count - 1 in an order that no read-ahead guesses.
[[nodiscard]] std::vector<std::size_t> shuffled(std::size_t count, unsigned seed);

}  // namespace netvm::perf
