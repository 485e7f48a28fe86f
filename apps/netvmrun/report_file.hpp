// The file of --report: checked before the job starts, written whole when it is over.
#pragma once

#include <string>

namespace netvm::run {

/// Empty if a report can be written there; otherwise what speaks against it.
[[nodiscard]] std::string report_obstacle(const std::string& file);
/// Writes it under another name first, then gives it its own. Throws std::system_error.
void write_report(const std::string& file, const std::string& text);

}  // namespace netvm::run
