// Running one combination under netvmrun.
#pragma once

#include <string>

#include "apps/netvm-compare/results.hpp"

namespace netvm::compare {

/// A folder of its own for reports and output; gone with the object.
class TemporaryFolder {
 public:
  /// Under TMPDIR, or /tmp. Throws std::system_error.
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Path of the netvmrun to use. Throws UsageError.
[[nodiscard]] std::string find_netvmrun(const Options& options);

/// From here on, SIGINT, SIGTERM and SIGHUP are left to netvmrun, which ends its job; interrupted() then tells.
void watch_signals();
/// The number of the signal that came, or 0.
[[nodiscard]] int interrupted();

class Runner {
 public:
  Runner(const Options& options, std::string netvmrun, const TemporaryFolder& folder)
      : options_(options), netvmrun_(std::move(netvmrun)), folder_(folder) {}

  /// Runs it once and waits. Never throws on a program that fails: the Run says so.
  [[nodiscard]] Run run(const Combination& what) const;
  /// The command, without the report.
  [[nodiscard]] std::string command_line(const Combination& what) const { return join_command(command(what, "")); }

 private:
  [[nodiscard]] Command command(const Combination& what, const std::string& report) const;

  const Options& options_;
  std::string netvmrun_;
  const TemporaryFolder& folder_;
};

}  // namespace netvm::compare
