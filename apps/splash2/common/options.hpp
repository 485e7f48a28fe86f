// The command line of a kernel: SPLASH-2's one-letter flags, glued to their value or not (-n1048576, -n 1048576), and our long ones.
// A value that cannot be right is refused with the flag, the value and what is right. Everything ends in a UsageError, which
// run_kernel() (job.hpp) prints once for the whole job.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace splash2 {

/// The command line cannot be obeyed, or asks for help: text to print, and the exit status to end with.
class UsageError : public std::runtime_error {
 public:
  UsageError(const std::string& text, int exit_status) : std::runtime_error(text), exit_status_(exit_status) {}
  [[nodiscard]] int exit_status() const { return exit_status_; }

 private:
  int exit_status_;
};

/// What a whole number may be.
struct WholeRange {
  std::int64_t least = 0;
  std::int64_t most = INT64_MAX;
  bool power_of_two = false;
};

class Options {
 public:
  Options(const std::string& program, const std::string& purpose);
  ~Options();
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  /// Each takes the flag ("-n", "--verify"), where the value goes (its content is the default that --help shows), and one or two sentences.
  void whole(const std::string& flag, std::int64_t& value, WholeRange range, const std::string& value_name, const std::string& help);
  void real(const std::string& flag, double& value, double above, double most, const std::string& value_name, const std::string& help);
  void choice(const std::string& flag, std::string& value, const std::vector<std::string>& choices, const std::string& help);
  void text(const std::string& flag, std::string& value, const std::string& value_name, const std::string& help);
  void on(const std::string& flag, bool& value, const std::string& help);
  /// A last paragraph of --help; what the exit status means follows it.
  void footer(const std::string& text);

  /// Throws UsageError; exit status 0 for --help, 2 for what is wrong.
  void parse(int argc, const char* const* argv);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splash2
