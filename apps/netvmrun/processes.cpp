#include "apps/netvmrun/processes.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "runtime/job_wire.hpp"

namespace netvm::run {
namespace {

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

std::pair<UniqueFd, UniqueFd> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("cannot make a pipe");
  return {UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

/// In the child: becomes the program. Reports the errno of what failed through the pipe.
[[noreturn]] void become_program(const StartOptions& options, pid_t launcher, int output, int error, int failure) {
  const auto give_up = [failure] {
    const int why = errno;
    (void)!::write(failure, &why, sizeof why);
    ::_exit(127);
  };
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up();
  if (::getppid() != launcher) ::_exit(127);  // it died before the line above
  if (options.node != 0) {
    const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0 || ::dup2(nothing, STDIN_FILENO) < 0) give_up();
  }
  if (::dup2(output, STDOUT_FILENO) < 0 || ::dup2(error, STDERR_FILENO) < 0) give_up();
  ::signal(SIGPIPE, SIG_DFL);
  (void)::setrlimit(RLIMIT_NOFILE, &options.descriptors);
  ::sigprocmask(SIG_SETMASK, &options.signal_mask, nullptr);
  ::setenv(std::string(job::kNodeVariable).c_str(), std::to_string(options.node).c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : options.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(options.path.c_str(), arguments.data());  // a path with '/'; execvp also runs scripts that lack a first line "#!"
  give_up();
  ::_exit(127);
}

/// Parent of a process, from /proc/PID/stat; -1 if it is gone.
pid_t parent_of(const char* pid) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen(fmt::format("/proc/{}/stat", pid).c_str(), "re"), std::fclose};
  if (!file) return -1;
  std::array<char, 512> text{};
  const std::size_t length = std::fread(text.data(), 1, text.size() - 1, file.get());
  const std::string_view view(text.data(), length);
  const auto end_of_name = view.rfind(')');  // the name may hold anything
  int parent = -1;
  char state = '?';
  if (end_of_name == std::string_view::npos || std::sscanf(text.data() + end_of_name + 1, " %c %d", &state, &parent) != 2) return -1;
  return state == 'Z' || state == 'X' ? -1 : parent;
}

}  // namespace

rlimit raise_descriptor_limit(rlim_t needed) {
  rlimit before{};
  if (::getrlimit(RLIMIT_NOFILE, &before) != 0) fail("cannot read the limit of open files");
  if (before.rlim_cur >= needed) return before;
  const rlimit raised{std::max(needed, before.rlim_max == RLIM_INFINITY ? needed : before.rlim_max), before.rlim_max};
  if (before.rlim_max < needed || ::setrlimit(RLIMIT_NOFILE, &raised) != 0) {
    throw std::runtime_error(fmt::format(
        "a job of this size needs {} open files, the limit is {} (ulimit -Hn); raise it or start fewer nodes", needed, before.rlim_max));
  }
  return before;
}

void open_standard_streams() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);  // open() takes the lowest number that is free
  if (fd >= 0) ::close(fd);
}

void become_subreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) fail("cannot become the reaper of the nodes' children");
}

StartedProcess start_process(const StartOptions& options) {
  auto [output, output_end] = make_pipe();
  auto [error, error_end] = make_pipe();
  auto [failure, failure_end] = make_pipe();
  const pid_t launcher = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) fail("cannot start another process");
  if (pid == 0) become_program(options, launcher, output_end.get(), error_end.get(), failure_end.get());
  failure_end.reset();
  int why = 0;
  ssize_t got = 0;
  do {
    got = ::read(failure.get(), &why, sizeof why);  // ends when the program runs: the pipe closes on exec
  } while (got < 0 && errno == EINTR);
  if (got == sizeof why) {
    (void)::waitpid(pid, nullptr, 0);
    throw std::system_error(why, std::generic_category(), "cannot run " + options.path);
  }
  ::fcntl(output.get(), F_SETFL, O_NONBLOCK);
  ::fcntl(error.get(), F_SETFL, O_NONBLOCK);
  return {pid, std::move(output), std::move(error)};
}

std::vector<pid_t> descendants(const std::vector<pid_t>& except) {
  std::multimap<pid_t, pid_t> children;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc{::opendir("/proc"), ::closedir};
  while (const dirent* entry = proc ? ::readdir(proc.get()) : nullptr) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    const pid_t parent = parent_of(entry->d_name);
    if (parent > 0) children.emplace(parent, static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10)));
  }
  std::vector<pid_t> found{::getpid()};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [first, last] = children.equal_range(found[i]);
    for (auto child = first; child != last; ++child) {
      if (std::find(except.begin(), except.end(), child->second) == except.end()) found.push_back(child->second);
    }
  }
  found.erase(found.begin());
  return found;
}

std::string describe_end(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    return fmt::format("was killed by signal {} ({}{})", signal, ::strsignal(signal), WCOREDUMP(wait_status) ? ", core dumped" : "");
  }
  return fmt::format("exited with status {}", WEXITSTATUS(wait_status));
}

int exit_status_of(int wait_status) { return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status); }

}  // namespace netvm::run
