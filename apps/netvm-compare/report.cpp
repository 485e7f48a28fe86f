#include "apps/netvm-compare/report.hpp"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/netvm-compare/times.hpp"

namespace netvm::compare {
namespace {

using Json = nlohmann::ordered_json;

/// Sum of the named statistics; what a report lacks counts nothing.
std::uint64_t stats_sum(const Json& report, std::initializer_list<const char*> names) {
  std::uint64_t sum = 0;
  const auto stats = report.find("stats");
  if (stats == report.end() || !stats->is_object()) return 0;
  for (const char* name : names) {
    if (const auto value = stats->find(name); value != stats->end() && value->is_number()) sum += value->get<std::uint64_t>();
  }
  return sum;
}

std::string annotation(const Json& report, const char* name) {
  const auto all = report.find("annotations");
  if (all == report.end() || !all->is_object()) return {};
  const auto value = all->find(name);
  if (value == all->end()) return {};
  return value->is_string() ? value->get<std::string>() : value->dump();
}

double annotated_number(const Json& report, const char* name) { return std::strtod(annotation(report, name).c_str(), nullptr); }

Json describe(const Options& options, const Combination& what) {
  Json out;
  out["program"] = join_command(options.programs[what.program]);
  out["nodes"] = what.nodes;
  out["protocol"] = what.protocol;
  if (!what.trap.empty()) out["trap"] = what.trap;
  if (!what.granularity.empty()) out["granularity"] = what.granularity;
  return out;
}

/// What Run and Row have in common.
template <class Figures>
void add_figures(Json& out, const Figures& figures) {
  out["seconds"] = figures.seconds;
  out["timed_by_program"] = figures.timed_by_program;
  out["page_faults"] = figures.page_faults;
  out["messages"] = figures.messages;
  out["bytes"] = figures.bytes;
  out["stats"] = figures.stats;
}

}  // namespace

bool read_report(const std::string& text, Run& run) {
  const Json report = Json::parse(text, nullptr, false);
  if (!report.is_object()) return false;
  const double seconds = annotated_number(report, "seconds");
  run.timed_by_program = seconds > 0;
  run.seconds = run.timed_by_program ? seconds : report.value("seconds", 0.0);
  run.sequential_seconds = annotated_number(report, "sequential_seconds");
  run.verified = annotation(report, "verified");
  run.page_faults = stats_sum(report, {"read_faults", "write_faults"});
  run.messages = stats_sum(report, {"messages_sent", "one_sided_ops"});
  run.bytes = stats_sum(report, {"message_bytes", "one_sided_bytes"});
  run.thread_seconds = static_cast<double>(stats_sum(report, {"thread_ns"})) * 1e-9;
  if (const auto stats = report.find("stats"); stats != report.end() && stats->is_object()) {
    for (const auto& [name, value] : stats->items()) {
      if (value.is_number_unsigned()) run.stats[name] = value.get<std::uint64_t>();
    }
  }
  if (const auto outcome = report.find("outcome"); outcome != report.end() && outcome->is_string())
    run.trouble = outcome->get<std::string>();
  return true;
}

std::string to_json(const Options& options, const std::vector<Run>& runs, const std::vector<Row>& rows) {
  Json out;
  out["processors_of_machine"] = std::thread::hardware_concurrency();
  out["table"] = Json::array();
  for (const Row& row : rows) {
    Json line = describe(options, row.what);
    line["runs"] = row.runs;
    line["verified"] = row.verdict;
    if (row.speed_up > 0) line["speed_up"] = row.speed_up;
    line["least_seconds"] = row.least_seconds;
    line["most_seconds"] = row.most_seconds;
    add_figures(line, row);
    for (const Share& share : shares_of(row)) line["thread_seconds"][std::string(share.name)] = share.seconds;
    out["table"].push_back(std::move(line));
  }
  out["runs"] = Json::array();
  for (const Run& run : runs) {
    Json line = describe(options, run.what);
    line["finished"] = run.finished;
    if (!run.finished) line["trouble"] = run.trouble;
    line["verified"] = run.verified;
    if (run.sequential_seconds > 0) line["sequential_seconds"] = run.sequential_seconds;
    add_figures(line, run);
    out["runs"].push_back(std::move(line));
  }
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace netvm::compare
