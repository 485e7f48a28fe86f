// netvm-perf as a user starts it: every sub-command starts and finishes, inside a job too; a signal ends everything.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/cli/harness.hpp"

using namespace netvm::cli;

namespace {

namespace fs = std::filesystem;

/// A directory of its own, gone afterwards.
struct Folder {
  Folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~Folder() { fs::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path + "/" + name).rdbuf();
    return text.str();
  }
  std::string path = "/tmp/netvm-cli-XXXXXX";
};

Start perf(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), NETVM_PERF_PATH);
  return {.command = std::move(arguments)};
}

Ended run(const Start& start) {
  Running running(start);
  Ended ended = running.wait();
  INFO(ended.err);
  CHECK(running.survivors(std::chrono::seconds(5)).empty());
  return ended;
}

}  // namespace

TEST_CASE("every sub-command that measures between two nodes starts, finishes, and prints its table") {
  const std::vector<std::vector<std::string>> commands = {{"latency", "--sizes", "8,4K"},
                                                          {"latency", "--op", "get", "--sizes", "8,64K"},
                                                          {"bandwidth", "--sizes", "64K"},
                                                          {"message-rate", "--sizes", "8"},
                                                          {"message-rate", "--sizes", "8", "--by", "wait"},
                                                          {"bandwidth", "--sizes", "4K", "--by", "post"},
                                                          {"atomics"},
                                                          {"notify"},
                                                          {"faults", "--sizes", "8,64K"}};
  for (const char* mode : {"direct", "packet"}) {
    for (std::vector<std::string> words : commands) {
      words.insert(words.end(), {"--quick", "--mode", mode});
      const Ended ended = run(perf(words));
      INFO(words[0], " ", std::string(mode), ": ", ended.err);
      CHECK(ended.status == 0);
      CHECK(ended.err.empty());
      CHECK(contains(ended.out, mode));
      CHECK(contains(ended.out, "ratio"));
    }
  }
}

TEST_CASE("JSON and CSV go to files, which are checked before anything starts") {
  const Folder folder;
  Start start = perf({"latency", "--quick", "--sizes", "8,64", "--json", "table.json", "--csv", "table.csv"});
  start.directory = folder.path;
  CHECK(run(start).status == 0);
  for (const char* part : {"\"bytes\": 8.0", "\"median_us\":", "\"ratio_low\":", "\"kernel\":"})
    CHECK(contains(folder.read("table.json"), part));
  CHECK(folder.read("table.csv").starts_with("bytes,median_us,"));
  const Ended refused = run(perf({"latency", "--json", "/no/such/folder/table.json"}));
  CHECK(refused.status == 2);
  CHECK(contains(refused.err, "/no/such/folder/table.json"));
  CHECK(refused.out.empty());
}

TEST_CASE("--plot without gnuplot names the package; with it there is a picture") {
  const Folder folder;
  Start without = perf({"latency", "--quick", "--sizes", "8", "--plot", "x.png"});
  without.directory = folder.path;
  without.environment = {{"PATH", folder.path}};
  const Ended refused = run(without);
  CHECK(refused.status == 2);
  CHECK(contains(refused.err, "gnuplot-nox"));
  // A program of that name that draws nothing but keeps what it was told.
  std::ofstream(folder.path + "/gnuplot") << "#!/bin/sh\n/bin/cat > " << folder.path << "/script\n";
  ::chmod((folder.path + "/gnuplot").c_str(), 0755);
  Start with = without;
  with.command = {NETVM_PERF_PATH, "notify", "--quick", "--sizes", "8,4K", "--plot", "x.svg"};
  CHECK(run(with).status == 0);
  CHECK(contains(folder.read("script"), "set output 'x.svg'"));
  CHECK(contains(folder.read("script"), "title 'ordered, spin', "));  // a line for each mechanism
  std::ofstream(folder.path + "/gnuplot") << "#!/bin/sh\nexit 3\n";
  const Ended failed = run(with);
  CHECK(failed.status == 1);
  CHECK(contains(failed.err, "gnuplot could not draw"));
}

TEST_CASE("inside a job it measures between that job's nodes") {
  const Ended ended = netvmrun({"-n", "3", NETVM_PERF_PATH, "latency", "--between", "0", "2", "--quick", "--sizes", "8"});
  INFO(ended.err);
  CHECK(ended.status == 0);
  CHECK(contains(ended.out, "node 0 to node 2 of 3"));
  const Ended alone = netvmrun({"-n", "1", NETVM_PERF_PATH, "latency", "--quick"});
  CHECK(alone.status == 1);
  CHECK(contains(alone.err, "netvmrun -n 2"));
  const Ended other = netvmrun({"-n", "2", NETVM_PERF_PATH, "latency", "--quick", "--mode", "packet"});
  CHECK(other.status == 1);
  CHECK(contains(other.err, "netvmrun --shm packet"));
}

TEST_CASE("a signal ends the job, and nothing is left") {
  const Folder folder;
  for (const int number : {SIGINT, SIGTERM}) {
    Start start = perf({"latency", "--seconds", "60"});
    start.environment = {{"TMPDIR", folder.path}};
    Running running(start);
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    running.signal(number);
    const Ended ended = running.wait();
    CHECK(ended.status == 128 + number);
    CHECK(running.survivors(std::chrono::seconds(5)).empty());
    CHECK(fs::is_empty(folder.path));
  }
}

TEST_CASE("help reads like a manual page") {
  const Ended ended = run(perf({"--help"}));
  CHECK(ended.status == 0);
  for (const char* part : {"NAME", "SYNOPSIS", "SUB-COMMANDS", "EXAMPLES", "message-rate"}) CHECK(contains(ended.out, part));
  CHECK(contains(run(perf({"thesis", "--help"})).out, "--check"));
  CHECK(run(perf({"lateny"})).status == 2);
}
