#include "apps/netvmrun/guardian.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

#include "runtime/job_wire.hpp"

namespace netvm::run {
namespace {

constexpr char kAllIsWell = 'w';
constexpr int kMostRounds = 100;
constexpr useconds_t kRoundUs = 20'000;

/// Whether the process was started with this entry ("NAME=value") in its environment. Zombies have none.
bool has_entry(const char* pid, std::string_view entry) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen(fmt::format("/proc/{}/environ", pid).c_str(), "re"), std::fclose};
  if (!file) return false;
  std::string environment(1, '\0');
  std::array<char, 4096> part;
  while (const std::size_t got = std::fread(part.data(), 1, part.size(), file.get())) environment.append(part.data(), got);
  std::string wanted(1, '\0');
  wanted.append(entry);
  wanted.push_back('\0');
  return environment.find(wanted) != std::string::npos;
}

/// Kills once; returns how many there were.
int kill_all(std::string_view entry) {
  int killed = 0;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc{::opendir("/proc"), ::closedir};
  while (const dirent* process = proc ? ::readdir(proc.get()) : nullptr) {
    if (process->d_name[0] < '1' || process->d_name[0] > '9' || !has_entry(process->d_name, entry)) continue;
    if (::kill(static_cast<pid_t>(std::strtol(process->d_name, nullptr, 10)), SIGKILL) == 0) ++killed;
  }
  return killed;
}

[[noreturn]] void stand_guard(int line, const std::string& rendezvous) {
  ::setsid();
  ::prctl(PR_SET_NAME, "netvmrun-guard");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_IGN);
  // Whoever waits for the end of netvmrun's output must not wait for us: keep nothing open but the line.
  ::dup2(line, STDIN_FILENO);
  (void)::close_range(STDOUT_FILENO, ~0U, 0);
  char word = 0;
  ssize_t got = 0;
  do {
    got = ::read(STDIN_FILENO, &word, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1 && word == kAllIsWell) ::_exit(0);
  const std::string entry = fmt::format("{}={}", job::kRendezvousVariable, rendezvous);
  for (int round = 0; round < kMostRounds && kill_all(entry) != 0; ++round) ::usleep(kRoundUs);  // again, for what was being started
  ::_exit(0);
}

}  // namespace

Guardian::Guardian(const std::string& rendezvous) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "cannot make a pipe");
  const UniqueFd read_end{ends[0]};
  line_.reset(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "cannot start another process");
  if (pid_ == 0) stand_guard(read_end.get(), rendezvous);
}

void Guardian::dismiss() {
  if (!line_) return;
  (void)!::write(line_.get(), &kAllIsWell, 1);  // if it is dead already, that is well, too
  line_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace netvm::run
