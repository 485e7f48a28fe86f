#include "apps/netvm-compare/table.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace netvm::compare {
namespace {

/// 1234567 -> 1'234'567
std::string grouped(std::uint64_t value) {
  std::string text = std::to_string(value);
  for (std::size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, 1, '\'');
  }
  return text;
}

std::string scaled_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string seconds_cell(const Row& row) {
  if (row.seconds <= 0) return "-";
  return fmt::format("{:.6f}{}", row.seconds, row.timed_by_program ? "" : "*");
}

}  // namespace

std::string to_table(const Options& options, const std::vector<Row>& rows) {
  std::vector<TextColumn> columns = {{"program", true, {}},      {"nodes", false, {}},    {"protocol", true, {}},  {"trap", true, {}},
                                     {"granularity", false, {}}, {"seconds", false, {}},  {"speed-up", false, {}}, {"verified", true, {}},
                                     {"page faults", false, {}}, {"messages", false, {}}, {"bytes", false, {}}};
  for (const Row& row : rows) {
    const std::array<std::string, 11> cells = {join_command(options.programs[row.what.program]),
                                               std::to_string(row.what.nodes),
                                               row.what.protocol,
                                               row.what.trap,
                                               row.what.granularity,
                                               seconds_cell(row),
                                               row.speed_up > 0 ? fmt::format("{:.2f}", row.speed_up) : "-",
                                               row.verdict.size() <= 40 ? row.verdict : row.verdict.substr(0, 37) + "...",
                                               grouped(row.page_faults),
                                               grouped(row.messages),
                                               scaled_bytes(row.bytes)};
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i].cells.push_back(cells[i]);
  }
  if (options.granularities.empty()) columns.erase(columns.begin() + 4);
  if (options.traps.empty()) columns.erase(columns.begin() + 3);

  // Lines of a program: set its block apart.
  std::vector<std::size_t> gaps;
  for (std::size_t i = 1; i < rows.size() && rows.size() > options.programs.size(); ++i) {
    if (rows[i].what.program != rows[i - 1].what.program) gaps.push_back(i);
  }
  return to_text(columns, gaps);
}

std::string to_text(const std::vector<TextColumn>& columns, const std::vector<std::size_t>& gaps) {
  std::vector<std::string> lines(columns.front().cells.size() + 1);
  for (const TextColumn& column : columns) {
    std::size_t width = column.title.size();
    for (const std::string& cell : column.cells) width = std::max(width, cell.size());
    for (std::size_t line = 0; line < lines.size(); ++line) {
      const std::string& text = line == 0 ? column.title : column.cells[line - 1];
      lines[line] +=
          (lines[line].empty() ? "" : "  ") + (column.left ? fmt::format("{:<{}}", text, width) : fmt::format("{:>{}}", text, width));
    }
  }
  std::string table;
  for (std::size_t line = 0; line < lines.size(); ++line) {
    const bool gap = line > 0 && std::find(gaps.begin(), gaps.end(), line - 1) != gaps.end();
    table += (gap ? "\n" : "") + lines[line] + "\n";
  }
  return table;
}

Progress::Progress(std::size_t total, bool quiet) : total_(total), shown_(!quiet && ::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { clear(); }

void Progress::next(const std::string& what) {
  ++done_;
  if (shown_) fmt::print(stderr, "\r\033[K[{}/{}] {}", done_, total_, what.substr(0, 110));
  std::fflush(stderr);
}

void Progress::clear() {
  if (shown_) fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

}  // namespace netvm::compare
