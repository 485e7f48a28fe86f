#include "apps/splash2/common/job.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "apps/splash2/common/partition.hpp"

namespace splash2 {

namespace {

/// How many nodes the job has that this process is about to join: netvmrun says so in the environment.
int nodes_to_be() {
  const char* text = std::getenv("NETVM_NODES");
  if (text == nullptr || std::getenv("NETVM_RENDEZVOUS") == nullptr) return 1;
  const std::string_view view = text;
  int nodes = 0;
  const auto [stop, error] = std::from_chars(view.data(), view.data() + view.size(), nodes);
  return error == std::errc{} && nodes > 0 ? nodes : 1;
}

/// Prints once for the whole job what stopped every node of it before it joined.
void print_once(const UsageError& error) {
  const netvm::Job job;
  if (job.node() != 0) return;
  std::fputs(error.what(), error.exit_status() == 0 ? stdout : stderr);
  std::fflush(error.exit_status() == 0 ? stdout : stderr);
}

}  // namespace

void CommonOptions::add_to(Options& options) {
  options.whole("-p", processors, processor_range_, "P",
                "Processors: threads over all nodes together. Default: all threads of the job (nodes x threads a node).");
  options.on("-s", timing, "Print each processor's time.");
  options.on("-o", print, "Print the result.");
  options.choice("--verify", verify, {"reference", "self", "none"},
                 "What checks the answer: a sequential run in private memory and the kernel's own test, that test alone, or nothing.");
  options.whole("--sequential-runs", sequential_runs, {1, 1000}, "N", "Time the sequential run N times and report the median.");
}

std::unique_ptr<netvm::Job> join(const std::string& program, const CommonOptions& options, std::int64_t most) {
  const auto wanted = static_cast<int>(options.processors);
  const int nodes = nodes_to_be();
  if (wanted % nodes != 0) {
    throw UsageError(
        fmt::format("{}: -p {}: {} nodes cannot share {} processors evenly; give -p a multiple of {}, or netvmrun another -n.\n", program,
                    wanted, nodes, wanted, nodes),
        2);
  }
  auto job = std::make_unique<netvm::Job>(wanted / nodes);
  const int have = job->nodes() * job->threads_per_node();
  std::string wrong;
  if (wanted != 0 && wanted != have) {
    wrong = fmt::format("{}: -p {}: this job has {} nodes with {} threads each, {} processors; leave -p out or start the job with netvmrun",
                        program, wanted, job->nodes(), job->threads_per_node(), have);
  } else if (have > most || (options.powers_of_two() && (have & (have - 1)) != 0)) {
    wrong = fmt::format(
        "{}: {} processors ({} nodes with {} threads each) do not fit: this problem needs {}at most {}; change -p, or netvmrun's -n",
        program, have, job->nodes(), job->threads_per_node(), options.powers_of_two() ? "a power of two, " : "", most);
  }
  if (wrong.empty()) return job;
  if (job->node() == 0) std::fputs((wrong + ".\n").c_str(), stderr);
  job->barrier();  // the first node that leaves ends the job: it has been said by then
  throw Refused();
}

void require(const std::string& program, netvm::Job& job, netvm::Consistency needs) {
  std::string wrong;
  try {
    job.free(job.allocate<std::byte>(1, {.needs = needs}));
  } catch (const netvm::Error& error) {
    wrong = error.what();
  }
  if (!wrong.empty() && job.node() == 0) std::fputs(fmt::format("{}: {}\n", program, wrong).c_str(), stderr);
  job.barrier();  // the first node that leaves ends the job: it has been said by then
  if (!wrong.empty()) throw Refused();
}

int run_kernel(const std::string& program, const std::function<int()>& body) {
  try {
    try {
      return body();
    } catch (const UsageError& error) {
      print_once(error);
      return error.exit_status();
    }
  } catch (const Refused&) {
    return 2;
  } catch (const std::exception& error) {
    std::fputs(fmt::format("{}: {}\n", program, error.what()).c_str(), stderr);
    return 1;
  }
}

ProcessorTimes::ProcessorTimes(netvm::Job& job, std::string part_name)
    : times_(job.allocate_all<ProcessorTime>(static_cast<std::size_t>(job.nodes()) * static_cast<std::size_t>(job.threads_per_node()))),
      processors_(job.nodes() * job.threads_per_node()),
      part_name_(std::move(part_name)) {}

double ProcessorTimes::seconds() const {
  double slowest = 0;
  for (int p = 0; p < processors_; ++p) slowest = std::max(slowest, times_[p].total);
  return slowest;
}

void ProcessorTimes::print() const {
  fmt::print("  processor      total  {:>12}   share\n", part_name_);
  for (int p = 0; p < processors_; ++p) {
    const ProcessorTime time = times_[p];
    fmt::print("  {:>9} {:>10.6f}  {:>12.6f}  {:>5.1f}%\n", p, time.total, time.part, time.total > 0 ? 100 * time.part / time.total : 0);
  }
}

int finish(netvm::Job& job, const std::string& program, const Outcome& outcome) {
  auto* passed = job.allocate_all<std::int32_t>();
  if (job.node() == 0) {
    std::string wrong;
    for (const Check& check : outcome.checks) {
      if (!check.passed && wrong.empty()) wrong = fmt::format("{}: {}", check.name, check.detail);
    }
    const std::string verdict = outcome.checks.empty() ? "not checked" : wrong.empty() ? "yes" : "no: " + wrong;
    fmt::print("{}: {} processors on {} nodes, {}: {:.6f} s", program, job.nodes() * job.threads_per_node(), job.nodes(), job.protocol(),
               outcome.seconds);
    if (outcome.sequential_seconds > 0) {
      fmt::print("; sequential {:.6f} s, speed-up {:.2f}", outcome.sequential_seconds, outcome.sequential_seconds / outcome.seconds);
      job.annotate("sequential_seconds", outcome.sequential_seconds);
    }
    fmt::print("; verified: {}\n", verdict);
    for (const Check& check : outcome.checks) fmt::print("  {} {}: {}\n", check.passed ? "right" : "WRONG", check.name, check.detail);
    std::fflush(stdout);
    job.annotate("program", program);
    job.annotate("seconds", outcome.seconds);
    job.annotate("verified", verdict);
    *passed = wrong.empty() ? 1 : 0;
  }
  job.barrier();
  return *passed == 1 ? 0 : 1;
}

double clock_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

double median_seconds(std::int64_t runs, const std::function<void()>& prepare, const std::function<void()>& f) {
  std::vector<double> times;
  for (std::int64_t run = 0; run < runs; ++run) {
    prepare();
    const double start = clock_seconds();
    f();
    times.push_back(clock_seconds() - start);
  }
  return median(std::move(times));
}

}  // namespace splash2
