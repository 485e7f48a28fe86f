// The command line of netvm-perf.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apps/common/usage_error.hpp"
#include "runtime/settings.hpp"

namespace netvm::perf {

enum class Command : std::uint8_t { basic, dsm, sync, thesis, latency, bandwidth, message_rate, atomics, notify, faults };

/// How a stream's operations are given to the NIC.
enum class Verbs : std::uint8_t { queue_pair, posted, blocking };

/// "message-rate"
[[nodiscard]] std::string_view name_of(Command command);
/// All, in the order of the help.
[[nodiscard]] std::vector<Command> all_commands();

using tools::UsageError;

struct Options {
  Command command = Command::basic;
  int nodes = 2;
  std::array<int, 2> between = {0, 1};  ///< who measures, and towards whom
  std::vector<std::uint64_t> sizes;     ///< bytes
  std::string op;                       ///< of latency, bandwidth, message-rate: put | get
  Verbs verbs = Verbs::queue_pair;      ///< of bandwidth, message-rate
  ShmMode mode = ShmMode::direct;
  bool mode_given = false;
  int batches = 31;
  std::uint64_t iterations = 0;        ///< operations a batch; 0: as many as fit into `seconds`
  double seconds = 0.25;               ///< a size (or a row), about
  std::uint64_t warmup = 100;          ///< operations before the first batch
  int window = 64;                     ///< operations in flight
  bool quick = false;                  ///< a few short batches, to see that everything runs
  bool check = false;                  ///< a missed "must" of the thesis table is an error
  bool quiet = false;                  ///< no progress line
  std::vector<std::string> protocols;  ///< of dsm; empty: all
  std::vector<std::string> only;       ///< groups of the thesis table to measure; empty: all
  std::string json;
  std::string csv;
  std::string plot;
  // Between this program and the nodes that it starts.
  std::string collect;   ///< where the measuring node writes its table; empty: it prints it
  std::string progress;  ///< a pipe for what is being measured
};

/// Whether a group of the thesis table is to be measured: one of thesis_groups().
[[nodiscard]] bool wants(const Options& options, std::string_view group);
[[nodiscard]] std::vector<std::string_view> thesis_groups();

/// Throws UsageError.
[[nodiscard]] Options parse_options(int argc, char** argv);

/// The manual page of netvm-perf, and of a sub-command.
[[nodiscard]] std::string help_text();
[[nodiscard]] std::string help_text(Command command);

/// One option as the help shows it and as the parser knows it.
struct OptionInfo {
  std::string_view flags;  ///< "--sizes", "-q,--quiet"
  std::string_view value;  ///< "LIST"; empty: a switch
  std::string_view help;
};
/// Those of a sub-command, in the order of the help.
[[nodiscard]] std::vector<OptionInfo> options_of(Command command);

/// Of a sub-command that takes --sizes and is given none: "8:4M".
[[nodiscard]] std::string default_sizes(Command command);
/// "8:4M" (powers of two from the first to the second), "8,64,4K", and mixtures -> bytes, rising, each once. Throws UsageError.
[[nodiscard]] std::vector<std::uint64_t> parse_sizes(const std::string& text);

inline constexpr std::uint64_t kLargestSize = std::uint64_t{64} << 20;

}  // namespace netvm::perf
