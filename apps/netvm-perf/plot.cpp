#include "apps/netvm-perf/plot.hpp"

#include <fmt/format.h>

#include "apps/common/gnuplot.hpp"

namespace netvm::perf {

using tools::quoted;

std::string gnuplot_script(const Table& table, const std::string& file) {
  const PlotPlan& plan = table.plot;
  std::string out = "$data << END_OF_DATA\n";
  for (const auto& row : table.rows) {
    const auto cell = [&](const std::string& key) {
      const auto* number = std::get_if<double>(&row[table.column(key)]);
      return number != nullptr ? fmt::format("{}", *number) : std::string("NaN");
    };
    out += cell(plan.x);
    for (const std::string& key : plan.y) out += fmt::format(" {}", cell(key));
    out += "\n";
  }
  out += "END_OF_DATA\n";
  out += tools::output_lines(file);
  out += "set title " + quoted(table.title) + " noenhanced\nset grid\nset key left top noenhanced\n";
  out += "set logscale x 2\nset format x '%.0b%B'\n";
  if (plan.log_y) out += "set logscale y\n";
  out += "set xlabel " + quoted(plan.x_label) + "\nset ylabel " + quoted(plan.y_label) + "\nplot ";
  for (std::size_t i = 0; i < plan.y.size(); ++i) {
    out += fmt::format("{}$data using 1:{} with linespoints title {}", i == 0 ? "" : ", ", i + 2,
                       quoted(table.columns[table.column(plan.y[i])].title));
  }
  return out + "\n";
}

void draw(const Table& table, const std::string& file) {
  if (table.plot.x.empty() || table.rows.empty()) return;
  tools::run_gnuplot(gnuplot_script(table, file), file);
}

}  // namespace netvm::perf
