#include "apps/netvm-perf/plot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace netvm::perf {
namespace {

std::string quoted(const std::string& text) {  // single quotes: gnuplot expands nothing inside
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

}  // namespace

bool have_gnuplot() {
  std::istringstream folders(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access(((folder.empty() ? "." : folder) + "/gnuplot").c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::string gnuplot_script(const Table& table, const std::string& file) {
  const PlotPlan& plan = table.plot;
  std::string out = "$data << END_OF_DATA\n";
  for (const auto& row : table.rows) {
    const auto cell = [&](const std::string& key) {
      const auto* number = std::get_if<double>(&row[table.column(key)]);
      return number != nullptr ? fmt::format("{}", *number) : std::string("NaN");
    };
    out += cell(plan.x);
    for (const std::string& key : plan.y) out += fmt::format(" {}", cell(key));
    out += "\n";
  }
  out += "END_OF_DATA\n";
  out += file.ends_with(".svg") ? "set terminal svg size 960,600 background rgb 'white'\n" : "set terminal pngcairo size 960,600\n";
  out += "set output " + quoted(file) + "\nset title " + quoted(table.title) + " noenhanced\nset grid\nset key left top noenhanced\n";
  out += "set logscale x 2\nset format x '%.0b%B'\n";
  if (plan.log_y) out += "set logscale y\n";
  out += "set xlabel " + quoted(plan.x_label) + "\nset ylabel " + quoted(plan.y_label) + "\nplot ";
  for (std::size_t i = 0; i < plan.y.size(); ++i) {
    out += fmt::format("{}$data using 1:{} with linespoints title {}", i == 0 ? "" : ", ", i + 2,
                       quoted(table.columns[table.column(plan.y[i])].title));
  }
  return out + "\n";
}

void draw(const Table& table, const std::string& file) {
  if (table.plot.x.empty() || table.rows.empty()) return;
  const std::string script = gnuplot_script(table, file);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("netvm-perf: no pipe to gnuplot");
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[0], STDIN_FILENO);
    ::execlp("gnuplot", "gnuplot", "-", nullptr);
    ::_exit(127);
  }
  ::close(ends[0]);
  std::size_t done = 0;  // a closed pipe raises SIGPIPE, which main() ignores
  while (child > 0 && done < script.size()) {
    const ssize_t n = ::write(ends[1], script.data() + done, script.size() - done);
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  ::close(ends[1]);
  int status = -1;
  if (child < 0 || ::waitpid(child, &status, 0) < 0 || status != 0)
    throw std::runtime_error(fmt::format("netvm-perf: --plot {}: gnuplot could not draw it (its message is above)", file));
}

}  // namespace netvm::perf
