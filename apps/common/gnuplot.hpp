// gnuplot: a program that is started if it is installed, never needed.
#pragma once

#include <string>

namespace netvm::tools {

/// What is wrong with `--plot FILE` (its name's end, no gnuplot); empty: nothing.
[[nodiscard]] std::string cannot_plot(const std::string& file);

/// In single quotes, in which gnuplot expands nothing.
[[nodiscard]] std::string quoted(const std::string& text);

/// The lines that make a script draw into `file` (.png or .svg).
[[nodiscard]] std::string output_lines(const std::string& file);

/// Runs the script. Throws std::runtime_error if it does not draw; gnuplot has said why on standard error. Requires that SIGPIPE is ignored.
void run_gnuplot(const std::string& script, const std::string& file);

}  // namespace netvm::tools
