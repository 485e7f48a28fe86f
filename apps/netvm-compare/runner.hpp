// Running one combination under netvmrun.
#pragma once

#include <string>

#include "apps/common/job_host.hpp"
#include "apps/netvm-compare/results.hpp"

namespace netvm::compare {

/// Path of the netvmrun to use. Throws UsageError.
[[nodiscard]] std::string find_netvmrun(const Options& options);

class Runner {
 public:
  Runner(const Options& options, std::string netvmrun, const tools::TemporaryFolder& folder)
      : options_(options), netvmrun_(std::move(netvmrun)), folder_(folder) {}

  /// Has netvmrun look at every protocol, trap, granularity and further flag, with a program that does nothing. Throws UsageError with its message.
  void check_flags() const;
  /// Runs it once and waits. Never throws on a program that fails: the Run says so.
  [[nodiscard]] Run run(const Combination& what) const;
  /// The command, without the report.
  [[nodiscard]] std::string command_line(const Combination& what) const { return join_command(command(what, "")); }

 private:
  [[nodiscard]] Command command(const Combination& what, const std::string& report) const;

  const Options& options_;
  std::string netvmrun_;
  const tools::TemporaryFolder& folder_;
};

}  // namespace netvm::compare
