// netvm-compare: one table of programs, numbers of nodes and protocols. See --help.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <set>
#include <system_error>
#include <thread>

#include "apps/common/gnuplot.hpp"
#include "apps/netvm-compare/options.hpp"
#include "apps/netvm-compare/report.hpp"
#include "apps/netvm-compare/runner.hpp"
#include "apps/netvm-compare/table.hpp"
#include "apps/netvm-compare/times.hpp"

namespace netvm::compare {
namespace {

/// All runs, the combinations taking turns. Ends early when a signal came, and after a turn when there is no time for another.
std::vector<Run> run_all(const Options& options, const Runner& runner) {
  using Clock = std::chrono::steady_clock;
  using Minutes = std::chrono::duration<double, std::ratio<60>>;
  const Clock::time_point begin = Clock::now();
  const std::vector<Combination> all = combinations(options);
  Progress progress(all.size() * options.runs, options.quiet);
  std::vector<Run> runs;
  for (std::uint32_t turn = 0; turn < options.runs; ++turn) {
    const double a_turn = turn == 0 ? 0 : Minutes(Clock::now() - begin).count() / turn;
    if (options.minutes > 0 && a_turn * (turn + 1) > options.minutes) break;
    for (const Combination& what : all) {
      if (tools::interrupted() != 0) return runs;
      progress.next(
          fmt::format("{} on {} nodes, {} {}", join_command(options.programs[what.program]), what.nodes, what.protocol, what.trap));
      runs.push_back(runner.run(what));
    }
  }
  return runs;
}

/// Each wrong combination once: the command that repeats it, and what it said.
void print_troubles(const Runner& runner, const std::vector<Run>& runs) {
  std::set<std::string> said;
  for (const Run& run : runs) {
    if (run.right()) continue;
    const std::string command = runner.command_line(run.what);
    if (!said.insert(command).second) continue;
    fmt::print(stderr, "\n{}: {}\n  again with: {}\n", run.finished ? "not verified" : "failed",
               run.finished ? (run.verified.empty() ? "the program does not say (\"verified\")" : run.verified) : run.trouble, command);
    if (!run.output_tail.empty()) fmt::print(stderr, "{}\n", run.output_tail);
  }
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  std::ofstream json;
  if (!options.json.empty()) {
    json.open(options.json);
    if (!json) throw UsageError(fmt::format("netvm-compare: --json {}: cannot be written\n", options.json), 2);
  }
  const tools::TemporaryFolder folder("netvm-compare");
  const Runner runner(options, find_netvmrun(options), folder);
  tools::watch_signals();
  runner.check_flags();
  const std::vector<Run> runs = run_all(options, runner);
  if (const int number = tools::interrupted(); number != 0) return 128 + number;

  const std::vector<Row> rows = summarise(options, runs);
  fmt::print("{}", to_table(options, rows));
  if (const std::string notes = to_notes(options, rows, std::thread::hardware_concurrency()); !notes.empty()) fmt::print("\n{}", notes);
  if (options.times) fmt::print("\n{}", to_times_table(options, rows));
  std::fflush(stdout);
  if (!options.plot.empty()) tools::run_gnuplot(times_script(options, rows, options.plot), options.plot);
  if (json.is_open()) {
    json << to_json(options, runs, rows);
    json.close();
    if (!json) throw std::runtime_error("writing " + options.json + " failed");
  }
  print_troubles(runner, runs);
  return std::all_of(runs.begin(), runs.end(), [](const Run& one) { return one.right(); }) ? 0 : 1;
}

}  // namespace
}  // namespace netvm::compare

int main(int argc, char** argv) {
  try {
    return netvm::compare::run(argc, argv);
  } catch (const netvm::tools::UsageError& error) {
    std::fputs(error.what(), error.exit_status() == 0 ? stdout : stderr);
    return error.exit_status();
  } catch (const std::exception& error) {
    fmt::print(stderr, "netvm-compare: {}\n", error.what());
    return 1;
  }
}
