// netvm-compare: its command line, the reports it reads, medians and the table.
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "apps/netvm-compare/report.hpp"
#include "apps/netvm-compare/table.hpp"

namespace netvm::compare {
namespace {

Options parse(std::vector<std::string> words) {
  std::vector<char*> arguments;
  words.insert(words.begin(), "netvm-compare");
  for (std::string& word : words) arguments.push_back(word.data());
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

Run run_of(std::uint32_t nodes, double seconds, const std::string& verified) {
  Run run;
  run.what = {0, nodes, "hlrc", "", ""};
  run.finished = true;
  run.timed_by_program = true;
  run.seconds = seconds;
  run.sequential_seconds = 6;
  run.verified = verified;
  return run;
}

TEST_CASE("the program's own flags are left to it") {
  for (const bool dashes : {false, true}) {
    std::vector<std::string> words = {"--nodes", "1,3", "--runs=2", "--run-flag=--threads=2"};
    if (dashes) words.emplace_back("--");
    words.insert(words.end(), {"radix", "-n", "5", "--nodes", "--"});
    const Options options = parse(words);
    CHECK(options.nodes == std::vector<std::uint32_t>{1, 3});
    CHECK(options.runs == 2);
    CHECK(options.run_flags == std::vector<std::string>{"--threads=2"});
    REQUIRE(options.programs.size() == 1);
    CHECK(options.programs[0] == Command{"radix", "-n", "5", "--nodes", "--"});
  }
}

TEST_CASE("programs come in order, quotes respected, and go back into a line") {
  const Options options = parse({"--program", "a 'b c' -d", "--program", "e"});
  REQUIRE(options.programs.size() == 2);
  CHECK(options.programs[0] == Command{"a", "b c", "-d"});
  CHECK(join_command(options.programs[0]) == "a 'b c' -d");
  CHECK(join_command({"it's"}) == "'it'\\''s'");
}

TEST_CASE("a command line that cannot be obeyed is refused") {
  CHECK_THROWS_AS(parse({}), UsageError);
  CHECK_THROWS_AS(parse({"--nodes", "0", "--", "a"}), UsageError);
  CHECK_THROWS_AS(parse({"--nodes", "two", "--", "a"}), UsageError);
  CHECK_THROWS_AS(parse({"--runs", "0", "--", "a"}), UsageError);
  CHECK_THROWS_AS(parse({"--minutes", "0", "--", "a"}), UsageError);
  CHECK_THROWS_AS(parse({"--no-such", "--", "a"}), UsageError);
  CHECK_THROWS_AS(parse({"--program", "'open"}), UsageError);
  CHECK_THROWS_AS(parse({"--program", "$(date)"}), UsageError);
}

TEST_CASE("a report's sums and annotations are read; anything else is refused") {
  Run run;
  CHECK_FALSE(read_report("", run));
  CHECK_FALSE(read_report("[1]", run));
  REQUIRE(read_report(R"({"seconds": 9, "stats": {"read_faults": 2, "write_faults": 3, "messages_sent": 5, "one_sided_ops": 7,
                          "message_bytes": 11, "one_sided_bytes": 13}, "annotations": {"seconds": "0.5", "verified": "yes"}})",
                      run));
  CHECK(run.seconds == 0.5);
  CHECK(run.timed_by_program);
  CHECK(run.verified == "yes");
  CHECK(run.page_faults == 5);
  CHECK(run.messages == 12);
  CHECK(run.bytes == 24);
  REQUIRE(read_report(R"({"seconds": 9})", run));
  CHECK_FALSE(run.timed_by_program);
  CHECK(run.seconds == 9);
}

TEST_CASE("a row has medians, and is right only if every run was") {
  Options options = parse({"--nodes", "1,2", "--protocols", "hlrc", "--", "prog"});
  const std::vector<Run> runs = {run_of(1, 3, "yes"),       run_of(2, 2, "yes"), run_of(1, 1, "yes"),
                                 run_of(2, 4, "no: wrong"), run_of(1, 2, "yes"), run_of(2, 3, "yes")};
  const std::vector<Row> rows = summarise(options, runs);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].seconds == 2);
  CHECK(rows[0].speed_up == 3);
  CHECK(rows[0].verdict == "yes");
  CHECK(rows[1].right == 2);
  CHECK(rows[1].verdict == "2 of 3, no: wrong");
  const std::string table = to_table(options, rows);
  CHECK(table.find("speed-up") != std::string::npos);
  CHECK(table.find("2 of 3, no: wrong") != std::string::npos);
  CHECK(to_json(options, runs, rows).find("\"verified\": \"2 of 3, no: wrong\"") != std::string::npos);
}

}  // namespace
}  // namespace netvm::compare
