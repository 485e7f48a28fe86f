// Bad input: nothing starts, the message says what was wrong and what would be right, the exit status is 2 (or 126, 127).
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/cli/harness.hpp"

using namespace netvm::cli;

namespace {

/// A directory of its own, gone afterwards.
class TemporaryDirectory {
 public:
  TemporaryDirectory() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    for (const std::string& file : files_) ::unlink(file.c_str());
    ::rmdir(path_.c_str());
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  std::string file(const std::string& name, const std::string& text, mode_t mode) {
    files_.push_back(path_ + "/" + name);
    std::ofstream(files_.back()) << text;
    ::chmod(files_.back().c_str(), mode);
    return files_.back();
  }
  void forget_later(const std::string& name) { files_.push_back(path_ + "/" + name); }

 private:
  std::string path_ = "/tmp/netvm-cli-XXXXXX";
  std::vector<std::string> files_;
};

void refused(const std::vector<std::string>& arguments, int status, const std::vector<std::string>& parts) {
  const Ended ended = netvmrun(arguments);
  CHECK(ended.status == status);
  CHECK(ended.out.empty());
  for (const std::string& part : parts) {
    INFO("'", part, "' in: ", ended.err);
    CHECK(contains(ended.err, part));
  }
}

}  // namespace

TEST_CASE("a memory budget that is too little, and a backing file that cannot be made, are refused before anything starts") {
  refused({"-n", "2", "--memory", "4K", actor(), "sleep"}, 2, {"--memory", "\"4K\"", "unlimited, or 320K and more"});
  refused({"-n", "2", "--backing", "/no/such/place", actor(), "sleep"}, 2,
          {"--backing /no/such/place", "there is no folder /no/such", "give a folder"});
  TemporaryDirectory here;
  here.file("pages.1", "precious", 0644);
  refused({"-n", "2", "--memory", "1M", "--backing", here.path() + "/pages", actor(), "sleep"}, 2,
          {"pages.1 exists, and NetVM overwrites nothing"});
  CHECK(netvmrun({"-n", "1", "--memory", "1M", "--backing", here.path() + "/pages", actor(), "memory"}).status == 0);
}

TEST_CASE("an unknown program is refused before anything starts") {
  refused({"-n", "2", "no-such-program"}, 127, {"no-such-program", "PATH"});
  refused({"-n", "2", "./no-such-program"}, 127, {"./no-such-program"});
  refused({"-n", "2", "/tmp"}, 126, {"/tmp", "directory"});
}

TEST_CASE("a program in the current directory is named in the advice, one that is not executable too") {
  TemporaryDirectory here;
  here.file("tool", "#!/bin/sh\necho ran $NETVM_NODE\n", 0755);
  const std::string data = here.file("data", "text\n", 0644);
  const Ended plain = netvmrun({"-n", "1", "tool"}, {.directory = here.path()});
  CHECK(plain.status == 127);
  CHECK(contains(plain.err, "./tool"));
  const Ended relative = netvmrun({"-n", "2", "./tool"}, {.directory = here.path()});
  CHECK(relative.status == 0);
  CHECK(sorted_lines(relative.out) == std::vector<std::string>{"ran 0", "ran 1"});
  const Ended searched = netvmrun({"-n", "1", "tool"}, {.environment = {{"PATH", here.path() + ":/usr/bin:/bin"}}});
  CHECK(searched.out == "ran 0\n");
  if (::geteuid() != 0 || ::access(data.c_str(), X_OK) != 0) refused({data}, 126, {data, "chmod"});
}

TEST_CASE("a wrong number of nodes is refused") {
  for (const char* nodes : {"0", "abc", "-1", "257", "4x", "", "99999999999"}) {
    INFO("-n ", nodes);
    refused({"-n", nodes, actor(), "join"}, 2, {"-n", "1 to 256"});
  }
  refused({"-n"}, 2, {"-n", "value"});
}

TEST_CASE("an unknown flag is refused, and the nearest one named") {
  refused({"--nodez", "2", actor()}, 2, {"--nodez", "--nodes"});
  refused({"--protocoll=hlrc", actor()}, 2, {"--protocoll", "--protocol"});
  refused({"-x", actor()}, 2, {"-x", "--nodes"});
}

TEST_CASE("an unknown protocol is refused, and the right ones named") {
  refused({"-n", "2", "--protocol", "hlrx", actor(), "join"}, 2, {"hlrx", "hlrc", "sc-directory"});
}

TEST_CASE("an unknown trap is refused, and the right ones named") {
  refused({"-n", "2", "--trap", "magic", actor(), "join"}, 2, {"--trap", "magic", "userfaultfd", "mprotect", "checked"});
}

TEST_CASE("a malformed or unknown variable is refused before anything starts") {
  const Ended wrong = netvmrun({"-n", "2", actor(), "join"}, {.environment = {{"NETVM_THREADS", "many"}}});
  CHECK(wrong.status == 2);
  CHECK(contains(wrong.err, "NETVM_THREADS"));
  const Ended unknown = netvmrun({"-n", "2", actor(), "join"}, {.environment = {{"NETVM_PROTOKOL", "hlrc"}}});
  CHECK(unknown.status == 2);
  CHECK(contains(unknown.err, "NETVM_PROTOKOL"));
  CHECK(contains(unknown.err, "NETVM_PROTOCOL"));
}

TEST_CASE("without a program there is a hint") {
  refused({}, 2, {"no program", "--help"});
  refused({"-n", "2"}, 2, {"no program"});
  refused({"-n", "2", "--"}, 2, {"no program"});
}

TEST_CASE("a bad time limit is refused") {
  for (const char* limit : {"0", "-3", "soon", "nan", ""}) refused({"--timeout", limit, actor(), "join"}, 2, {"--timeout"});
}

TEST_CASE("a report that cannot be written is refused before the start") {
  refused({"--report", "/no/such/directory/report.json", actor(), "flood"}, 2, {"/no/such/directory"});
  refused({"--report", "/tmp", actor(), "flood"}, 2, {"/tmp", "directory"});
}

TEST_CASE("the report holds the outcome, each node's statistics and their sums") {
  TemporaryDirectory here;
  here.forget_later("report.json");
  const Ended ended = netvmrun({"-n", "3", "--report", "report.json", "--stats", actor(), "join"}, {.directory = here.path()});
  CHECK(ended.status == 0);
  std::ifstream file(here.path() + "/report.json");
  const std::string report((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (const char* part :
       {"\"exit_status\": 0", "\"outcome\": \"ok\"", "\"widgets\": 6000", "\"widgets\": 1000", "\"nodes\": 3", "node 2 was"}) {
    INFO(part, " in ", report);
    CHECK(contains(report, part));
  }
  CHECK(contains(ended.err, "6'000"));  // the table of --stats
}

TEST_CASE("help reads like a manual page, and lists the settings") {
  const Ended ended = netvmrun({"--help"});
  CHECK(ended.status == 0);
  for (const char* part :
       {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "--protocol", "NETVM_TRAP"}) {
    INFO(part);
    CHECK(contains(ended.out, part));
  }
  CHECK(contains(netvmrun({"--version"}).out, "NetVM"));
}
