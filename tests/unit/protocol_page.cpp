// docs/protocols/writing-one.md shows a protocol that is compiled and tested: the page's code, piece after piece, is the file.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace {

std::string contents(const std::string& name) {
  std::ifstream in(std::string(NETVM_SOURCE_DIR) + "/" + name);
  REQUIRE_MESSAGE(in.good(), name);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The C++ pieces of a page, with an empty line between two.
std::string code_of(const std::string& page) {
  std::istringstream in(page);
  std::string code;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line == "```cpp" && !code.empty()) code += "\n";
    if (inside && line != "```") code += line + "\n";
    inside = line == "```cpp" || (inside && line != "```");
  }
  return code;
}

}  // namespace

TEST_CASE("protocol_page: the protocol of docs/protocols/writing-one.md is the one that is tested") {
  const bool same = code_of(contents("docs/protocols/writing-one.md")) == contents("tests/support/refresh_protocol.hpp");
  CHECK_MESSAGE(same, "change the page and the file together");
}
