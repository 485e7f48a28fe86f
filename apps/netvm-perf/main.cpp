// netvm-perf: measures NetVM, each figure beside its floor. Outside of a job it starts jobs of itself; inside, it measures.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <memory>

#include "apps/netvm-perf/basic.hpp"
#include "apps/netvm-perf/dsm.hpp"
#include "apps/netvm-perf/launch.hpp"
#include "apps/netvm-perf/measurements.hpp"
#include "apps/netvm-perf/plot.hpp"
#include "apps/netvm-perf/sync.hpp"
#include "apps/netvm-perf/table.hpp"
#include "apps/netvm-perf/thesis.hpp"
#include "apps/netvm-perf/thesis_table.hpp"

namespace netvm::perf {
namespace {

constexpr int kMissed = 3;  // exit status of --check

/// Writes a whole file, or says why not.
void write_file(const std::string& name, const std::string& text) {
  std::ofstream out(name, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw std::runtime_error(fmt::format("netvm-perf: cannot write {}: {}", name, std::strerror(errno)));
}

/// Finds out before a measurement of minutes that its result has nowhere to go.
void check_writable(const std::string& name) {
  if (name.empty()) return;
  if (!std::ofstream(name, std::ios::app))
    throw UsageError(fmt::format("netvm-perf: cannot write {}: {}\n", name, std::strerror(errno)), 2);
}

void print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0)
    throw std::runtime_error(fmt::format("netvm-perf: cannot write the table: {}", std::strerror(errno)));
}

/// The table for people, and in the forms that were asked for. Returns the exit status.
int present(const Options& options, Table table) {
  if (options.command == Command::thesis) finish_thesis_table(table);
  print(to_text(table));
  if (!options.json.empty()) write_file(options.json, to_json(table));
  if (!options.csv.empty()) write_file(options.csv, to_csv(table));
  if (!options.plot.empty()) draw(table, options.plot);
  if (!options.check || missed(table) == 0) return 0;
  fmt::print(stderr, "netvm-perf: {} figure(s) miss what they must reach\n", missed(table));
  return kMissed;
}

Table measure(Session& session) {
  switch (session.options().command) {
    case Command::thesis:
      return measure_thesis(session);
    case Command::latency:
      return measure_latency(session);
    case Command::bandwidth:
      return measure_bandwidth(session);
    case Command::message_rate:
      return measure_message_rate(session);
    case Command::atomics:
      return measure_atomics(session);
    case Command::notify:
      return measure_notify(session);
    case Command::faults:
      return measure_fault_ladder(session);
    default:
      return {};
  }
}

/// What this process measures is what netvmrun started.
void check_job(const Options& options, const Job& job, ShmMode mode) {
  const auto [a, b] = options.between;
  if (std::max(a, b) >= job.nodes()) {
    throw Error(fmt::format("netvm-perf: --between {} {}: this job has {} node{}{}", a, b, job.nodes(), job.nodes() == 1 ? "" : "s",
                            job.nodes() == 1 ? "; start it with netvmrun -n 2" : ""));
  }
  if (options.mode_given && options.mode != mode) {
    throw Error(fmt::format("netvm-perf: --mode {}: this job runs in the other; start it with netvmrun --shm {}",
                            options.mode == ShmMode::packet ? "packet" : "direct", options.mode == ShmMode::packet ? "packet" : "direct"));
  }
}

/// Their tables are rows of a figure and a floor; the other sub-commands' have columns of their own.
bool has_rows(Command command) { return command == Command::basic || command == Command::dsm || command == Command::sync; }

std::vector<Row> measure_rows(Job& job, const Options& options, FloorPartner* partner, ProgressPipe& progress) {
  if (options.command == Command::dsm) return measure_dsm(job, options, progress);
  if (options.command == Command::sync) return measure_sync(job, options, partner, progress);
  return measure_basic(job, options, partner, progress);
}

int run_rows_node(const Options& options) {
  ProgressPipe progress(options.progress);
  std::unique_ptr<FloorPartner> partner;  // forked before the job's threads
  if (node_of_environment() == 0 && options.command != Command::dsm) partner = std::make_unique<FloorPartner>();
  Job job(1);
  if (options.command != Command::basic && job.nodes() != 2) {
    throw Error(fmt::format("netvm-perf {}: it measures between two nodes; start it with netvmrun -n 2", name_of(options.command)));
  }
  const std::vector<Row> rows = measure_rows(job, options, partner.get(), progress);
  if (job.node() != 0) return 0;
  if (!options.collect.empty()) {
    write_file(options.collect, to_json(rows));
    return 0;
  }
  print_table(rows);
  if (!options.json.empty()) write_file(options.json, to_json(rows) + "\n");
  return 0;
}

int run_node(const Options& options) {
  ProgressPipe progress(options.progress);
  const std::size_t largest = options.command == Command::thesis ? kThesisLargest
                              : options.command == Command::faults
                                  ? std::max<std::size_t>(kLadderPages * kPageSize, options.sizes.back() + kPageSize)
                              : options.sizes.empty() ? kPageSize
                                                      : options.sizes.back();
  std::unique_ptr<FloorPartner> floor;  // forked before the job's threads
  if (node_of_environment() == options.between[0]) floor = std::make_unique<FloorPartner>(largest + 8);
  Job job(1);
  Table table;
  {
    check_job(options, job, detail::Runtime::current("netvm-perf").settings.shm_mode);
    Session session(job, options, largest, floor.get(), progress);
    if (session.takes_part()) table = measure(session);
    if (options.command == Command::thesis) add_figures_of_many(session, table);
    job.barrier();
  }
  if (job.node() != options.between[0]) return 0;
  if (options.collect.empty()) return present(options, table);
  write_file(options.collect, to_json(table));
  return 0;
}

/// Jobs of so many nodes, and their rows together.
int start_rows(const Options& options, const std::vector<std::string>& arguments) {
  const tools::TemporaryFolder folder("netvm-perf");
  ProgressLine progress(options.quiet);
  std::vector<Row> rows;
  for (const int nodes : options.command != Command::basic ? std::vector<int>{2} : std::vector<int>{2, 4}) {
    std::string collected;
    const int status = run_job({.nodes = nodes, .run_flags = {}, .arguments = arguments}, folder, progress, &collected);
    if (tools::interrupted() != 0) return 128 + tools::interrupted();
    if (status != 0) return status;
    for (Row& row : from_json(collected)) rows.push_back(std::move(row));
  }
  print_table(rows);
  if (!options.json.empty()) write_file(options.json, to_json(rows) + "\n");
  return 0;
}

/// A memory budget that the pages of the fault measurements do not fit.
constexpr const char* kFaultBudget = "8M";

/// Jobs of either mode, without and with a memory budget, and their rows together.
int start_thesis(const Options& options, const std::vector<std::string>& arguments) {
  const tools::TemporaryFolder folder("netvm-perf");
  ProgressLine progress(options.quiet);
  Table table = make_thesis_table();
  const JobPlan direct{.nodes = 2, .run_flags = {"--shm", "direct"}, .arguments = arguments};
  const JobPlan packet{.nodes = 2, .run_flags = {"--shm", "packet"}, .arguments = arguments};
  // Of two nodes: a third one that only sleeps would crowd two processors, and nobody who waits would spin.
  const JobPlan faults{.nodes = 2, .run_flags = {"--shm", "direct", "--memory", kFaultBudget}, .arguments = arguments};
  const JobPlan direct_faults{.nodes = 3, .run_flags = {"--shm", "direct", "--memory", kFaultBudget}, .arguments = arguments};
  const JobPlan packet_faults{.nodes = 3, .run_flags = {"--shm", "packet", "--memory", kFaultBudget}, .arguments = arguments};
  const auto any = [&](std::initializer_list<std::string_view> groups) {
    return std::any_of(groups.begin(), groups.end(), [&](std::string_view group) { return wants(options, group); });
  };
  std::vector<JobPlan> plans;
  if (any({"pinning", "dynamic", "minimum", "goodput", "sync", "notify"})) plans.push_back(direct);
  if (any({"minimum", "goodput"})) plans.push_back(packet);
  if (any({"faults"})) plans.push_back(faults);
  if (any({"peer"})) plans.insert(plans.end(), {direct_faults, packet_faults});
  for (const JobPlan& plan : plans) {
    std::string collected;
    const int status = run_job(plan, folder, progress, &collected);
    if (tools::interrupted() != 0) return 128 + tools::interrupted();
    if (status != 0) return status;
    table.append(read_json(collected));
  }
  if (wants(options, "simulated")) {
    progress.show("goodput on the simulated fabric");
    add_virtual_goodput(options, table);
  }
  progress.clear();
  return present(options, std::move(table));
}

int start(const Options& options, const std::vector<std::string>& arguments) {
  const tools::TemporaryFolder folder("netvm-perf");
  ProgressLine progress(options.quiet);
  JobPlan plan{.nodes = options.nodes, .run_flags = {}, .arguments = arguments};
  if (options.mode_given) plan.run_flags = {"--shm", options.mode == ShmMode::packet ? "packet" : "direct"};
  if (options.command == Command::faults) {
    const std::size_t large = 8 * options.sizes.back();  // both areas of each node stay where nothing is to be missing
    plan.run_flags.insert(plan.run_flags.end(), {"--memory", large <= 8U << 20 ? kFaultBudget : std::to_string(large)});
  }
  std::string collected;
  const int status = run_job(plan, folder, progress, &collected);
  if (tools::interrupted() != 0) return 128 + tools::interrupted();
  if (status != 0) return status;
  return present(options, read_json(collected));
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  const bool rows = has_rows(options.command);
  if (options.collect.empty() && (!inside_a_job() || node_of_environment() == (rows ? 0 : options.between[0]))) {
    for (const std::string& file : {options.json, options.csv, options.plot}) check_writable(file);
  }
  if (inside_a_job()) return rows ? run_rows_node(options) : run_node(options);
  tools::watch_signals();
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty() || arguments[0].starts_with('-')) arguments.insert(arguments.begin(), "basic");
  if (rows) return start_rows(options, arguments);
  return options.command == Command::thesis ? start_thesis(options, arguments) : start(options, arguments);
}

}  // namespace
}  // namespace netvm::perf

int main(int argc, char** argv) {
  try {
    return netvm::perf::run(argc, argv);
  } catch (const netvm::tools::UsageError& error) {
    std::fputs(error.what(), error.exit_status() == 0 ? stdout : stderr);
    return error.exit_status();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
