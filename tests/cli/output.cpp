// The nodes' output and input.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/cli/harness.hpp"

using namespace netvm::cli;

namespace {

/// The lines that the actor's "print" makes on one stream of all nodes.
std::vector<std::string> printed(const std::string& stream, int nodes, int lines, int length) {
  std::vector<std::string> expected;
  for (int node = 0; node < nodes; ++node) {
    for (int line = 0; line < lines; ++line) {
      expected.push_back(
          fmt::format("{} {} {} {}", stream, node, line, std::string(static_cast<std::size_t>(length), static_cast<char>('a' + node))));
    }
  }
  std::sort(expected.begin(), expected.end());
  return expected;
}

}  // namespace

TEST_CASE("lines of several nodes never mix and none is lost") {
  const Ended ended = netvmrun({"-n", "4", actor(), "print", "3000", "20"});
  CHECK(ended.status == 0);
  CHECK((sorted_lines(ended.out) == printed("out", 4, 3000, 20)));
  CHECK((sorted_lines(ended.err) == printed("err", 4, 3000, 20)));
}

TEST_CASE("long lines stay whole") {
  const Ended ended = netvmrun({"-n", "3", actor(), "print", "10", "200000"});
  CHECK(ended.status == 0);
  CHECK((sorted_lines(ended.out) == printed("out", 3, 10, 200000)));
}

TEST_CASE("tags name the node of each line") {
  const Ended ended = netvmrun({"-n", "3", "--tag", "sh", "-c", "echo a; printf 'b\\nc'"});
  CHECK(sorted_lines(ended.out + "\n").size() >= 7);
  for (const char* line : {"[0] a\n", "[1] a\n", "[2] b\n", "[2] c"}) CHECK(contains(ended.out, line));
}

TEST_CASE("binary output and a last line without an end come through") {
  std::string expected;
  for (int i = 0; i < 4 * 256; ++i) expected += static_cast<char>(i % 256);
  for (const char* nodes : {"1", "2"}) CHECK((netvmrun({"-n", nodes, actor(), "binary"}).out == expected));
}

TEST_CASE("what a node said before it died is heard, before the message of its death") {
  const Ended ended = netvmrun({"-n", "2", "sh", "-c", "[ $NETVM_NODE = 0 ] && exec sleep 100; printf 'last words' >&2; kill -9 $$"});
  CHECK(ended.status == 137);
  const auto words = ended.err.find("last words");
  REQUIRE(words != std::string::npos);
  CHECK(words < ended.err.find("netvmrun: node 1"));
}

TEST_CASE("node 0 reads the standard input, the others an empty one") {
  const Ended ended = netvmrun({"-n", "3", actor(), "echo-input"}, {.input = "some text"});
  CHECK(ended.status == 0);
  CHECK(sorted_lines(ended.out) == std::vector<std::string>{"node 0 read 'some text'", "node 1 read ''", "node 2 read ''"});
}

TEST_CASE("when nobody reads the output any more, the job ends") {
  const Ended ended = netvmrun({"-n", "3", actor(), "flood"}, {.closed_output = true});
  CHECK(ended.status == 141);
  CHECK(ended.seconds < 3);
  CHECK(contains(ended.err, "reader of the standard output is gone"));
}

TEST_CASE("output that cannot be written is an error that says why, during the job and at its end") {
  const Ended flood = netvmrun({"-n", "2", actor(), "flood"}, {.output_file = "/dev/full"});
  CHECK(flood.status == 1);
  CHECK(flood.seconds < 3);
  CHECK(contains(flood.err, "writing to the standard output failed: No space left on device; ending the job"));
  const Ended late = netvmrun({"-n", "1", "echo", "lost"}, {.output_file = "/dev/full"});
  CHECK(late.status == 1);
  CHECK(contains(late.err, "writing to the standard output failed: No space left on device"));
}

TEST_CASE("a node that floods does not keep another from being heard, nor the job from ending") {
  const Ended ended = netvmrun({"-n", "2", "--timeout", "1", "sh", "-c",
                                "[ $NETVM_NODE = 0 ] && exec " + actor() + " flood; sleep 0.3; echo quiet voice; exec sleep 100"});
  CHECK(ended.status == 124);
  CHECK(ended.seconds < 8);
  CHECK(contains(ended.out, "quiet voice\n"));
}
