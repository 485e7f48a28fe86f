#include "apps/netvm-perf/table.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

namespace netvm::perf {
namespace {

std::string cell_text(const Cell& cell, const Column& column) {
  if (const auto* number = std::get_if<double>(&cell)) return fmt::format("{:.{}f}", *number, column.digits);
  if (const auto* words = std::get_if<std::string>(&cell)) return *words;
  return "-";
}

nlohmann::json cell_json(const Cell& cell) {
  if (const auto* number = std::get_if<double>(&cell)) return *number;
  if (const auto* words = std::get_if<std::string>(&cell)) return *words;
  return nullptr;
}

Cell json_cell(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  return {};
}

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

nlohmann::json machine() {
  utsname system{};
  ::uname(&system);
  return {{"processor", processor_name()},
          {"processors", std::thread::hardware_concurrency()},
          {"kernel", std::string(system.sysname) + " " + system.release}};
}

}  // namespace

std::size_t Table::column(const std::string& key) const {
  const auto at = std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.key == key; });
  return static_cast<std::size_t>(at - columns.begin());
}

void Table::append(const Table& other) {
  rows.insert(rows.end(), other.rows.begin(), other.rows.end());
  for (const std::string& note : other.notes) {
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
  }
}

std::string to_text(const Table& table) {
  std::vector<std::string> lines(table.rows.size() + 1);
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    const Column& column = table.columns[c];
    if (!column.paper) continue;
    std::vector<std::string> cells = {column.title};
    for (const auto& row : table.rows) cells.push_back(cell_text(row[c], column));
    std::size_t width = 0;
    for (const std::string& cell : cells) width = std::max(width, cell.size());
    for (std::size_t line = 0; line < lines.size(); ++line) {
      if (!lines[line].empty()) lines[line] += "  ";
      lines[line] += column.left ? fmt::format("{:<{}}", cells[line], width) : fmt::format("{:>{}}", cells[line], width);
    }
  }
  std::string out = "# " + table.title + "\n";
  for (std::string& line : lines) {
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  for (const std::string& note : table.notes) out += "# " + note + "\n";
  return out;
}

std::string to_csv(const Table& table) {
  const auto quoted = [](const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    out += '"';
    return out;
  };
  std::string out;
  for (std::size_t c = 0; c < table.columns.size(); ++c) out += fmt::format("{}{}", c == 0 ? "" : ",", quoted(table.columns[c].key));
  out += "\n";
  for (const auto& row : table.rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (c > 0) out += ",";
      if (const auto* number = std::get_if<double>(&row[c])) out += fmt::format("{}", *number);
      if (const auto* words = std::get_if<std::string>(&row[c])) out += quoted(*words);
    }
    out += "\n";
  }
  return out;
}

std::string to_json(const Table& table) {
  nlohmann::json columns = nlohmann::json::array();
  for (const Column& c : table.columns) {
    columns.push_back({{"key", c.key}, {"title", c.title}, {"digits", c.digits}, {"left", c.left}, {"paper", c.paper}});
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& row : table.rows) {
    nlohmann::json object = nlohmann::json::object();
    for (std::size_t c = 0; c < row.size(); ++c) object[table.columns[c].key] = cell_json(row[c]);
    rows.push_back(std::move(object));
  }
  const nlohmann::json all = {{"title", table.title},
                              {"machine", machine()},
                              {"columns", columns},
                              {"rows", rows},
                              {"notes", table.notes},
                              {"plot",
                               {{"x", table.plot.x},
                                {"y", table.plot.y},
                                {"x_label", table.plot.x_label},
                                {"y_label", table.plot.y_label},
                                {"log_y", table.plot.log_y},
                                {"by", table.plot.by}}}};
  return all.dump(2) + "\n";
}

Table read_json(const std::string& text) {
  const nlohmann::json all = nlohmann::json::parse(text);
  Table table;
  all.at("title").get_to(table.title);
  all.at("notes").get_to(table.notes);
  for (const auto& c : all.at("columns")) {
    table.columns.push_back({c.at("key"), c.at("title"), c.at("digits"), c.at("left"), c.at("paper")});
  }
  for (const auto& row : all.at("rows")) {
    std::vector<Cell> cells;
    for (const Column& column : table.columns) cells.push_back(json_cell(row.at(column.key)));
    table.rows.push_back(std::move(cells));
  }
  const auto& plot = all.at("plot");
  table.plot = {plot.at("x"), plot.at("y"), plot.at("x_label"), plot.at("y_label"), plot.at("log_y"), plot.at("by")};
  return table;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes >= (1U << 20) && bytes % (1U << 20) == 0) return fmt::format("{}M", bytes >> 20);
  if (bytes >= 1024 && bytes % 1024 == 0) return fmt::format("{}K", bytes >> 10);
  return std::to_string(bytes);
}

}  // namespace netvm::perf
