#include "apps/netvm-perf/launch.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "runtime/unique_fd.hpp"

namespace netvm::perf {
namespace {

namespace fs = std::filesystem;

pid_t spawn(std::vector<std::string>& words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "netvm-perf: fork");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // should this process be killed, its job ends
    if (::getppid() != parent) ::_exit(1);
    ::execvp(argv[0], argv.data());
    fmt::print(stderr, "netvm-perf: cannot start {}: {}; it lies beside netvm-perf or in PATH\n", words[0], std::strerror(errno));
    ::_exit(127);
  }
  return child;
}

/// Shows what comes through the pipe until the child has ended; returns waitpid's status.
int watch(pid_t child, int pipe, ProgressLine& progress) {
  const UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  std::string text;
  int passed_on = 0;
  for (;;) {
    if (tools::interrupted() != passed_on) {
      passed_on = tools::interrupted();
      ::kill(child, passed_on);  // the terminal told it too; a plain kill told only us
    }
    std::array<pollfd, 2> wait = {pollfd{ended.get(), POLLIN, 0}, pollfd{pipe, POLLIN, 0}};
    if (::poll(wait.data(), wait.size(), -1) < 0) continue;
    if ((wait[1].revents & POLLIN) != 0) {
      std::array<char, 512> part{};
      const ssize_t n = ::read(pipe, part.data(), part.size());
      if (n > 0) text.append(part.data(), static_cast<std::size_t>(n));
      if (const auto end = text.rfind('\n'); end != std::string::npos) {
        const auto begin = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
        const std::size_t from = begin == std::string::npos ? 0 : begin + 1;
        progress.show(std::string_view(text).substr(from, end - from));
        text.erase(0, end + 1);
      }
    }
    if ((wait[0].revents & POLLIN) != 0) break;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

bool inside_a_job() { return std::getenv("NETVM_RENDEZVOUS") != nullptr; }

int node_of_environment() {
  const char* node = std::getenv("NETVM_NODE");
  return node != nullptr ? std::atoi(node) : 0;
}

ProgressLine::ProgressLine(bool quiet) : on_(!quiet && ::isatty(STDERR_FILENO) != 0) {}

void ProgressLine::show(std::string_view text) {
  if (!on_) return;
  fmt::print(stderr, "\r\033[K{}", text.substr(0, 100));
  shown_ = true;
}

void ProgressLine::clear() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

ProgressPipe::ProgressPipe(const std::string& path) {
  if (!path.empty()) fd_ = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

ProgressPipe::~ProgressPipe() {
  if (fd_ >= 0) ::close(fd_);
}

void ProgressPipe::say(const std::string& text) {
  const std::string line = fmt::format("{}\n", text);
  if (fd_ >= 0 && ::write(fd_, line.data(), line.size()) < 0) return;  // a full pipe: this line is not worth waiting for
}

int run_job(const JobPlan& plan, const tools::TemporaryFolder& folder, ProgressLine& progress, std::string* collected) {
  const std::string file = folder.path() + "/table.json";
  const std::string pipe_name = folder.path() + "/progress";
  std::error_code ignored;
  fs::remove(file, ignored);
  if (::mkfifo(pipe_name.c_str(), 0600) != 0 && errno != EEXIST)
    throw std::system_error(errno, std::generic_category(), "netvm-perf: no pipe in " + folder.path());
  const UniqueFd pipe(::open(pipe_name.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  const std::string netvmrun = tools::find_netvmrun();
  std::vector<std::string> words = {netvmrun.empty() ? "netvmrun" : netvmrun, "-n", std::to_string(plan.nodes)};
  words.insert(words.end(), plan.run_flags.begin(), plan.run_flags.end());
  words.insert(words.end(), {"--", fs::read_symlink("/proc/self/exe").string()});
  words.insert(words.end(), plan.arguments.begin(), plan.arguments.end());
  words.insert(words.end(), {"--collect", file, "--progress", pipe_name});
  const int status = watch(spawn(words), pipe.get(), progress);
  progress.clear();
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  *collected = text.str();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace netvm::perf
