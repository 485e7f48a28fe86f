// Status and Result: names, sentences, and a Result that holds what was put into it.
#include "runtime/status.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>

using netvm::Result;
using netvm::Status;

TEST_CASE("every status has a name and a sentence of its own") {
  std::set<std::string> names;
  std::set<std::string> sentences;
  for (int code = 0; code <= static_cast<int>(Status::forked); ++code) {
    const auto status = static_cast<Status>(code);
    names.emplace(netvm::to_string(status));
    sentences.emplace(netvm::describe(status));
    CHECK(netvm::to_string(status) != "unknown status");
    CHECK_FALSE(netvm::describe(status).empty());
  }
  CHECK(names.size() == static_cast<std::size_t>(Status::forked) + 1);
  CHECK(sentences.size() == static_cast<std::size_t>(Status::forked) + 1);
  CHECK(netvm::to_string(Status::ok) == "ok");
  CHECK(netvm::to_string(Status::stale_epoch) == "E_STALE_EPOCH");
}

TEST_CASE("docs/nic.md says of every status when it comes") {
  std::ifstream file(NETVM_SOURCE_DIR "/docs/nic.md");
  std::map<std::string, std::string> rows;  // by status
  for (std::string line; std::getline(file, line);) {
    const std::size_t end = line.starts_with("| ") ? line.find(" | `") : std::string::npos;
    if (end != std::string::npos) rows[line.substr(2, end - 2)] = line;
  }
  for (int code = 0; code <= static_cast<int>(Status::forked); ++code) {
    const std::string name(netvm::to_string(static_cast<Status>(code)));
    CHECK_MESSAGE(rows.contains(name), name);
  }
}

TEST_CASE("a number that is no status is named so instead of read out of bounds") {
  CHECK(netvm::to_string(static_cast<Status>(200)) == "unknown status");
  CHECK_FALSE(netvm::describe(static_cast<Status>(200)).empty());
}

TEST_CASE("a result holds a value or the reason why there is none") {
  const Result<int> good = 7;
  CHECK(good.has_value());
  CHECK(*good == 7);
  CHECK(good.status() == Status::ok);

  const Result<int> bad = Status::key;
  CHECK_FALSE(static_cast<bool>(bad));
  CHECK(bad.status() == Status::key);
}

TEST_CASE("a result can carry what can only be moved") {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
  const std::unique_ptr<int> taken = std::move(result).value();
  CHECK(*taken == 3);
}
