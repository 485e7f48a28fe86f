// The list of protocols: what commands, tests and pages name.
#include "dsm/protocol.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace netvm::dsm {
namespace {

TEST_CASE("each protocol has a name of its own, and is found by it") {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < protocols().size(); ++i) {
    const Traits& traits = protocols()[i].traits;
    CHECK(names.insert(traits.name).second);
    CHECK(find_protocol(traits.name) == static_cast<int>(i));
    CHECK_FALSE(traits.summary.empty());
    CHECK(to_string(traits.consistency) != "?");
  }
  CHECK(find_protocol("no such protocol") == -1);
  CHECK(find_protocol("") == -1);
}

TEST_CASE("the tests of all protocols run with all of them") {
  std::istringstream list{NETVM_PROTOCOLS};  // as tests/CMakeLists.txt has it
  std::set<std::string> tested;
  for (std::string name; std::getline(list, name, ',');) tested.insert(name);
  for (const ProtocolEntry& entry : protocols()) CHECK_MESSAGE(tested.contains(std::string(entry.traits.name)), entry.traits.name);
  CHECK(tested.size() == protocols().size());
}

TEST_CASE("each protocol has a page that says how it works") {
  for (const ProtocolEntry& entry : protocols()) {
    const std::string name(entry.traits.name);
    std::ifstream page(std::filesystem::path(NETVM_SOURCE_DIR) / "docs" / "protocols" / (name + ".md"));
    std::string title;
    CHECK_MESSAGE(static_cast<bool>(std::getline(page, title)), "docs/protocols/" << name << ".md is missing");
    CHECK_MESSAGE(title.starts_with("# " + name), title);
    std::string headings;
    for (std::string line; std::getline(page, line);) {
      if (line.starts_with("## ")) headings += line + "\n";
    }
    std::transform(headings.begin(), headings.end(), headings.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const char* const topic : {"states", "messages", "transitions", "invariants"})
      CHECK_MESSAGE(headings.find(topic) != std::string::npos, name << ".md: no heading says " << std::string(topic));
  }
}

}  // namespace
}  // namespace netvm::dsm
