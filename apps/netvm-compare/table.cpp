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

std::string range_cell(const Row& row) {
  return row.most_seconds <= 0 ? "-" : fmt::format("{:.3g} to {:.3g}", row.least_seconds, row.most_seconds);
}

/// Three significant digits: 0.0123, 1.05, 12.3.
std::string speed_up_cell(const Row& row) { return row.speed_up > 0 ? fmt::format("{:.3g}", row.speed_up) : "-"; }

/// What tells rows of one program and one number of nodes apart.
std::string choice_of(const Combination& what) {
  std::string text = what.protocol;
  if (!what.trap.empty()) text += ", " + what.trap;
  if (!what.granularity.empty()) text += ", units of " + what.granularity;
  return text;
}

/// The rows of a program and a number of nodes that are right, fastest first.
std::vector<const Row*> ranking(const std::vector<Row>& rows, std::size_t program, std::uint32_t nodes) {
  std::vector<const Row*> found;
  for (const Row& row : rows) {
    if (row.what.program == program && row.what.nodes == nodes && row.runs > 0 && row.right == row.runs && row.seconds > 0)
      found.push_back(&row);
  }
  std::stable_sort(found.begin(), found.end(), [](const Row* a, const Row* b) { return a->seconds < b->seconds; });
  return found;
}

/// "hlrc; within its spread: lrc, scope": whose runs overlap with those of the fastest cannot be told from it.
std::string best_of(const std::vector<const Row*>& ranked) {
  std::string text = choice_of(ranked.front()->what);
  std::string others;
  for (std::size_t i = 1; i < ranked.size(); ++i) {
    if (ranked[i]->least_seconds <= ranked.front()->most_seconds)
      others += fmt::format("{}{}", others.empty() ? "" : ", ", choice_of(ranked[i]->what));
  }
  return others.empty() ? text : text + "; not told apart from it by these runs: " + others;
}

}  // namespace

std::string to_table(const Options& options, const std::vector<Row>& rows) {
  std::vector<TextColumn> columns = {{"program", true, {}},      {"nodes", false, {}},       {"protocol", true, {}},
                                     {"trap", true, {}},         {"granularity", false, {}}, {"seconds", false, {}},
                                     {"min to max", false, {}},  {"speed-up", false, {}},    {"verified", true, {}},
                                     {"page faults", false, {}}, {"messages", false, {}},    {"bytes", false, {}}};
  for (const Row& row : rows) {
    const std::array<std::string, 12> cells = {join_command(options.programs[row.what.program]),
                                               std::to_string(row.what.nodes),
                                               row.what.protocol,
                                               row.what.trap,
                                               row.what.granularity,
                                               seconds_cell(row),
                                               range_cell(row),
                                               speed_up_cell(row),
                                               row.verdict.size() <= 40 ? row.verdict : row.verdict.substr(0, 37) + "...",
                                               grouped(row.page_faults),
                                               grouped(row.messages),
                                               scaled_bytes(row.bytes)};
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i].cells.push_back(cells[i]);
  }
  if (options.runs == 1) columns.erase(columns.begin() + 6);
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

std::string to_notes(const Options& options, const std::vector<Row>& rows, unsigned processors) {
  std::string notes;
  for (std::size_t program = 0; program < options.programs.size(); ++program) {
    for (const std::uint32_t nodes : options.nodes) {
      const auto ranked = ranking(rows, program, nodes);
      if (ranked.size() < 2) continue;
      const std::string of = options.programs.size() > 1 ? fmt::format(" of {}", join_command(options.programs[program])) : "";
      notes += fmt::format("fastest{} on {} node{}: {}\n", of, nodes, nodes == 1 ? "" : "s",
                           options.runs == 1 ? choice_of(ranked.front()->what) : best_of(ranked));
    }
  }
  if (options.runs == 1 && !notes.empty())
    notes += "one run each, so chance may have chosen: --runs 5 shows medians and how far runs lie apart\n";
  const std::uint32_t most = options.nodes.empty() ? 0 : *std::max_element(options.nodes.begin(), options.nodes.end());
  if (processors != 0 && most > processors) {
    notes += fmt::format(
        "{} nodes share {} processor{} here: such rows show that the answer is right and what travels, not how fast it would be; where "
        "nodes wait for "
        "each other\nthey wait for a processor, too\n",
        most, processors, processors == 1 ? "" : "s");
  }
  return notes;
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
