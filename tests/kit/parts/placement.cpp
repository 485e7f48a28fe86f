// Placement: which node a pthreads program's next thread runs on.
#include "apps/kit/placement.hpp"

#include <doctest/doctest.h>

#include <string>

#include "netvm/netvm.hpp"

namespace netvm::kit {
namespace {

std::string first(std::string_view text, int nodes, int threads_per_node = 1) {
  const Placement placement = Placement::parse(text, nodes, threads_per_node);
  std::string out;
  for (std::uint64_t n = 0; n < 8; ++n) out += std::to_string(placement.node_of(n));
  return out;
}

std::string refusal(std::string_view text, int nodes) {
  try {
    static_cast<void>(Placement::parse(text, nodes, 1));
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("in turn, in blocks, or by a list") {
  CHECK(first("", 3) == "01201201");
  CHECK(first("cyclic", 3) == "01201201");
  CHECK(first("cyclic", 1) == "00000000");
  CHECK(first("block", 2, 3) == "00011100");
  CHECK(first("block:2", 3) == "00112200");
  CHECK(first("2,0,0", 3) == "20020020");
  CHECK(first("1", 2) == "11111111");
  CHECK(Placement::parse("cyclic", 3, 1).node_of(UINT64_MAX) == static_cast<int>(UINT64_MAX % 3));
}

TEST_CASE("what is no placement is refused with what is right") {
  for (const char* text :
       {"3", "0,3", "-1", "0,", ",", "0,,1", "block:0", "block:", "block:1025", "block:x", "blocks", "Cyclic", "cyclic ", "1 2"}) {
    const std::string said = refusal(text, 3);
    CHECK_MESSAGE(said.find(text) != std::string::npos, said);
    CHECK_MESSAGE(said.find("Right are cyclic, block, block:N") != std::string::npos, said);
  }
}

}  // namespace
}  // namespace netvm::kit
