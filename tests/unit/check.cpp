// NETVM_CHECK and the log: what they print and where. A failing check ends its process, so it fails in a child of ours.
#include "runtime/check.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <functional>
#include <string>
#include <thread>

#include "runtime/log.hpp"

namespace {

struct Child {
  std::string error_output;
  int signal = 0;
};

Child run_in_child(const std::function<void()>& body) {
  std::array<int, 2> pipe_ends{};
  REQUIRE(::pipe(pipe_ends.data()) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::signal(SIGABRT, SIG_DFL);  // not doctest's handler
    ::dup2(pipe_ends[1], STDERR_FILENO);
    ::close(pipe_ends[0]);
    body();
    ::_exit(0);
  }
  ::close(pipe_ends[1]);
  Child child;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = ::read(pipe_ends[0], buffer.data(), buffer.size())) > 0;) {
    child.error_output.append(buffer.data(), static_cast<std::size_t>(n));
  }
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  child.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return child;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a failing check prints place, condition, message, node, time and seed, then aborts") {
  const Child child = run_in_child([] {
    const netvm::ScopedCheckContext scope({2, 1234, 99});
    const int value = 41;
    NETVM_CHECK(value == 42, "the answer is %d", value);
  });
  CHECK(child.signal == SIGABRT);
  CHECK(contains(child.error_output, "netvm[node 2]: "));
  CHECK(contains(child.error_output, "check.cpp:"));
  CHECK(contains(child.error_output, "value == 42"));
  CHECK(contains(child.error_output, "the answer is 41"));
  CHECK(contains(child.error_output, "node 2, time 1234 ns, seed 99"));
  CHECK(child.error_output.back() == '\n');
}

TEST_CASE("a failing check of an unknown node says so, and leaves out what does not exist") {
  const Child child = run_in_child([] { NETVM_CHECK(1 > 2, "numbers"); });
  CHECK(child.signal == SIGABRT);
  CHECK(contains(child.error_output, "node unknown"));
  CHECK_FALSE(contains(child.error_output, "seed"));
}

TEST_CASE("an endless message is cut, not written past the buffer") {
  const Child child = run_in_child([] { NETVM_CHECK(false, "%s", std::string(10'000, 'x').c_str()); });
  CHECK(child.signal == SIGABRT);
  CHECK(child.error_output.size() <= 1024);
  CHECK(child.error_output.back() == '\n');
}

TEST_CASE("a check that holds evaluates its condition once and prints nothing") {
  int evaluated = 0;
  NETVM_CHECK(++evaluated == 1, "must hold");
  CHECK(evaluated == 1);
}

TEST_CASE("contexts are a thread's own, nest, and fall back to the process's") {
  CHECK(netvm::check_context().node == -1);
  {
    const netvm::ScopedCheckContext outer({1, -1, 0});
    CHECK(netvm::check_context().node == 1);
    {
      const netvm::ScopedCheckContext inner({5, -1, 0});
      CHECK(netvm::check_context().node == 5);
    }
    CHECK(netvm::check_context().node == 1);
    std::thread([] { CHECK(netvm::check_context().node == -1); }).join();
  }
  CHECK(netvm::check_context().node == -1);
}

TEST_CASE("a log line is marked with its node and appears from its level on") {
  const Child child = run_in_child([] {
    netvm::check_context().node = 7;
    netvm::set_log_verbosity(netvm::kLogStart);
    netvm::log_line(netvm::kLogStart, "hello %s", "world");
    netvm::log_line(netvm::kLogDetail, "too much detail");
  });
  CHECK(child.signal == 0);
  CHECK(child.error_output == "netvm[node 7]: hello world\n");
}
