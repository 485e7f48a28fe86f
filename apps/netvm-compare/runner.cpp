#include "apps/netvm-compare/runner.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "apps/netvm-compare/report.hpp"

namespace netvm::compare {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// The last lines of a text, at most so many.
std::string tail(const std::string& text, std::size_t lines) {
  std::size_t at = text.size();
  while (at > 0 && text[at - 1] == '\n') --at;
  const std::size_t end = at;
  for (std::size_t seen = 0; at > 0; --at) {
    if (text[at - 1] == '\n' && ++seen == lines) break;
  }
  return text.substr(at, end - at);
}

/// Starts the command with its output in a file and waits. Returns waitpid's status; throws std::system_error if nothing could be started.
int start_and_wait(const Command& command, const std::string& output) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  posix_spawnattr_t attributes;  // this process ignores SIGPIPE; the program is to find it as usual
  ::posix_spawnattr_init(&attributes);
  sigset_t usual;
  ::sigemptyset(&usual);
  ::sigaddset(&usual, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &usual);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const int failed = ::posix_spawnp(&child, arguments[0], &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::system_error(failed, std::generic_category(), command[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
    ::kill(child, tools::interrupted() != 0 ? tools::interrupted() : SIGTERM);  // the terminal told it too; a plain kill told only us
  }
  return status;
}

std::string describe_status(int status, double timeout_s) {
  if (WIFSIGNALED(status)) return fmt::format("netvmrun was killed by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) == 124) return fmt::format("not over after {:g} s", timeout_s);
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

}  // namespace

std::string find_netvmrun(const Options& options) {
  if (!options.netvmrun.empty()) {
    if (::access(options.netvmrun.c_str(), X_OK) == 0) return fs::absolute(options.netvmrun).string();
    throw UsageError(fmt::format("netvm-compare: --netvmrun {}: {}\n", options.netvmrun, std::strerror(errno)), 2);
  }
  if (std::string found = tools::find_netvmrun(); !found.empty()) return found;
  throw UsageError("netvm-compare: there is no netvmrun beside this program nor in PATH; name it with --netvmrun\n", 2);
}

Command Runner::command(const Combination& what, const std::string& report) const {
  Command words = {netvmrun_, "-n", std::to_string(what.nodes), "--protocol", what.protocol};
  if (!what.trap.empty()) words.insert(words.end(), {"--trap", what.trap});
  if (!what.granularity.empty()) words.insert(words.end(), {"--granularity", what.granularity});
  words.insert(words.end(), {"--timeout", fmt::format("{:g}", options_.timeout_s)});
  words.insert(words.end(), options_.run_flags.begin(), options_.run_flags.end());
  if (!report.empty()) words.insert(words.end(), {"--report", report});
  words.emplace_back("--");
  const Command& program = options_.programs[what.program];
  words.insert(words.end(), program.begin(), program.end());
  return words;
}

void Runner::check_flags() const {
  const std::string output = folder_.path() + "/output";
  for (const Combination& what : combinations(options_)) {
    if (what.program != 0) break;
    Command words = command(what, "");
    words.resize(words.size() - options_.programs[0].size());
    words.emplace_back("true");
    if (WEXITSTATUS(start_and_wait(words, output)) == 2) throw UsageError("netvm-compare: " + read_file(output), 2);
    if (tools::interrupted() != 0) return;
  }
}

Run Runner::run(const Combination& what) const {
  Run run;
  run.what = what;
  const std::string report = folder_.path() + "/report.json";
  const std::string output = folder_.path() + "/output";
  std::error_code ignored;
  fs::remove(report, ignored);
  const int status = start_and_wait(command(what, report), output);
  const bool reported = read_report(read_file(report), run);
  run.finished = status == 0 && reported;
  if (run.finished) return run;
  run.trouble = status == 0 ? "no report" : describe_status(status, options_.timeout_s);
  run.output_tail = tail(read_file(output), 12);
  return run;
}

}  // namespace netvm::compare
