#include "runtime/job_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/job_wire.hpp"

namespace netvm::job {
namespace {

using Json = nlohmann::ordered_json;  // statistics appear in the order in which the nodes give them

constexpr std::size_t kMaxNodeColumns = 8;   // a table for more nodes shows least and greatest instead
constexpr std::size_t kMaxAllocations = 20;  // rows of their table: those that waited longest

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

/// What `stats` (an object of names and integers) says, added to the rows: in a column of its own, together with what is there.
void add_stats(const Json& stats, std::size_t column, std::size_t columns, std::vector<Row>& rows) {
  if (!stats.is_object()) return;
  for (const auto& [name, value] : stats.items()) {
    if (!value.is_number_integer()) continue;
    auto row = std::find_if(rows.begin(), rows.end(), [&name = name](const Row& r) { return r.name == name; });
    if (row == rows.end()) {
      rows.push_back({name, std::vector<std::int64_t>(columns), std::vector<bool>(columns)});
      row = rows.end() - 1;
    }
    row->values[column] += value.get<std::int64_t>();
    row->known[column] = true;
  }
}

const Json& member(const Json& object, const char* name) {
  static const Json kNothing;
  const bool has = object.is_object() && object.contains(name);
  return has ? object[name] : kNothing;
}

std::vector<Row> stat_rows(const std::vector<Json>& nodes) {
  std::vector<Row> rows;
  for (std::size_t node = 0; node < nodes.size(); ++node) add_stats(member(nodes[node], "stats"), node, nodes.size(), rows);
  return rows;
}

/// The protocols that some node used, by name, and what they did on all nodes together.
struct ByProtocol {
  std::vector<std::string> names;
  std::vector<Row> rows;
};

ByProtocol by_protocol(const std::vector<Json>& nodes) {
  std::map<std::string, Json> empty;
  for (const Json& node : nodes) {
    for (const auto& [name, report] : member(node, "protocols").items()) empty.emplace(name, Json());
  }
  ByProtocol all;
  all.names.reserve(empty.size());
  for (const auto& [name, report] : empty) all.names.push_back(name);
  for (const Json& node : nodes) {
    for (std::size_t i = 0; i < all.names.size(); ++i) {
      const Json& report = member(member(node, "protocols"), all.names[i].c_str());
      add_stats(member(report, "stats"), i, all.names.size(), all.rows);
      const Json& peak = member(report, "peak_bytes");
      if (!peak.is_null()) add_stats({{"peak_bytes", peak}}, i, all.names.size(), all.rows);
    }
  }
  return all;
}

/// The allocations that are left at the end, and for each protocol what was freed: as the nodes describe them, with the sums over the nodes.
std::vector<Json> merged_regions(const std::vector<Json>& nodes) {
  std::map<std::pair<std::uint64_t, std::string>, Json> regions;  // freed ones, which have no place, before the others
  for (const Json& node : nodes) {
    for (const Json& region : member(node, "regions")) {
      if (!member(region, "offset").is_number_integer() || !member(region, "protocol").is_string()) continue;
      const auto [at, fresh] = regions.try_emplace({region["offset"].get<std::uint64_t>(), region["protocol"].get<std::string>()}, region);
      if (fresh) continue;
      for (const auto& [name, value] : member(region, "stats").items()) {
        Json& sum = at->second["stats"][name];
        if (value.is_number_integer()) sum = (sum.is_number_integer() ? sum.get<std::int64_t>() : 0) + value.get<std::int64_t>();
      }
    }
  }
  std::vector<Json> all;
  all.reserve(regions.size());
  for (auto& [place, region] : regions) all.push_back(std::move(region));
  return all;
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

using Table = std::vector<std::vector<std::string>>;

/// The first `left` columns begin, the others end at the same place in each line.
std::string render(const Table& table, std::size_t left) {
  std::vector<std::size_t> widths(table[0].size());
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i != 0) text += "  ";
      text += i < left ? fmt::format("{:<{}}", row[i], widths[i]) : fmt::format("{:>{}}", row[i], widths[i]);
    }
    text += '\n';
  }
  return text;
}

bool all_zero(const Row& row) {
  return std::all_of(row.values.begin(), row.values.end(), [](std::int64_t v) { return v == 0; });
}

std::string node_table(const std::vector<Json>& nodes) {
  const bool by_node = nodes.size() <= kMaxNodeColumns;
  Table table(1, {"statistic"});
  if (by_node) {
    for (std::size_t node = 0; node < nodes.size(); ++node) table[0].push_back(fmt::format("node {}", node));
  } else {
    table[0].insert(table[0].end(), {"least of a node", "greatest of a node"});
  }
  table[0].emplace_back("total");
  for (const Row& row : stat_rows(nodes)) {
    if (all_zero(row)) continue;
    table.push_back(cells(row, by_node));
    table.back().insert(table.back().begin(), row.name);
  }
  return table.size() == 1 ? std::string() : render(table, 1);
}

std::string protocol_table(const std::vector<Json>& nodes) {
  const ByProtocol all = by_protocol(nodes);
  if (all.names.empty()) return {};
  Table table(1, {"of protocol, all nodes"});
  table[0].insert(table[0].end(), all.names.begin(), all.names.end());
  for (const Row& row : all.rows) {
    if (all_zero(row)) continue;
    table.push_back({row.name});
    for (const std::int64_t value : row.values) table.back().push_back(grouped(value));
  }
  return "\n" + render(table, 1);
}

std::string allocation_table(const std::vector<Json>& nodes) {
  constexpr std::array kShown{"fault_ns", "read_faults", "write_faults", "pages_fetched", "invalidations", "data_bytes"};
  const auto count_of = [](const Json& region, const char* stat) {
    const Json& value = member(member(region, "stats"), stat);
    return value.is_number_integer() ? value.get<std::int64_t>() : std::int64_t{0};
  };
  std::vector<Json> regions = merged_regions(nodes);
  if (regions.empty()) return {};
  std::stable_sort(regions.begin(), regions.end(),
                   [&](const Json& a, const Json& b) { return count_of(a, "fault_ns") > count_of(b, "fault_ns"); });
  Table table(1, {"allocation, all nodes", "address", "protocol", "bytes"});
  table[0].insert(table[0].end(), kShown.begin(), kShown.end());
  for (std::size_t i = 0; i < std::min(regions.size(), kMaxAllocations); ++i) {
    const Json& region = regions[i];
    const std::int64_t bytes = region.value("bytes", std::int64_t{0});
    const std::string name = region.value("name", std::string());
    const std::string called = bytes == 0                             ? "(freed)"
                               : region.value("small_objects", false) ? "(small objects)"
                               : name.empty()                         ? "-"
                                                                      : name;
    table.push_back({called, region.value("address", std::string("-")), region.value("protocol", std::string("-")), grouped(bytes)});
    for (const char* const stat : kShown) table.back().push_back(grouped(count_of(region, stat)));
  }
  std::string text = "\n" + render(table, 3);
  if (regions.size() > kMaxAllocations)
    text += fmt::format("and {} more that waited less: netvmrun --report FILE has all\n", regions.size() - kMaxAllocations);
  return text;
}

}  // namespace

std::string format_stats(std::span<const std::string> reports) {
  const auto nodes = parse_all(reports);
  const std::string table = node_table(nodes);
  if (table.empty()) return "statistics: none; no node of the job reported any\n" + annotation_lines(nodes);
  return table + protocol_table(nodes) + allocation_table(nodes) + "\nwhat the names mean: docs/statistics.md\n" + annotation_lines(nodes);
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
  out["protocols"] = Json::object();
  const ByProtocol protocols = by_protocol(nodes);
  for (std::size_t i = 0; i < protocols.names.size(); ++i) {
    Json& of = out["protocols"][protocols.names[i]];
    for (const Row& row : protocols.rows) (row.name == "peak_bytes" ? of["peak_bytes"] : of["stats"][row.name]) = row.values[i];
  }
  out["regions"] = merged_regions(nodes);
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
