#include "apps/netvm-perf/basic_rows.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

namespace netvm::perf {

Row make_row(std::string name, const Series& measured, std::string floor_name, const Series& floor, double aim, bool higher_is_better) {
  Row row;
  row.name = std::move(name);
  row.floor_name = std::move(floor_name);
  row.measured_ns = measured.median();
  row.floor_ns = floor.median();
  row.aim = aim;
  row.higher_is_better = higher_is_better;
  if (row.floor_ns > 0 && row.measured_ns > 0) {
    const auto ratio = [&](double m, double f) { return higher_is_better ? f / m : m / f; };
    row.ratio = ratio(row.measured_ns, row.floor_ns);
    row.ratio_low = ratio(measured.quantile(higher_is_better ? 0.75 : 0.25), row.floor_ns);
    row.ratio_high = ratio(measured.quantile(higher_is_better ? 0.25 : 0.75), row.floor_ns);
  }
  return row;
}

namespace {

std::string time_text(double ns) {
  if (ns <= 0) return "-";
  if (ns < 1000) return fmt::format("{:.1f} ns", ns);
  if (ns < 1e6) return fmt::format("{:.2f} us", ns / 1e3);
  return fmt::format("{:.2f} ms", ns / 1e6);
}

std::string verdict_on(const Row& row) {
  if (row.aim <= 0) return row.note;
  const std::string_view met = row.ratio > 0 ? verdict(row.ratio_low, row.ratio_high, row.aim, row.higher_is_better) : "not measured";
  return fmt::format("{} {:.2f}: {}{}{}", row.higher_is_better ? ">=" : "<=", row.aim, met, row.note.empty() ? "" : "; ", row.note);
}

}  // namespace

void print_table(const std::vector<Row>& rows) {
  fmt::print("{:<44} {:>10}  {:<38} {:>10} {:>7} {:>15}  {}\n", "operation", "measured", "floor", "", "ratio", "middle half", "aim");
  std::size_t noisy = 0;
  for (const Row& row : rows) {
    const std::string ratio = row.ratio > 0 ? fmt::format("{:.2f}", row.ratio) : "-";
    const std::string spread = row.ratio > 0 ? fmt::format("{:.2f} to {:.2f}", row.ratio_low, row.ratio_high) : "";
    fmt::print("{:<44} {:>10}  {:<38} {:>10} {:>7} {:>15}  {}\n", row.name, time_text(row.measured_ns), row.floor_name,
               time_text(row.floor_ns), ratio, spread, verdict_on(row));
    if (row.ratio > 0 && row.ratio_high > 2 * row.ratio_low) ++noisy;
  }
  if (noisy != 0)
    fmt::print(
        "\nin {} of {} rows the middle half of the batches lies apart by more than a factor of 2: the machine was not quiet; run again\n",
        noisy, rows.size());
}

std::string to_json(const std::vector<Row>& rows) {
  nlohmann::json all = nlohmann::json::array();
  for (const Row& r : rows) {
    all.push_back({{"name", r.name},
                   {"measured_ns", r.measured_ns},
                   {"floor", r.floor_name},
                   {"floor_ns", r.floor_ns},
                   {"ratio", r.ratio},
                   {"ratio_low", r.ratio_low},
                   {"ratio_high", r.ratio_high},
                   {"aim", r.aim},
                   {"higher_is_better", r.higher_is_better},
                   {"note", r.note}});
  }
  return all.dump(2);
}

std::vector<Row> from_json(const std::string& text) {
  std::vector<Row> rows;
  for (const auto& j : nlohmann::json::parse(text)) {
    Row r;
    j.at("name").get_to(r.name);
    j.at("floor").get_to(r.floor_name);
    j.at("measured_ns").get_to(r.measured_ns);
    j.at("floor_ns").get_to(r.floor_ns);
    j.at("ratio").get_to(r.ratio);
    j.at("ratio_low").get_to(r.ratio_low);
    j.at("ratio_high").get_to(r.ratio_high);
    j.at("aim").get_to(r.aim);
    j.at("higher_is_better").get_to(r.higher_is_better);
    j.at("note").get_to(r.note);
    rows.push_back(std::move(r));
  }
  return rows;
}

}  // namespace netvm::perf
