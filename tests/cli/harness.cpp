#include "tests/cli/harness.hpp"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <thread>

#include "runtime/job_wire.hpp"

namespace netvm::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = 60s;  // with a machine that has other things to do; what ends sooner costs nothing
constexpr const char* kMarkVariable = "CLI_TEST_MARK";

std::array<UniqueFd, 2> make_pipe() {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  return {UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

[[noreturn]] void become(const Start& start, const std::string& mark, int in, int out, int err) {
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setenv(kMarkVariable, mark.c_str(), 1);
  for (const auto& [name, value] : start.environment) ::setenv(name.c_str(), value.c_str(), 1);
  if (!start.directory.empty() && ::chdir(start.directory.c_str()) != 0) ::_exit(99);
  std::vector<char*> arguments;
  for (const std::string& argument : start.command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(99);
}

std::vector<pid_t> marked(const std::string& mark) {
  std::vector<pid_t> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc{::opendir("/proc"), ::closedir};
  while (const dirent* entry = proc ? ::readdir(proc.get()) : nullptr) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    std::ifstream file(fmt::format("/proc/{}/environ", entry->d_name), std::ios::binary);
    const std::string environment((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (contains(environment, mark)) found.push_back(static_cast<pid_t>(std::atoi(entry->d_name)));
  }
  return found;
}

void read_into(UniqueFd& fd, std::string* text) {
  std::array<char, 65536> part;
  const ssize_t got = ::read(fd.get(), part.data(), part.size());
  if (got > 0) text->append(part.data(), static_cast<std::size_t>(got));
  if (got == 0 || (got < 0 && errno != EINTR)) fd.reset();
}

}  // namespace

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

Running::Running(const Start& start) : mark_(fmt::format("{:016x}", job::random_nonzero())), started_(Clock::now()) {
  auto [in_read, in_write] = make_pipe();
  auto [out_read, out_write] = make_pipe();
  auto [err_read, err_write] = make_pipe();
  if (start.closed_output) out_read.reset();
  if (!start.output_file.empty()) {
    out_write.reset(::open(start.output_file.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(out_write);
  }
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) become(start, mark_, in_read.get(), out_write.get(), err_write.get());
  REQUIRE(start.input.size() < 60000);  // fits into the pipe, so that nobody has to feed it
  REQUIRE(::write(in_write.get(), start.input.data(), start.input.size()) == static_cast<ssize_t>(start.input.size()));
  out_ = std::move(out_read);
  err_ = std::move(err_read);
}

Running::~Running() {
  if (!reaped_) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  for (const pid_t left : marked(mark_)) ::kill(left, SIGKILL);
}

void Running::signal(int number) const { ::kill(pid_, number); }

void Running::read_available(int wait_ms) {
  std::array<pollfd, 2> polls{{{out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}}};
  (void)::poll(polls.data(), polls.size(), wait_ms);
  if (polls[0].revents != 0) read_into(out_, &ended_.out);
  if (polls[1].revents != 0) read_into(err_, &ended_.err);
}

bool Running::wait_for_output(const std::string& text) {
  const auto deadline = Clock::now() + 10s;
  while (!contains(ended_.out, text) && out_ && Clock::now() < deadline) read_available(50);
  return contains(ended_.out, text);
}

Ended Running::wait() {
  const auto deadline = started_ + kPatience;
  int wait_status = 0;
  while (!reaped_ && Clock::now() < deadline) {
    read_available(10);
    reaped_ = ::waitpid(pid_, &wait_status, WNOHANG) == pid_;
  }
  ended_.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  if (!reaped_) return ended_;
  const auto end_of_output = Clock::now() + 2s;  // the pipes' ends come at once, unless somebody survived who holds them
  while ((out_ || err_) && Clock::now() < end_of_output) read_available(10);
  ended_.status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  return ended_;
}

std::vector<pid_t> Running::survivors(std::chrono::milliseconds patience) const {
  const auto deadline = Clock::now() + patience;
  auto found = marked(mark_);
  while (!found.empty() && Clock::now() < deadline) {
    std::this_thread::sleep_for(10ms);
    found = marked(mark_);
  }
  return found;
}

std::vector<std::string> netvmrun_command(const std::vector<std::string>& arguments) {
  std::vector<std::string> command{NETVMRUN_PATH};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

std::string actor() { return ACTOR_PATH; }

std::vector<std::string> shared_files() {
  std::vector<std::string> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir("/dev/shm"), ::closedir};
  while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr) {
    if (contains(entry->d_name, "netvm")) found.emplace_back(entry->d_name);
  }
  return found;
}

Ended netvmrun(const std::vector<std::string>& arguments, Start start) {
  start.command = netvmrun_command(arguments);
  Running running(start);
  Ended ended = running.wait();
  INFO("stderr: ", ended.err);
  CHECK(ended.status != -1);
  CHECK(running.survivors(0ms).empty());
  CHECK(shared_files().empty());
  return ended;
}

}  // namespace netvm::cli
