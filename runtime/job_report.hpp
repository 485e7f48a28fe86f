// What is made of the reports that nodes hand over when they leave: the table of --stats and the file of --report.
//
// A node's report is a JSON object. "stats" (names with integers), "protocols" (by name: "stats", "peak_bytes"), "regions" (a list: "offset", "protocol",
// "stats" and what describes an allocation) and "annotations" (names with numbers or text) have a meaning here, everything else is passed on as it is.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace netvm::job {

/// Tables: a row for each statistic, a column for each node, and a total; the same by protocol; the allocations that the nodes waited for longest; annotations
/// below. Empty reports (of nodes that did not leave) show
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
