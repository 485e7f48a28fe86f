// Harness of the command line tests: runs a program as a user's shell would, with a deadline, and looks for what it left behind.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace netvm::cli {

/// What a finished program did.
struct Ended {
  int status = -1;  ///< as a shell has it: exit status, or 128 + signal; -1: it did not end in time and was killed
  std::string out;
  std::string err;
  double seconds = 0;
};

struct Start {
  std::vector<std::string> command = {};
  std::string input = {};                                             ///< for its standard input, which ends after it
  std::string directory = {};                                         ///< to start in; empty: here
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< in addition to ours
  bool closed_output = false;                                         ///< nobody reads its standard output
  std::string output_file = {};                                       ///< its standard output goes here, and not to Ended::out
};

/// A running program. Everything started below it carries a mark in its environment by which survivors are found.
class Running {
 public:
  explicit Running(const Start& start);
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  /// Kills whatever is left.
  ~Running();

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Reads until the standard output holds the text; false after 10 s or at the program's end.
  bool wait_for_output(const std::string& text);
  /// Waits for its end, 20 s at the most.
  Ended wait();
  /// Processes that carry the mark and are still there after `patience`.
  [[nodiscard]] std::vector<pid_t> survivors(std::chrono::milliseconds patience) const;

 private:
  void read_available(int wait_ms);
  std::string mark_;
  pid_t pid_ = -1;
  bool reaped_ = false;
  UniqueFd out_;
  UniqueFd err_;
  Ended ended_;
  std::chrono::steady_clock::time_point started_;
};

/// netvmrun with these arguments, to its end; checks that no process of it survives and that no file of a job lies in /dev/shm.
Ended netvmrun(const std::vector<std::string>& arguments, Start start = {});
/// The path of netvmrun, then the arguments.
std::vector<std::string> netvmrun_command(const std::vector<std::string>& arguments);
/// The path of the actor: the test program whose first argument says what it does.
std::string actor();
/// Names in /dev/shm that look like ours.
std::vector<std::string> shared_files();

[[nodiscard]] bool contains(const std::string& text, const std::string& part);
/// Lines of the text, sorted.
[[nodiscard]] std::vector<std::string> sorted_lines(const std::string& text);

}  // namespace netvm::cli
