// Jobs that end well.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>

#include "tests/cli/harness.hpp"

using namespace netvm::cli;

TEST_CASE("nodes find each other, and each other's memory") {
  for (const char* nodes : {"1", "2", "5"}) {
    const Ended ended = netvmrun({"-n", nodes, actor(), "join"});
    INFO("nodes ", nodes, ": ", ended.err);
    CHECK(ended.status == 0);
    CHECK(sorted_lines(ended.out).size() == std::stoul(nodes));
    CHECK(ended.err.empty());
    CHECK(netvmrun({"-n", nodes, actor(), "memory"}).status == 0);
  }
}

TEST_CASE("a job of 256 nodes starts and ends") {
  const Ended ended = netvmrun({"-n", "256", "--start-timeout", "60", actor(), "memory"});
  INFO(ended.err);
  CHECK(ended.status == 0);
  CHECK(sorted_lines(ended.out).size() == 256);
}

TEST_CASE("a program that is started alone is a job of one node") {
  Running running({.command = {actor(), "join"}});
  const Ended ended = running.wait();
  CHECK(ended.status == 0);
  CHECK(ended.out == "node 0 of 1\n");
}

TEST_CASE("any program can be started") {
  const Ended ended = netvmrun({"-n", "3", "sh", "-c", "printf '%s %s\\n' $0 $NETVM_NODE", "-n"});
  CHECK(ended.status == 0);
  CHECK(sorted_lines(ended.out) == std::vector<std::string>{"-n 0", "-n 1", "-n 2"});
}

TEST_CASE("options end at the program or at --") {
  CHECK(netvmrun({"--", "printf", "%s,%s", "--nodes", "--help"}).out == "--nodes,--help");
  CHECK(netvmrun({"-n1", "echo", "-n", "--tag"}).out == "--tag");
  CHECK(netvmrun({"--nodes=2", "--tag", "echo", "x"}).status == 0);
}

TEST_CASE("a wrapper script works, whether it becomes the program or waits for it") {
  CHECK(netvmrun({"-n", "2", "sh", "-c", "exec " + actor() + " join"}).status == 0);
  const Ended waiting = netvmrun({"-n", "2", "sh", "-c", actor() + " join; echo after"});
  CHECK(waiting.status == 0);
  CHECK(sorted_lines(waiting.out) == std::vector<std::string>{"after", "after", "node 0 of 2", "node 1 of 2"});
}

TEST_CASE("a job starts from another directory") {
  const Ended ended = netvmrun({"-n", "2", actor(), "join"}, {.directory = "/"});
  CHECK(ended.status == 0);
  CHECK(sorted_lines(ended.out).size() == 2);
}

TEST_CASE("two jobs at once do not disturb each other") {
  Running first({.command = netvmrun_command({"-n", "3", actor(), "hang"})});
  REQUIRE(first.wait_for_output("ready"));
  for (int i = 0; i < 3; ++i) CHECK(netvmrun({"-n", "3", actor(), "memory"}).status == 0);
  CHECK(netvmrun({"-n", "2", actor(), "crash", "1"}).status == 139);
  CHECK_FALSE(first.survivors(std::chrono::milliseconds(0)).empty());
  first.signal(SIGTERM);
  CHECK(first.wait().status == 143);
  CHECK(first.survivors(std::chrono::milliseconds(0)).empty());
}

TEST_CASE("a second process cannot join as the same node") {
  const Ended ended = netvmrun({"-n", "1", actor(), "join-twice"});
  CHECK(ended.status == 0);
  CHECK(contains(ended.out, "node 0 has joined already"));
}

TEST_CASE("what a node leaves behind in the background ends with the job") {
  const Ended ended = netvmrun({"-n", "2", "sh", "-c", "sleep 100 & echo started"});
  CHECK(ended.status == 0);
  CHECK(ended.seconds < 5);
}
