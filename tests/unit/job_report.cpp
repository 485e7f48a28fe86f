// The report of a job: what the nodes said, put together.
#include "runtime/job_report.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

using nlohmann::json;

namespace {

std::string node_report(int node) {
  const auto counts = [node](int faults) {
    return json{{"read_faults", faults + node}, {"fault_ns", 1000 * (faults + node)}, {"twins", 0}};
  };
  json report;
  report["stats"] = counts(30);
  report["protocols"]["hlrc"] = {{"peak_bytes", 100}, {"stats", counts(10)}};
  if (node == 1) report["protocols"]["lrc"] = {{"peak_bytes", 7}, {"stats", counts(20)}};
  report["regions"] = json::array();
  report["regions"].push_back(
      {{"name", "grid"}, {"offset", 8192}, {"address", "0x2000"}, {"bytes", 5000}, {"protocol", "hlrc"}, {"stats", counts(5)}});
  report["regions"].push_back({{"name", ""},
                               {"offset", 4096},
                               {"address", "0x1000"},
                               {"bytes", 4096},
                               {"protocol", "lrc"},
                               {"small_objects", true},
                               {"stats", counts(9)}});
  report["regions"].push_back({{"name", ""}, {"offset", 0}, {"bytes", 0}, {"protocol", "hlrc"}, {"stats", counts(1)}});
  return report.dump();
}

bool has_line(const std::string& text, const std::vector<std::string>& words) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::size_t at = begin;
    bool all = true;
    for (const std::string& word : words) {
      at = text.find(word, at);
      all = all && at != std::string::npos && at + word.size() <= end;
      if (!all) break;
      at += word.size();
    }
    if (all) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

TEST_CASE("job_report: tables by node, by protocol and by allocation") {
  const std::vector<std::string> reports{node_report(0), node_report(1)};
  const std::string text = netvm::job::format_stats(reports);
  CAPTURE(text);
  CHECK(has_line(text, {"statistic", "node 0", "node 1", "total"}));
  CHECK(has_line(text, {"read_faults", "30", "31", "61"}));
  CHECK(has_line(text, {"of protocol", "hlrc", "lrc"}));
  CHECK(has_line(text, {"read_faults", "21", "21"}));  // 10 + 11 of hlrc; node 1 alone used lrc
  CHECK(has_line(text, {"peak_bytes", "200", "7"}));
  CHECK(has_line(text, {"grid", "0x2000", "hlrc", "5'000", "11'000", "11"}));
  CHECK(has_line(text, {"(small objects)", "0x1000", "lrc", "4'096", "19'000", "19"}));
  CHECK(has_line(text, {"(freed)", "hlrc", "3'000"}));
  CHECK(text.find("(small objects)") < text.find("grid"));  // it waited longer
  CHECK(text.find("twins") == std::string::npos);
  CHECK(text.find("docs/statistics.md") != std::string::npos);
}

TEST_CASE("job_report: of many allocations the table has those that waited longest") {
  json report = {{"stats", {{"read_faults", 1}}}};
  for (int i = 1; i <= 50; ++i)
    report["regions"].push_back(
        {{"name", fmt::format("a{}", i)}, {"offset", i}, {"bytes", 1}, {"protocol", "erc"}, {"stats", {{"fault_ns", i}}}});
  const std::string text = netvm::job::format_stats(std::vector{report.dump()});
  CHECK(text.find("a50 ") != std::string::npos);
  CHECK(text.find("a31 ") != std::string::npos);
  CHECK(text.find("a30 ") == std::string::npos);
  CHECK(text.find("30 more") != std::string::npos);
}

TEST_CASE("job_report: sums over the nodes in the file, also where one has said nothing") {
  const std::vector<std::string> reports{node_report(0), "", node_report(1)};
  netvm::job::JobSummary summary;
  summary.nodes = 3;
  const json merged = json::parse(netvm::job::merge_reports(summary, reports));
  CHECK(merged["stats"]["read_faults"] == 61);
  CHECK(merged["protocols"]["hlrc"]["stats"]["read_faults"] == 21);
  CHECK(merged["protocols"]["hlrc"]["peak_bytes"] == 200);
  CHECK(merged["protocols"]["lrc"]["stats"]["read_faults"] == 21);
  REQUIRE(merged["regions"].size() == 3);
  CHECK(merged["regions"][2]["name"] == "grid");
  CHECK(merged["regions"][2]["address"] == "0x2000");
  CHECK(merged["regions"][2]["stats"]["read_faults"] == 11);
  CHECK(merged["node"][0]["regions"][0]["stats"]["read_faults"] == 5);
}
