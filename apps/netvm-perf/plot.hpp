// Pictures of tables, by gnuplot (apps/plotting).
#pragma once

#include <string>

#include "apps/netvm-perf/table.hpp"

namespace netvm::perf {

/// The script that draws the table's plan into `file` (.png or .svg).
[[nodiscard]] std::string gnuplot_script(const Table& table, const std::string& file);

/// Draws. Throws std::runtime_error with what gnuplot said.
void draw(const Table& table, const std::string& file);

}  // namespace netvm::perf
