// From the command line to a job and from a result to a report: what the kernels have in common and is not computing.
//
// 1. A message that concerns the whole job is printed by node 0 alone.
// 2. All nodes return the same exit status: 0 right, 1 wrong answer or a failure on the way, 2 a command line that cannot be obeyed.
#pragma once

#include <netvm/netvm.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "apps/splash2/common/options.hpp"

namespace splash2 {

/// Flags that every kernel has.
struct CommonOptions {
  std::int64_t processors = 0;  ///< 0: all threads of the job
  bool timing = false;
  bool print = false;
  std::string verify = "reference";
  std::int64_t sequential_runs = 3;

  explicit CommonOptions(WholeRange processor_range = {1, 4096}) : processor_range_(processor_range) {}
  void add_to(Options& options);
  [[nodiscard]] bool powers_of_two() const { return processor_range_.power_of_two; }
  [[nodiscard]] bool verify_self() const { return verify != "none"; }
  [[nodiscard]] bool verify_reference() const { return verify == "reference"; }

 private:
  WholeRange processor_range_;
};

/// Joins the job with as many threads a node as make `-p` processors. Throws UsageError, or Refused once joined, if the nodes cannot share
/// them evenly, or if the number of processors (given or not) is more than `most` or not of the options' kind.
std::unique_ptr<netvm::Job> join(const std::string& program, const CommonOptions& options, std::int64_t most);

/// Throws Refused if the job's protocol promises less than the program relies on: node 0 says which ones do. Collective.
void require(const std::string& program, netvm::Job& job, netvm::Consistency needs);

/// The job cannot be used as asked; node 0 has said why.
struct Refused : std::runtime_error {
  Refused() : std::runtime_error("the job does not fit the problem") {}
};

/// Runs a kernel's body and turns what it throws into a message and an exit status.
int run_kernel(const std::string& program, const std::function<int()>& body);

/// What one processor spent in the timed section, and in the part of it that the kernel names.
struct ProcessorTime {
  double total = 0;
  double part = 0;
};

/// Times of all processors, in shared memory: each sets its own inside parallel(), node 0 reads them after.
class ProcessorTimes {
 public:
  ProcessorTimes(netvm::Job& job, std::string part_name);
  void set(const netvm::Thread& me, ProcessorTime time) { times_[me.rank()] = time; }
  /// The slowest processor's time: the kernel's.
  [[nodiscard]] double seconds() const;
  /// The table that -s asks for.
  void print() const;

 private:
  ProcessorTime* times_;
  int processors_;
  std::string part_name_;
};

/// One way in which the answer was checked.
struct Check {
  std::string name;
  bool passed = false;
  std::string detail;  ///< a measured error, a count, or what is wrong
};

/// What node 0 knows at the end. Other nodes hand in anything.
struct Outcome {
  double seconds = 0;
  double sequential_seconds = 0;  ///< 0: not measured
  std::vector<Check> checks;
};

/// Annotates the job's report, prints the summary on node 0, and returns the exit status of all nodes. Collective.
int finish(netvm::Job& job, const std::string& program, const Outcome& outcome);

/// Seconds since some moment.
double clock_seconds();

/// The middle one of at least one number.
double median(std::vector<double> numbers);

/// Runs prepare and f `runs` times and returns the median of f's durations in seconds.
double median_seconds(std::int64_t runs, const std::function<void()>& prepare, const std::function<void()>& f);

}  // namespace splash2
