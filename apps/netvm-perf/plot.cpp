#include "apps/netvm-perf/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "apps/common/gnuplot.hpp"

namespace netvm::perf {

using tools::quoted;

std::string gnuplot_script(const Table& table, const std::string& file) {
  const PlotPlan& plan = table.plot;
  std::vector<std::pair<std::string, std::string>> lines;  // what rows have in common, and their points
  for (const auto& row : table.rows) {
    const auto cell = [&](const std::string& key) {
      const auto* number = std::get_if<double>(&row[table.column(key)]);
      return number != nullptr ? fmt::format("{}", *number) : std::string("NaN");
    };
    std::string name;
    for (const std::string& key : plan.by) {
      const auto* word = std::get_if<std::string>(&row[table.column(key)]);
      if (word != nullptr && *word != "-") name += (name.empty() ? "" : ", ") + *word;
    }
    auto line = std::find_if(lines.begin(), lines.end(), [&name](const auto& known) { return known.first == name; });
    if (line == lines.end()) line = lines.insert(lines.end(), {name, {}});
    line->second += cell(plan.x);
    for (const std::string& key : plan.y) line->second += fmt::format(" {}", cell(key));
    line->second += "\n";
  }
  std::string out;
  for (std::size_t i = 0; i < lines.size(); ++i) out += fmt::format("$data{} << END_OF_DATA\n{}END_OF_DATA\n", i, lines[i].second);
  out += tools::output_lines(file);
  out += "set title " + quoted(table.title) + " noenhanced\nset grid\nset key " +
         std::string(plan.by.empty() ? "left top" : "outside right") + " noenhanced\n";
  out += "set logscale x 2\nset format x '%.0b%B'\n";
  if (plan.log_y) out += "set logscale y\n";
  out += "set xlabel " + quoted(plan.x_label) + "\nset ylabel " + quoted(plan.y_label) + "\nplot ";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (std::size_t y = 0; y < plan.y.size(); ++y) {
      const std::string& column = table.columns[table.column(plan.y[y])].title;
      const std::string& name = lines[i].first;
      out += fmt::format("{}$data{} using 1:{} with linespoints title {}", i + y == 0 ? "" : ", ", i, y + 2,
                         quoted(name.empty()         ? column
                                : plan.y.size() == 1 ? name
                                                     : name + ": " + column));
    }
  }
  return out + "\n";
}

void draw(const Table& table, const std::string& file) {
  if (table.plot.x.empty() || table.rows.empty()) return;
  tools::run_gnuplot(gnuplot_script(table, file), file);
}

}  // namespace netvm::perf
