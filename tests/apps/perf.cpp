// netvm-perf's parts: sizes, statistics, tables, the pin-down cache.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <list>
#include <sstream>
#include <vector>

#include "apps/netvm-perf/options.hpp"
#include "apps/netvm-perf/pin_cache.hpp"
#include "apps/netvm-perf/plot.hpp"
#include "apps/netvm-perf/stats.hpp"
#include "apps/netvm-perf/table.hpp"
#include "apps/netvm-perf/thesis_table.hpp"
#include "runtime/ids.hpp"

using namespace netvm;
using namespace netvm::perf;

namespace {

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "netvm-perf");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return parse_options(static_cast<int>(argv.size()), argv.data());
}

/// What the command line's refusal says; empty if it was taken.
std::string refusal(const std::vector<std::string>& words) {
  try {
    static_cast<void>(parse(words));
  } catch (const UsageError& error) {
    CHECK(error.exit_status() == 2);
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Kilobytes that this process has locked.
long locked_kb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmLck:")) return std::stol(line.substr(6));
  }
  return -1;
}

}  // namespace

TEST_CASE("sizes are lists, ranges of powers of two, or both") {
  CHECK(parse_sizes("8") == std::vector<std::uint64_t>{8});
  CHECK(parse_sizes("8:64") == std::vector<std::uint64_t>{8, 16, 32, 64});
  CHECK(parse_sizes("24:104") == std::vector<std::uint64_t>{24, 48, 96});
  CHECK(parse_sizes("64K,8,1M,8:16") == std::vector<std::uint64_t>{8, 16, 65536, 1048576});
  for (const char* wrong :
       {"", "7", "12", "0", "8,", ",8", "8:", ":8", "64:8", "8..64", "128M", "4G", "-8", "8 16", "1e3", "99999999999999"}) {
    INFO(wrong);
    CHECK_THROWS_AS(static_cast<void>(parse_sizes(wrong)), UsageError);
  }
}

TEST_CASE("the command line: defaults, and what is wrong with a wrong one") {
  CHECK(parse({}).command == Command::basic);
  CHECK(parse({"--quick"}).command == Command::basic);
  CHECK(parse({"latency"}).sizes.back() == 4U << 20);
  CHECK(parse({"latency", "--between", "0", "2"}).nodes == 3);
  CHECK(parse({"bandwidth", "-w", "8", "--mode=packet", "--op", "get"}).window == 8);
  CHECK(parse({"bandwidth"}).verbs == Verbs::queue_pair);
  CHECK(parse({"message-rate", "--by", "post"}).verbs == Verbs::posted);
  CHECK(contains(refusal({"bandwidth", "--by", "magic"}), "--by"));
  CHECK(parse({"thesis"}).seconds == 1);
  CHECK(contains(refusal({"latencyy"}), "did you mean latency?"));
  CHECK(contains(refusal({"frobnicate"}), "message-rate"));
  CHECK(contains(refusal({"latency", "--siezs", "8"}), "did you mean --sizes?"));
  CHECK(contains(refusal({"atomics", "--sizes", "8"}), "atomics has no option --sizes"));
  CHECK(contains(refusal({"latency", "8"}), "'8' is not expected"));
  CHECK(contains(refusal({"latency", "--between", "1", "1"}), "two different nodes"));
  CHECK(contains(refusal({"latency", "--between", "0", "4", "-n", "3"}), "nodes 0 to 2"));
  CHECK(contains(refusal({"latency", "--mode", "fast"}), "packet"));
  CHECK(contains(refusal({"latency", "--op", "push"}), "get"));
  CHECK(contains(refusal({"bandwidth", "--window", "0"}), "--window"));
  CHECK(contains(refusal({"latency", "--plot", "x.gif"}), ".svg"));
}

TEST_CASE("every option and sub-command of the help is in the document") {
  std::ifstream file(std::filesystem::path(NETVM_SOURCE_DIR) / "docs/apps/netvm-perf.md");
  std::ostringstream text;
  text << file.rdbuf();
  for (const Command command : all_commands()) {
    CHECK(contains(help_text(), std::string(name_of(command))));
    INFO(name_of(command));
    CHECK(contains(text.str(), fmt::format("`{}`", name_of(command))));
    const std::string help = help_text(command);
    for (const char* part : {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES"}) CHECK(contains(help, part));
    for (const OptionInfo& option : options_of(command)) {
      const std::string name(option.flags.substr(option.flags.find("--")));
      INFO(name);
      CHECK(contains(help, name));
      CHECK(contains(text.str(), name));
    }
  }
}

TEST_CASE("order statistics") {
  const std::vector<double> values = {5, 1, 4, 2, 3};
  CHECK(median(values) == 3);
  CHECK(quantile(values, 0) == 1);
  CHECK(quantile(values, 1) == 5);
  CHECK(quantile({}, 0.5) == 0);
}

TEST_CASE("the bootstrap interval: deterministic, holds the median, narrows with the batches, sees noise") {
  Mixer random(3);
  const auto draw = [&](int n, std::uint64_t noise) {
    std::vector<double> values;
    for (int i = 0; i < n; ++i) values.push_back(1000 + static_cast<double>(random.below(noise)));
    return values;
  };
  const auto few = draw(15, 200);
  const auto many = draw(1001, 200);
  const Interval a = bootstrap_median(few);
  const Interval again = bootstrap_median(few);
  CHECK(a.low == again.low);
  CHECK(a.high == again.high);
  CHECK(a.low <= a.value);
  CHECK(a.value <= a.high);
  CHECK(bootstrap_median(many).spread() < a.spread());
  CHECK(bootstrap_median(draw(31, 2000)).spread() > kNoisySpread);
  CHECK(bootstrap_median(std::vector<double>(31, 7)).spread() == 0);
  CHECK(bootstrap_median({}).value == 0);
}

TEST_CASE("the interval covers the true median about as often as it says") {
  Mixer random(11);
  int covered = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> values;
    for (int i = 0; i < 31; ++i) values.push_back(static_cast<double>(random.below(1001)));
    const Interval interval = bootstrap_median(values, static_cast<std::uint64_t>(trial));
    covered += interval.low <= 500 && 500 <= interval.high ? 1 : 0;
  }
  CHECK(covered >= kTrials * 88 / 100);
  CHECK(covered < kTrials);
}

TEST_CASE("paired ratios forgive what hits both arms") {
  std::vector<double> a;
  std::vector<double> b;
  for (int i = 0; i < 31; ++i) {
    const double disturbance = i % 4 == 0 ? 5 : 1;
    b.push_back(100 * disturbance);
    a.push_back(110 * disturbance);
  }
  const Interval ratio = paired_ratio(a, b);
  CHECK(ratio.value == doctest::Approx(1.1));
  CHECK(ratio.spread() < 1e-9);
  b[0] = 0;  // nothing measured: left out
  CHECK(paired_ratio(a, b).value == doctest::Approx(1.1));
}

TEST_CASE("tables survive JSON, and CSV quotes what it must") {
  Table table;
  table.title = "a \"title\"";
  table.columns = {{"bytes", "bytes", 0}, {"what", "what", 0, true}, {"us", "us", 2, false, false}};
  table.rows = {{8.0, "a, b", 0.125}, {16.0, "c \"d\"", {}}};
  table.notes = {"a note"};
  table.plot = {"bytes", {"us"}, "x", "y", true};
  const Table back = read_json(to_json(table));
  CHECK(back.title == table.title);
  CHECK(back.rows == table.rows);
  CHECK(back.notes == table.notes);
  CHECK(back.plot.y == table.plot.y);
  CHECK(to_csv(back) == "bytes,what,us\n8,\"a, b\",0.125\n16,\"c \"\"d\"\"\",\n");
  CHECK(to_text(back) == "# a \"title\"\nbytes  what\n    8  a, b\n   16  c \"d\"\n# a note\n");
  const std::string script = gnuplot_script(back, "it's.svg");
  CHECK(contains(script, "set output 'it''s.svg'"));
  CHECK(contains(script, "16 NaN"));
  CHECK(contains(script, "title 'us'"));
  table.plot.by = {"what"};  // a line for each
  const std::string lines = gnuplot_script(read_json(to_json(table)), "x.svg");
  CHECK(contains(lines, "$data0 << END_OF_DATA\n8 0.125\nEND_OF_DATA"));
  CHECK(contains(lines, "using 1:2 with linespoints title 'a, b', $data1 using 1:2 with linespoints title 'c "));
}

TEST_CASE("the thesis's table says what is met and counts what is missed") {
  Table table = make_thesis_table();
  add_figure(table, "good", "<= 1.05", {1.0, 0.99, 1.01}, {1.05, 1.01});
  add_figure(table, "bad", "0.945", {0.9, 0.89, 0.91}, {0.945, 0.995, true});
  add_figure(table, "unclear", "-", {1.04, 0.99, 1.06}, {1.05, std::nullopt});
  add_figure(table, "free", "-", {9, 8, 10}, {});
  CHECK(missed(table) == 1);
  finish_thesis_table(table);
  const std::string text = to_text(table);
  CHECK(contains(text, "<= 1.05   met"));
  CHECK(contains(text, ">= 0.945  not met"));
  CHECK(contains(text, "undecided"));
  CHECK(contains(text, "at free: the machine was not quiet"));
}

TEST_CASE("the pin-down cache is an LRU over blocks that are really pinned, and only they") {
  constexpr std::size_t kCapacity = 16;
  constexpr std::size_t kBlocks = 100;
  if (!cannot_pin(kCapacity * kPageSize).empty()) {
    MESSAGE(cannot_pin(kCapacity * kPageSize));
    return;
  }
  auto* memory = static_cast<std::byte*>(::mmap(nullptr, kBlocks * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(memory != MAP_FAILED);
  const long before = locked_kb();
  {
    PinCache cache(kCapacity, kPageSize);
    std::list<std::size_t> model;  // newest first
    std::uint64_t hits = 0;
    Mixer random(5);
    for (int i = 0; i < 5000; ++i) {
      const std::size_t block = random.below(2) == 0 ? random.below(10) : random.below(kBlocks);
      cache.pin(memory + block * kPageSize + random.below(kPageSize - 8), 8);
      const auto known = std::find(model.begin(), model.end(), block);
      if (known != model.end()) {
        ++hits;
        model.erase(known);
      } else if (model.size() == kCapacity) {
        model.pop_back();
      }
      model.push_front(block);
      REQUIRE(cache.hits() == hits);
      REQUIRE(cache.pinned() == model.size());
    }
    for (std::size_t block = 0; block < kBlocks; ++block) {
      CHECK(cache.holds(memory + block * kPageSize) == (std::find(model.begin(), model.end(), block) != model.end()));
    }
    CHECK(cache.misses() == 5000 - hits);
    CHECK(locked_kb() - before == static_cast<long>(kCapacity * kPageSize / 1024));
    cache.pin(memory + kPageSize - 4, 8);  // touches two blocks
    CHECK(cache.holds(memory));
    CHECK(cache.holds(memory + kPageSize));
  }
  CHECK(locked_kb() == before);
  ::munmap(memory, kBlocks * kPageSize);
}
