// Starting jobs of this program under netvmrun, and what passes between it and them: a table and lines of progress.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/common/job_host.hpp"
#include "apps/netvm-perf/options.hpp"

namespace netvm::perf {

/// Whether this process was started as a node of a job.
[[nodiscard]] bool inside_a_job();
/// This process's node, as netvmrun says; 0 outside.
[[nodiscard]] int node_of_environment();

/// A line on the terminal that says what is being measured. Nothing where standard error is no terminal.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(std::string_view text);
  void clear();

 private:
  bool on_;
  bool shown_ = false;
};

/// The other end, in the node that measures.
class ProgressPipe {
 public:
  explicit ProgressPipe(const std::string& path);
  ~ProgressPipe();
  ProgressPipe(const ProgressPipe&) = delete;
  ProgressPipe& operator=(const ProgressPipe&) = delete;
  void say(const std::string& text);

 private:
  int fd_ = -1;
};

/// One job to start.
struct JobPlan {
  int nodes = 2;
  std::vector<std::string> run_flags;  ///< for netvmrun
  std::vector<std::string> arguments;  ///< for this program
};

/// Runs this program as a job with --collect and --progress added, until it ends. Returns its exit status; what the measuring node
/// collected is in *collected. Throws std::runtime_error if it could not be started.
int run_job(const JobPlan& plan, const tools::TemporaryFolder& folder, ProgressLine& progress, std::string* collected);

}  // namespace netvm::perf
