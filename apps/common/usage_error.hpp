// How the parsing of a command line ends when the program is not to go on.
#pragma once

#include <stdexcept>
#include <string>

namespace netvm::tools {

/// The command line is wrong, or only asks for help: what to print (whole, with its line end), and the exit status.
class UsageError : public std::runtime_error {
 public:
  UsageError(const std::string& text, int exit_status) : std::runtime_error(text), exit_status_(exit_status) {}
  [[nodiscard]] int exit_status() const { return exit_status_; }

 private:
  int exit_status_;
};

}  // namespace netvm::tools
