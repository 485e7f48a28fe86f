// Jobs in which a node fails: the others end within 2 s, the message names the node, nothing is left (netvmrun() checks that).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <chrono>
#include <csignal>

#include "tests/cli/harness.hpp"

using namespace netvm::cli;
using namespace std::chrono_literals;

namespace {

void ends(const std::vector<std::string>& arguments, int status, const std::vector<std::string>& parts, double seconds = 2.0) {
  const Ended ended = netvmrun(arguments);
  INFO("stderr: ", ended.err);
  CHECK(ended.status == status);
  CHECK(ended.seconds < seconds);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(contains(ended.err, part));
  }
}

}  // namespace

TEST_CASE("a node that exits ends the job with its status and its name") {
  ends({"-n", "3", actor(), "exit", "1", "7"}, 7, {"netvmrun: node 1 (pid ", "exited with status 7", "ending the other nodes"});
}

TEST_CASE("a node that crashes ends the job, and the signal is named") {
  ends({"-n", "4", actor(), "crash", "2"}, 139, {"netvmrun: node 2 (pid ", "killed by signal 11", "Segmentation fault"});
}

TEST_CASE("nodes that ignore the request to end are killed") {
  ends({"-n", "3", actor(), "crash-stubborn", "0"}, 139, {"netvmrun: node 0 (pid "});
}

TEST_CASE("a node that exits with 0 in the middle of the job is a failure, too") {
  ends({"-n", "3", actor(), "exit", "2", "0"}, 1, {"netvmrun: node 2 (pid ", "status 0", "without leaving"});
}

TEST_CASE("a node that ends without joining is named when others wait for it") {
  ends({"-n", "3", actor(), "absent", "1"}, 1, {"netvmrun: node 1 (pid ", "without ever joining"});
}

TEST_CASE("nodes that do not come in time are named") {
  ends({"-n", "3", "--start-timeout", "1", actor(), "stall", "1"}, 1, {"nodes 0, 2 waited 1 s for node 1", "never joined"}, 3.5);
}

TEST_CASE("a node that finds something broken ends the job with its reason") {
  ends({"-n", "3", actor(), "abort", "1"}, 1, {"netvmrun: node 1 (pid ", "the counters disagree"});
}

TEST_CASE("a node that fails after it has left gives the job its status") {
  ends({"-n", "3", actor(), "fail-after-leaving", "2", "5"}, 5, {"node 2 (pid ", "exited with status 5"});
}

TEST_CASE("a program that dies inside a wrapper script ends the job") {
  ends({"-n", "3", "sh", "-c", actor() + " crash 1; sleep 100"}, 1, {"node 1 (pid ", "without leaving"});
}

TEST_CASE("a plain program's failure ends the others") {
  ends({"-n", "3", "sh", "-c", "[ $NETVM_NODE != 1 ] || exit 3; exec sleep 100"}, 3, {"node 1 (pid ", "status 3"});
}

TEST_CASE("the time limit ends the job") { ends({"-n", "3", "--timeout", "0.5", actor(), "hang"}, 124, {"0.5 s", "--timeout"}); }

TEST_CASE("different executables cannot form a job") {
  // The copy differs in its build id, or in size and time.
  const std::string script =
      "if [ $NETVM_NODE = 0 ]; then exec " + actor() + " join; else exec " + std::string(OTHER_ACTOR_PATH) + " join; fi";
  const Ended ended = netvmrun({"-n", "2", "sh", "-c", script});
  INFO(ended.err);
  CHECK(ended.status == 97);
  CHECK(contains(ended.err, "another executable"));
  CHECK(ended.seconds < 2);
}

TEST_CASE("nothing survives the launcher's violent death") {
  const std::string plain = actor() + " hang";
  for (const std::string& command : {"exec " + plain, plain + "; true", plain + " & sleep 1000; true"}) {
    INFO(command);
    Running running({.command = netvmrun_command({"-n", "3", "sh", "-c", command})});
    REQUIRE(running.wait_for_output("ready"));
    running.signal(SIGKILL);
    CHECK(running.wait().status == 128 + SIGKILL);
    CHECK(running.survivors(2s).empty());
    CHECK(shared_files().empty());
  }
}
