// netvm-compare: its command line, the reports it reads, medians and the table.
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "apps/netvm-compare/report.hpp"
#include "apps/netvm-compare/table.hpp"
#include "apps/netvm-compare/times.hpp"

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

TEST_CASE("where the time went: shares add up to the threads' time, handlers on top; a bar for each row") {
  Options options = parse({"--nodes", "1,2", "--protocols", "hlrc", "--", "prog", "it's"});
  Run run;
  run.what = {0, 2, "hlrc", "", ""};
  run.finished = true;
  REQUIRE(read_report(
      R"({"seconds": 9, "stats": {"thread_ns": 10000000000, "fault_ns": 1000000000, "lock_wait_ns": 2000000000, "lock_acquires": 4, "barrier_wait_ns": 3000000000,
                          "barrier_imbalance_ns": 1000000000, "protocol_ns": 1000000000, "handler_ns": 500000000}})",
      run));
  CHECK(run.thread_seconds == 10);
  const std::vector<Row> rows = summarise(options, {run});
  REQUIRE(rows.size() == 2);
  CHECK(shares_of(rows[0]).empty());  // never ran
  const std::vector<Share> shares = shares_of(rows[1]);
  // Computing: 10 less 1 of pages, 1 of imbalance, 2 and 2 of locks and barriers, of which 1 is the protocol's.
  const std::vector<double> expected = {4, 1, 1.5, 1.5, 1, 1, 0.5};
  REQUIRE(shares.size() == expected.size());
  for (std::size_t i = 0; i < shares.size(); ++i) CHECK(shares[i].seconds == doctest::Approx(expected[i]));
  const std::string table = to_times_table(options, rows);
  CHECK(table.find("computing %") != std::string::npos);
  CHECK(table.find("500000.00") != std::string::npos);  // microseconds a lock
  const std::string script = times_script(options, rows, "a.png");
  CHECK(script.find("newhistogram 'prog ''it''\\''''s'''") != std::string::npos);
  CHECK(script.find("\"hlrc 2\" 40.0000 10.0000 15.0000 15.0000 10.0000 10.0000 5.0000\n") != std::string::npos);
  CHECK_THROWS_AS(parse({"--plot", "a.gif", "--", "prog"}), UsageError);
}

TEST_CASE("a run that failed has no seconds, whatever it did until then") {
  const Options options = parse({"--nodes", "1", "--protocols", "hlrc", "--", "prog"});
  Run failed = run_of(1, 0.5, "");
  failed.finished = false;
  failed.trouble = "exit status 1";
  const std::vector<Row> rows = summarise(options, {failed});
  CHECK(rows[0].seconds == 0);
  CHECK(to_table(options, rows).find("0.5") == std::string::npos);
}

TEST_CASE("the fastest is named, with those that these runs do not tell apart from it, and what too few processors mean") {
  const Options options = parse({"--nodes", "2,4", "--protocols", "hlrc,lrc,scope", "--runs", "3", "--", "prog"});
  std::vector<Run> runs;
  const auto add = [&](const char* protocol, std::vector<double> seconds) {
    for (const double s : seconds) {
      runs.push_back(run_of(2, s, "yes"));
      runs.back().what.protocol = protocol;
    }
  };
  add("hlrc", {1.0, 1.1, 1.5});
  add("lrc", {1.4, 1.6, 1.7});
  add("scope", {3, 3, 3});
  const std::vector<Row> rows = summarise(options, runs);
  CHECK(to_table(options, rows).find("1 to 1.5") != std::string::npos);
  CHECK(to_notes(options, rows, 8) == "fastest on 2 nodes: hlrc; not told apart from it by these runs: lrc\n");
  CHECK(to_notes(options, rows, 2).find("4 nodes share 2 processors here") != std::string::npos);
}

}  // namespace
}  // namespace netvm::compare
