#include "apps/netvm-perf/thesis_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "apps/netvm-perf/measurements.hpp"

namespace netvm::perf {
namespace {

std::string bound_text(const std::optional<double>& bound, bool at_least) {
  return bound ? fmt::format("{} {:.4g}", at_least ? ">=" : "<=", *bound) : std::string("-");
}

std::string verdict_on(const Interval& ours, const std::optional<double>& bound, bool at_least) {
  return bound ? std::string(verdict(ours.low, ours.high, *bound, at_least)) : "-";
}

}  // namespace

Table make_thesis_table() {
  Table table;
  table.title = "Network Virtual Memory (Ong 2003) and this NetVM; ratios, each of two arms of one run";
  table.columns = {{"figure", "figure", 0, true}, {"thesis", "thesis", 0, true}, {"ours", "ours", 3},       {"low", "low", 3},
                   {"high", "high", 3},           {"must", "must", 0, true},     {"must_met", "", 0, true}, {"aim", "aim", 0, true},
                   {"aim_met", "", 0, true}};
  return table;
}

void add_figure(Table& table, const std::string& name, const std::string& thesis, const Interval& ours, const Bound& bound) {
  table.rows.push_back({name, thesis, ours.value, ours.low, ours.high, bound_text(bound.must, bound.at_least),
                        verdict_on(ours, bound.must, bound.at_least), bound_text(bound.aim, bound.at_least),
                        verdict_on(ours, bound.aim, bound.at_least)});
}

std::size_t missed(const Table& table) {
  const std::size_t column = table.column("must_met");
  return static_cast<std::size_t>(
      std::count_if(table.rows.begin(), table.rows.end(), [&](const auto& row) { return row[column] == Cell("not met"); }));
}

void finish_thesis_table(Table& table) {
  std::vector<std::string> noisy;
  for (const auto& row : table.rows) {
    const Interval ours{std::get<double>(row[2]), std::get<double>(row[3]), std::get<double>(row[4])};
    if (ours.high - ours.low > kNoisySpread * std::max(std::abs(ours.value), 0.1)) noisy.push_back(std::get<std::string>(row[0]));
  }
  table.notes.push_back(
      "low, high: 95 % interval, bootstrap over batches; undecided: the bound lies in it, so that longer batches (--seconds) or a quieter "
      "machine must tell; docs/thesis.md says what each row is");
  note_noise(table, noisy);
}

}  // namespace netvm::perf
