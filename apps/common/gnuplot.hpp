// Pictures by gnuplot: a program that is started if it is installed, never needed.
#pragma once

#include <string>

namespace netvm::tools {

/// Why nothing can be drawn into a file of that name; empty: it can.
[[nodiscard]] std::string why_no_plot(const std::string& file);

/// In single quotes: gnuplot expands nothing inside.
[[nodiscard]] std::string gnuplot_quoted(const std::string& text);
/// The lines of a script that choose the terminal and the output by the file's name (.png or .svg).
[[nodiscard]] std::string gnuplot_output(const std::string& file);

/// Has gnuplot carry out the script, which draws into `file`. SIGPIPE must be ignored (watch_signals()). Throws std::runtime_error.
void draw(const std::string& script, const std::string& file);

}  // namespace netvm::tools
