#include "runtime/job_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/job_wire.hpp"

namespace netvm::job {
namespace {

using Json = nlohmann::ordered_json;  // statistics appear in the order in which the nodes give them

constexpr std::size_t kMaxNodeColumns = 8;  // a table for more nodes shows least and greatest instead

Json parse(const std::string& report) {
  Json json = Json::parse(report, nullptr, false);
  return json.is_object() ? json : Json();
}

std::vector<Json> parse_all(std::span<const std::string> reports) {
  std::vector<Json> all;
  for (const std::string& report : reports) all.push_back(parse(report));
  return all;
}

/// One row: a statistic's values, of the nodes that have it.
struct Row {
  std::string name;
  std::vector<std::int64_t> values;
  std::vector<bool> known;
  [[nodiscard]] std::int64_t total() const {
    std::int64_t sum = 0;
    for (const std::int64_t v : values) sum += v;
    return sum;
  }
};

std::vector<Row> stat_rows(const std::vector<Json>& nodes) {
  std::vector<Row> rows;
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    if (!nodes[node].is_object() || !nodes[node].contains("stats") || !nodes[node]["stats"].is_object()) continue;
    for (const auto& [name, value] : nodes[node]["stats"].items()) {
      if (!value.is_number_integer()) continue;
      auto row = std::find_if(rows.begin(), rows.end(), [&name = name](const Row& r) { return r.name == name; });
      if (row == rows.end()) {
        rows.push_back({name, std::vector<std::int64_t>(nodes.size()), std::vector<bool>(nodes.size())});
        row = rows.end() - 1;
      }
      row->values[node] = value.get<std::int64_t>();
      row->known[node] = true;
    }
  }
  return rows;
}

/// 1234567 -> 1'234'567
std::string grouped(std::int64_t value) {
  const std::string digits = std::to_string(value);
  const std::size_t sign = value < 0 ? 1 : 0;
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > sign && (digits.size() - i) % 3 == 0) text += '\'';
    text += digits[i];
  }
  return text;
}

std::vector<std::string> cells(const Row& row, bool by_node) {
  std::vector<std::string> out;
  if (by_node) {
    for (std::size_t node = 0; node < row.values.size(); ++node) out.push_back(row.known[node] ? grouped(row.values[node]) : "-");
  } else {
    const auto [least, greatest] = std::minmax_element(row.values.begin(), row.values.end());
    out = {grouped(*least), grouped(*greatest)};
  }
  out.push_back(grouped(row.total()));
  return out;
}

std::string annotation_lines(const std::vector<Json>& nodes) {
  std::string text;
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    if (!nodes[node].is_object() || !nodes[node].contains("annotations") || !nodes[node]["annotations"].is_object()) continue;
    for (const auto& [name, value] : nodes[node]["annotations"].items()) {
      text += fmt::format("{} = {} (node {})\n", name, value.is_string() ? value.get<std::string>() : value.dump(), node);
    }
  }
  return text;
}

}  // namespace

std::string format_stats(std::span<const std::string> reports) {
  const auto nodes = parse_all(reports);
  const bool by_node = nodes.size() <= kMaxNodeColumns;
  std::vector<std::vector<std::string>> table(1, {"statistic"});
  if (by_node) {
    for (std::size_t node = 0; node < nodes.size(); ++node) table[0].push_back(fmt::format("node {}", node));
  } else {
    table[0].insert(table[0].end(), {"least of a node", "greatest of a node"});
  }
  table[0].emplace_back("total");
  for (const Row& row : stat_rows(nodes)) {
    if (std::all_of(row.values.begin(), row.values.end(), [](std::int64_t v) { return v == 0; })) continue;
    table.push_back(cells(row, by_node));
    table.back().insert(table.back().begin(), row.name);
  }
  if (table.size() == 1) return "statistics: none; no node of the job reported any\n" + annotation_lines(nodes);
  std::vector<std::size_t> widths(table[0].size());
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : table) {
    text += fmt::format("{:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i < row.size(); ++i) text += fmt::format("  {:>{}}", row[i], widths[i]);
    text += '\n';
  }
  return text + annotation_lines(nodes);
}

std::string merge_reports(const JobSummary& summary, std::span<const std::string> reports) {
  const auto nodes = parse_all(reports);
  Json out;
  out["netvm"] = std::string(kLibraryVersion);
  out["program"] = summary.program;
  out["arguments"] = summary.arguments;
  out["nodes"] = summary.nodes;
  out["exit_status"] = summary.exit_status;
  out["outcome"] = summary.outcome;
  out["seconds"] = summary.seconds;
  out["settings"] = Json::object();
  for (const auto& [name, value] : summary.settings) out["settings"][name] = value;
  out["stats"] = Json::object();
  for (const Row& row : stat_rows(nodes)) out["stats"][row.name] = row.total();
  out["annotations"] = Json::object();
  for (const Json& node : nodes) {  // the first node that says something is believed; each node's own are under "node"
    if (!node.is_object() || !node.contains("annotations") || !node["annotations"].is_object()) continue;
    for (const auto& [name, value] : node["annotations"].items()) {
      if (!out["annotations"].contains(name)) out["annotations"][name] = value;
    }
  }
  out["node"] = nodes;
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace netvm::job
