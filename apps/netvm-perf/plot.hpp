// Pictures of tables, by gnuplot (apps/common).
#pragma once

#include <string>

#include "apps/netvm-perf/table.hpp"

namespace netvm::perf {

/// The script that draws the table's plan into `file` (.png or .svg).
[[nodiscard]] std::string gnuplot_script(const Table& table, const std::string& file);

/// Draws, if the table has a plan. Throws std::runtime_error.
void draw(const Table& table, const std::string& file);

}  // namespace netvm::perf
