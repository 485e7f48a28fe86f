// What runs tell, and the medians of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "apps/netvm-compare/options.hpp"

namespace netvm::compare {

/// What is run: one line of the table.
struct Combination {
  std::size_t program = 0;  ///< index into Options::programs
  std::uint32_t nodes = 1;
  std::string protocol;
  std::string trap;         ///< empty: netvmrun's default
  std::string granularity;  ///< empty: netvmrun's default
};

/// One run.
struct Run {
  Combination what;
  bool finished = false;    ///< exit status 0, and a report
  std::string trouble;      ///< else: what happened
  std::string output_tail;  ///< and the last lines that it printed
  bool timed_by_program = false;
  double seconds = 0;
  double sequential_seconds = 0;  ///< 0: the program did not say
  std::string verified;           ///< the program's word, or empty
  std::uint64_t page_faults = 0;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  double thread_seconds = 0;                        ///< of application threads (thread_ns); 0: the report does not say
  std::map<std::string, std::uint64_t> stats = {};  ///< every statistic of the report, summed over the nodes

  [[nodiscard]] bool right() const { return finished && verified == "yes"; }
};

/// Medians over the runs of a combination.
struct Row {
  Combination what;
  std::size_t runs = 0;
  std::size_t right = 0;
  std::string verdict;  ///< "yes", "no: why", "failed: why", "not checked", with a count where runs differ
  bool timed_by_program = false;
  double seconds = 0;        ///< of the runs that ended well; 0: none did
  double least_seconds = 0;  ///< the fastest and the slowest of them
  double most_seconds = 0;
  double speed_up = 0;  ///< 0: unknown
  std::uint64_t page_faults = 0;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  double thread_seconds = 0;  ///< 0: unknown
  std::map<std::string, std::uint64_t> stats = {};
};

/// All combinations, in the order of the table.
[[nodiscard]] std::vector<Combination> combinations(const Options& options);

/// One row for each combination, from all runs.
[[nodiscard]] std::vector<Row> summarise(const Options& options, const std::vector<Run>& runs);

}  // namespace netvm::compare
