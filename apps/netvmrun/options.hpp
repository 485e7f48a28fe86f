// The command line of netvmrun.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace netvm::run {

/// The command line is wrong; what() says what and what would be right.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Action : std::uint8_t { run, help, version };

struct Options {
  Action action = Action::run;
  std::uint32_t nodes = 1;
  double timeout_s = 0;  ///< 0: none
  std::string report;    ///< file, or empty
  bool tag = false;
  bool outlives_nodes = false;  ///< --on-death=continue
  /// NETVM_* variables to set for the nodes, with the flag each came from.
  struct Assignment {
    std::string variable;
    std::string value;
    std::string flag;
  };
  std::vector<Assignment> settings;
  std::vector<std::string> program;  ///< and its arguments
};

/// Throws UsageError.
[[nodiscard]] Options parse_options(int argc, char** argv);

/// The manual page.
[[nodiscard]] std::string help_text();

}  // namespace netvm::run
