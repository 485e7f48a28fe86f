#include "apps/netvm-compare/results.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace netvm::compare {
namespace {

template <class T>
T median(std::vector<T> values) {
  if (values.empty()) return T{};
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

bool same(const Combination& a, const Combination& b) {
  return a.program == b.program && a.nodes == b.nodes && a.protocol == b.protocol && a.trap == b.trap && a.granularity == b.granularity;
}

/// Of all runs of a program: the sequential run does not depend on nodes or protocol.
double sequential_median(const std::vector<Run>& runs, std::size_t program) {
  std::vector<double> times;
  for (const Run& run : runs) {
    if (run.what.program == program && run.sequential_seconds > 0) times.push_back(run.sequential_seconds);
  }
  return median(std::move(times));
}

std::string verdict_of(const Run& run) {
  if (!run.finished) return "failed: " + run.trouble;
  return run.verified.empty() ? "not checked" : run.verified;
}

Row summarise_one(const Combination& what, const std::vector<Run>& runs) {
  Row row;
  row.what = what;
  std::vector<double> seconds;
  std::vector<double> thread_seconds;
  std::vector<std::uint64_t> faults;
  std::vector<std::uint64_t> messages;
  std::vector<std::uint64_t> bytes;
  std::map<std::string, std::vector<std::uint64_t>> stats;
  for (const Run& run : runs) {
    if (!same(run.what, what)) continue;
    ++row.runs;
    row.right += run.right() ? 1 : 0;
    if (row.verdict.empty() || (row.verdict == "yes" && !run.right())) row.verdict = verdict_of(run);
    if (!run.finished) continue;  // what it did until then compares with nothing
    row.timed_by_program = run.timed_by_program;
    seconds.push_back(run.seconds);
    thread_seconds.push_back(run.thread_seconds);
    faults.push_back(run.page_faults);
    messages.push_back(run.messages);
    bytes.push_back(run.bytes);
    for (const auto& [name, value] : run.stats) stats[name].push_back(value);
  }
  if (row.runs > 1 && row.right > 0 && row.right < row.runs) row.verdict = fmt::format("{} of {}, {}", row.right, row.runs, row.verdict);
  if (!seconds.empty()) {
    const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
    row.least_seconds = *least;
    row.most_seconds = *most;
  }
  row.seconds = median(std::move(seconds));
  row.thread_seconds = median(std::move(thread_seconds));
  row.page_faults = median(std::move(faults));
  row.messages = median(std::move(messages));
  row.bytes = median(std::move(bytes));
  for (auto& [name, values] : stats) row.stats[name] = median(std::move(values));
  if (const double sequential = sequential_median(runs, what.program); row.timed_by_program && row.seconds > 0) {
    row.speed_up = sequential / row.seconds;
  }
  return row;
}

}  // namespace

std::vector<Combination> combinations(const Options& options) {
  const std::vector<std::string> traps = options.traps.empty() ? std::vector<std::string>{""} : options.traps;
  const std::vector<std::string> granularities = options.granularities.empty() ? std::vector<std::string>{""} : options.granularities;
  std::vector<Combination> all;
  for (std::size_t program = 0; program < options.programs.size(); ++program) {
    for (const std::string& protocol : options.protocols) {
      for (const std::string& trap : traps) {
        for (const std::string& granularity : granularities) {
          for (const std::uint32_t nodes : options.nodes) all.push_back({program, nodes, protocol, trap, granularity});
        }
      }
    }
  }
  return all;
}

std::vector<Row> summarise(const Options& options, const std::vector<Run>& runs) {
  std::vector<Row> rows;
  for (const Combination& what : combinations(options)) rows.push_back(summarise_one(what, runs));
  return rows;
}

}  // namespace netvm::compare
