// What is made of the reports that nodes hand over when they leave: the table of --stats and the file of --report.
//
// A node's report is a JSON object; "stats" (names with integers) and "annotations" (names with numbers or text) have a meaning here,
// everything else is passed on as it is.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace netvm::job {

/// A table: one row a statistic, one column a node, a total; annotations below it. Empty reports (of nodes that did not leave) show
/// as "-"; rows of zeros are left out. Ends with a newline.
[[nodiscard]] std::string format_stats(std::span<const std::string> reports);

/// The outcome of a job, for the report file.
struct JobSummary {
  std::string program;
  std::vector<std::string> arguments;
  std::uint32_t nodes = 0;
  int exit_status = 0;
  std::string outcome;  ///< "ok", or the sentence that says what went wrong
  double seconds = 0;
  std::vector<std::pair<std::string, std::string>> settings;  ///< NETVM_* and what it was
};
/// The job's report, as JSON text: the summary, the sums over all nodes, the nodes' own objects in "node" (null where one is missing).
[[nodiscard]] std::string merge_reports(const JobSummary& summary, std::span<const std::string> reports);

}  // namespace netvm::job
