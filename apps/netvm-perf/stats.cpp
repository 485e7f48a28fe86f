#include "apps/netvm-perf/stats.hpp"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace netvm::perf {

std::int64_t clock_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

double quantile(std::span<const double> values, double q) {
  if (values.empty()) return 0;
  std::vector<double> sorted(values.begin(), values.end());
  const auto rank = std::lround(q * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
  return sorted[static_cast<std::size_t>(rank)];
}

std::uint64_t Mixer::next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

Interval bootstrap_median(std::span<const double> values, std::uint64_t seed) {
  if (values.empty()) return {};
  constexpr int kResamples = 2000;
  Mixer random(seed);
  std::vector<double> medians;
  medians.reserve(kResamples);
  std::vector<double> resample(values.size());
  for (int i = 0; i < kResamples; ++i) {
    for (double& value : resample) value = values[random.below(values.size())];
    medians.push_back(median(resample));
  }
  return {median(values), quantile(medians, 0.025), quantile(medians, 0.975)};
}

Interval paired_ratio(std::span<const double> above, std::span<const double> below, std::uint64_t seed) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(above.size(), below.size()); ++i) {
    if (below[i] > 0) ratios.push_back(above[i] / below[i]);
  }
  return bootstrap_median(ratios, seed);
}

std::string_view verdict(double low, double high, double bound, bool at_least) {
  const bool low_keeps = at_least ? low >= bound : low <= bound;
  const bool high_keeps = at_least ? high >= bound : high <= bound;
  if (low_keeps != high_keeps) return "undecided";
  return low_keeps ? "met" : "not met";
}

std::vector<std::size_t> shuffled(std::size_t count, unsigned seed) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

}  // namespace netvm::perf
