#include "apps/common/gnuplot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "apps/common/job_host.hpp"

namespace netvm::tools {

std::string cannot_plot(const std::string& file) {
  if (!file.ends_with(".png") && !file.ends_with(".svg")) return fmt::format("--plot {}: the name ends in .png or .svg", file);
  if (!find_in_path("gnuplot").empty()) return {};
  return "--plot needs gnuplot, which is not installed (Debian: apt-get install gnuplot-nox); --json keeps the figures without it";
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::string output_lines(const std::string& file) {
  return std::string(file.ends_with(".svg") ? "set terminal svg size 960,600 background rgb 'white'\n"
                                            : "set terminal pngcairo size 960,600\n") +
         "set output " + quoted(file) + "\n";
}

void run_gnuplot(const std::string& script, const std::string& file) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe to gnuplot");
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[0], STDIN_FILENO);
    ::execlp("gnuplot", "gnuplot", "-", nullptr);
    ::_exit(127);
  }
  ::close(ends[0]);
  std::size_t done = 0;
  while (child > 0 && done < script.size()) {
    const ssize_t n = ::write(ends[1], script.data() + done, script.size() - done);
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  ::close(ends[1]);
  int status = -1;
  if (child < 0 || ::waitpid(child, &status, 0) < 0 || status != 0)
    throw std::runtime_error(fmt::format("--plot {}: gnuplot could not draw it (its message is above)", file));
}

}  // namespace netvm::tools
