#include "apps/netvm-compare/times.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "apps/common/gnuplot.hpp"
#include "apps/netvm-compare/table.hpp"

namespace netvm::compare {
namespace {

using tools::quoted;

/// One for each share, in their order; apart in grey, too.
constexpr std::array<std::string_view, 7> kColours = {"#4477aa", "#ee6677", "#228833", "#ccbb44", "#eedd99", "#aa3377", "#bbbbbb"};

double seconds_of(const Row& row, const char* stat) {
  const auto found = row.stats.find(stat);
  return found == row.stats.end() ? 0 : static_cast<double>(found->second) * 1e-9;
}

std::string what_of(const Combination& what) {
  std::string text = fmt::format("{} {}", what.protocol, what.nodes);
  if (!what.trap.empty()) text += " " + what.trap;
  if (!what.granularity.empty()) text += " " + what.granularity;
  return text;
}

}  // namespace

std::vector<Share> shares_of(const Row& row) {
  if (row.thread_seconds <= 0) return {};
  const double page = seconds_of(row, "fault_ns");
  const double imbalance = seconds_of(row, "barrier_imbalance_ns");
  const double lock = seconds_of(row, "lock_wait_ns");
  const double barrier = std::max(0.0, seconds_of(row, "barrier_wait_ns") - imbalance);
  const double protocol = seconds_of(row, "protocol_ns");
  // Unlocks are not part of any wait: there the protocol's time may be longer than both.
  const double left = lock + barrier > 0 ? std::max(0.0, 1 - protocol / (lock + barrier)) : 0;
  const double compute = row.thread_seconds - page - imbalance - (lock + barrier) * left - protocol;
  return {{"computing", std::max(0.0, compute)},
          {"page wait", page},
          {"lock wait", lock * left},
          {"barriers", barrier * left},
          {"imbalance", imbalance},
          {"protocol", protocol},
          {"handlers", seconds_of(row, "handler_ns")}};
}

std::string to_times_table(const Options& options, const std::vector<Row>& rows) {
  std::vector<TextColumn> columns = {{"program", true, {}}, {"nodes", false, {}}, {"protocol", true, {}}};
  for (const Row& row : rows) {
    const std::vector<Share> shares = shares_of(row);
    if (shares.empty()) continue;
    if (columns.size() == 3) {
      for (const Share& share : shares) columns.push_back({fmt::format("{} %", share.name), false, {}});
      columns.push_back({"lock us", false, {}});
    }
    columns[0].cells.push_back(join_command(options.programs[row.what.program]));
    columns[1].cells.push_back(std::to_string(row.what.nodes));
    columns[2].cells.push_back(row.what.protocol);
    for (std::size_t i = 0; i < shares.size(); ++i)
      columns[3 + i].cells.push_back(fmt::format("{:.1f}", 100 * shares[i].seconds / row.thread_seconds));
    const auto locks = row.stats.find("lock_acquires");
    const bool any = locks != row.stats.end() && locks->second != 0;
    columns.back().cells.push_back(any ? fmt::format("{:.2f}", seconds_of(row, "lock_wait_ns") * 1e6 / static_cast<double>(locks->second))
                                       : "-");
  }
  return columns.size() == 3 ? std::string() : to_text(columns, {});
}

std::string times_script(const Options& options, const std::vector<Row>& rows, const std::string& file) {
  std::string data;
  std::string plot;
  std::size_t group = 0;
  for (std::size_t program = 0; program < options.programs.size(); ++program) {
    double base = 0;
    std::string lines;
    std::vector<Share> parts;
    for (const Row& row : rows) {
      if (row.what.program != program || row.thread_seconds <= 0) continue;
      parts = shares_of(row);
      if (base == 0) base = row.thread_seconds;
      lines += '"' + what_of(row.what) + '"';  // in data gnuplot takes these quotes only
      for (const Share& part : parts) lines += fmt::format(" {:.4f}", 100 * part.seconds / base);
      lines += "\n";
    }
    if (lines.empty()) continue;
    data += fmt::format("$program{} << END_OF_DATA\n{}END_OF_DATA\n", group, lines);
    plot += fmt::format("{}newhistogram {}", plot.empty() ? "plot " : ", \\\n  ", quoted(join_command(options.programs[program])));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      plot += fmt::format(", $program{} using {}{} lc rgb '{}' {}", group, i + 2, i == 0 ? ":xtic(1)" : "", kColours[i],
                          group == 0 ? fmt::format("title {}", quoted(std::string(parts[i].name))) : "notitle");
    }
    ++group;
  }
  return data + tools::output_lines(file) +
         "set termoption noenhanced\nset style data histograms\nset style histogram rowstacked title offset 0,-1\nset style fill solid "
         "border -1\nset boxwidth 0.8 "
         "relative\n"
         "set xtics rotate by -40 noenhanced\nset bmargin 8\nset key outside right invert\nset grid y\nset yrange [0:*]\n"
         "set ylabel 'time of all threads, per cent of the first bar'\n" +
         plot + "\n";
}

}  // namespace netvm::compare
