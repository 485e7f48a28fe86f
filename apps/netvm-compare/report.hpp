// Reading the report that netvmrun writes, and writing ours.
#pragma once

#include <string>
#include <vector>

#include "apps/netvm-compare/results.hpp"

namespace netvm::compare {

/// Fills a run's figures from a report's text. False if it is not such a report; `run` is then as before.
[[nodiscard]] bool read_report(const std::string& text, Run& run);

/// Every run and the table, as JSON.
[[nodiscard]] std::string to_json(const Options& options, const std::vector<Run>& runs, const std::vector<Row>& rows);

}  // namespace netvm::compare
