// The command line of netvm-compare: which combinations to run, how often, and where the answers go.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/common/usage_error.hpp"

namespace netvm::compare {

using tools::UsageError;

/// A program with its arguments.
using Command = std::vector<std::string>;

struct Options {
  std::vector<std::uint32_t> nodes = {1, 2, 4};
  std::vector<std::string> protocols = {"hlrc", "sc-directory"};
  std::vector<std::string> traps;          ///< empty: netvmrun's default
  std::vector<std::string> granularities;  ///< empty: netvmrun's default
  std::vector<Command> programs;
  std::vector<std::string> run_flags;  ///< more flags for netvmrun
  std::uint32_t runs = 1;
  double minutes = 0;  ///< begin no second run of anything after that; 0: no limit
  double timeout_s = 300;
  std::string json;      ///< file, or empty
  std::string plot;      ///< file, or empty
  bool times = false;    ///< the table of where the time went
  std::string netvmrun;  ///< path, or empty: beside this program, then PATH
  bool quiet = false;
};

/// Throws UsageError.
[[nodiscard]] Options parse_options(int argc, char** argv);

/// "radix -n 1048576" -> {"radix", "-n", "1048576"}, as a shell takes words apart, but no command is executed. Throws UsageError.
[[nodiscard]] Command split_command(const std::string& text);

/// The words as a line that a shell would take.
[[nodiscard]] std::string join_command(const Command& command);

}  // namespace netvm::compare
