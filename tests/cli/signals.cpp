// Signals to netvmrun.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>

#include "tests/cli/harness.hpp"

using namespace netvm::cli;
using namespace std::chrono_literals;

namespace {

Ended interrupted(const std::string& act, int signal, int times = 1) {
  Running running({.command = netvmrun_command({"-n", "3", actor(), act})});
  REQUIRE(running.wait_for_output("ready"));
  const auto from = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) {
    running.signal(signal);
    ::usleep(100'000);
  }
  Ended ended = running.wait();
  ended.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  CHECK(running.survivors(0ms).empty());
  CHECK(shared_files().empty());
  return ended;
}

}  // namespace

TEST_CASE("an interrupt ends the job with 130 and a message") {
  const Ended ended = interrupted("hang", SIGINT);
  INFO(ended.err);
  CHECK(ended.status == 130);
  CHECK(contains(ended.err, "Interrupt"));
  CHECK(ended.seconds < 2);
}

TEST_CASE("SIGTERM and SIGHUP end the job, too") {
  CHECK(interrupted("hang", SIGTERM).status == 143);
  CHECK(interrupted("hang", SIGHUP).status == 129);
}

TEST_CASE("nodes that ignore the interrupt are killed after a grace, or at once by a second one") {
  const Ended once = interrupted("hang-stubborn", SIGINT);
  CHECK(once.status == 130);
  CHECK(once.seconds > 1);
  CHECK(once.seconds < 4);
  const Ended twice = interrupted("hang-stubborn", SIGINT, 2);
  CHECK(twice.status == 130);
  CHECK(twice.seconds < 1.5);
}

TEST_CASE("an interrupt sent to netvmrun reaches each node once") {
  const Ended ended = interrupted("count-interrupts", SIGINT);
  CHECK(ended.status == 130);
  for (const char* line : {"node 0: 1 interrupts", "node 1: 1 interrupts", "node 2: 1 interrupts"}) CHECK(contains(ended.out, line));
}

TEST_CASE("Ctrl-C at the terminal reaches each node once") {
  int terminal = -1;
  const pid_t pid = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::execl(NETVMRUN_PATH, "netvmrun", "-n", "3", ACTOR_PATH, "count-interrupts", static_cast<char*>(nullptr));
    ::_exit(99);
  }
  const netvm::UniqueFd owned{terminal};
  ::fcntl(terminal, F_SETFL, O_NONBLOCK);
  std::string text;
  const auto read_until = [&](const std::string& part) {
    for (int i = 0; i < 1000 && !contains(text, part); ++i) {
      std::array<char, 4096> buffer;
      const ssize_t got = ::read(terminal, buffer.data(), buffer.size());
      if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
      if (got <= 0) ::usleep(10'000);
    }
    return contains(text, part);
  };
  REQUIRE(read_until("ready"));
  REQUIRE(::write(terminal, "\x03", 1) == 1);
  CHECK(read_until("node 0: 1 interrupts"));
  CHECK(read_until("node 1: 1 interrupts"));
  CHECK(read_until("node 2: 1 interrupts"));
  int status = 0;
  CHECK(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 130);
}
