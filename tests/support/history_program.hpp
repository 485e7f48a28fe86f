// Random programs with races: a few threads load and store a few words without any synchronisation, and write down what they saw. Whether the
// run was sequentially consistent, history.hpp decides.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/history.hpp"
#include "tests/support/machine.hpp"

namespace netvm::test {

struct HistoryOptions {
  std::string_view protocol;
  std::uint64_t seed = 1;
  std::uint32_t most_steps = 14;  ///< of each thread
  Nanos longest_pause = 8'000;
};

struct HistoryResult {
  bool well = true;                      ///< false: the machine did not end as it should
  Verdict verdict = Verdict::undecided;  ///< if it did
  std::string text;                      ///< what was run; unless it was sequential: the history, or the machine's complaint
  std::uint64_t trace_hash = 0;
  std::uint64_t operations = 0;
  std::uint64_t states = 0;
};

[[nodiscard]] HistoryResult run_history_program(Machine& machine, const HistoryOptions& options);

}  // namespace netvm::test
