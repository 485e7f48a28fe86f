// Stats: every counter has a name, and additions of several threads all count.
#include "runtime/stats.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

using netvm::Stat;
using netvm::Stats;

TEST_CASE("every counter has a name of its own") {
  std::set<std::string> names;
  for (std::size_t i = 0; i < netvm::kStatCount; ++i) names.emplace(netvm::stat_name(static_cast<Stat>(i)));
  CHECK(names.size() == netvm::kStatCount);
  CHECK(names.count("unknown") == 0);
  CHECK(netvm::stat_name(Stat::kCount) == "unknown");
}

TEST_CASE("docs/statistics.md says what each counter counts") {
  std::ifstream file(std::string(NETVM_SOURCE_DIR) + "/docs/statistics.md");
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  REQUIRE(!page.empty());
  for (std::size_t i = 0; i < netvm::kStatCount; ++i) {
    const std::string name(netvm::stat_name(static_cast<Stat>(i)));
    CHECK_MESSAGE(page.find("`" + name + "`") != std::string::npos, name << " is missing");
  }
}

TEST_CASE("counters start at 0, count apart, and lose no addition") {
  Stats stats;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&stats] {
      for (int i = 0; i < 10'000; ++i) {
        stats.add(Stat::diffs);
        stats.add(Stat::diff_bytes, 3);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(stats.get(Stat::diffs) == 40'000);
  CHECK(stats.get(Stat::diff_bytes) == 120'000);
  CHECK(stats.get(Stat::twins) == 0);
}

TEST_CASE("more threads than columns, one after the other and at once, lose no addition") {
  Stats stats;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 40; ++t) {
      threads.emplace_back([&stats] {
        for (int i = 0; i < 500; ++i) stats.add(Stat::twins);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (int t = 0; t < 100; ++t) std::thread([&stats] { stats.add(Stat::twins); }).join();
  CHECK(stats.get(Stat::twins) == 3 * 40 * 500 + 100);
}
