#include "apps/netvm-perf/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>

#include "apps/common/gnuplot.hpp"
#include "dsm/protocol.hpp"

namespace netvm::perf {
namespace {

constexpr OptionInfo kNodes = {"-n,--nodes", "N", "Nodes of the job that is started, 2 to 64. Default: as many as --between needs."};
constexpr OptionInfo kBetween = {"--between", "A B",
                                 "The two nodes to measure between: A measures, towards B. The others sleep. Default: 0 1."};
constexpr OptionInfo kSizes = {"-s,--sizes", "LIST",
                               "Sizes in bytes, multiples of 8 up to 64M, with suffixes K and M: a list 8,64,4K, a range of powers of two "
                               "8:4M, or both 8:1K,64K. Default: "};
constexpr OptionInfo kMode = {"--mode", "direct|packet",
                              "How requests travel: direct, the initiator executes the target's firmware step; packet, through the ring to "
                              "the target. Default: direct."};
constexpr OptionInfo kBatches = {"--batches", "N", "Batches of each arm, 3 to 1001; medians and intervals are over batches. Default: 31."};
constexpr OptionInfo kIterations = {"-i,--iterations", "N", "Operations a batch. Default: as many as fit into --seconds."};
constexpr OptionInfo kSeconds = {"--seconds", "S", "Time to spend on a size (or a row), about. Default: 0.25."};
constexpr OptionInfo kThesisSeconds = {"--seconds", "S", "Time to spend on a figure, about. Default: 1."};
constexpr OptionInfo kOnly = {
    "--only", "LIST",
    "Only these groups of figures: pinning, dynamic, minimum, goodput, sync, notify, faults, peer, simulated; separated by commas. "
    "Default: all."};
constexpr OptionInfo kWarmup = {"--warmup", "N", "Operations before the first batch of an arm. Default: 100."};
constexpr OptionInfo kWindow = {"-w,--window", "N", "Operations in flight, 1 to 4096. Default: 64."};
constexpr OptionInfo kVerbs = {
    "--by", "qp|post|wait",
    "How the operations are given: qp, on a queue pair; post, as posted operations with a completion each, the oldest "
    "waited for when the window is full; wait, one after the other with a verb that blocks (--window means nothing). "
    "Default: qp."};
constexpr OptionInfo kOp = {"--op", "put|get", "The operation. Default: put."};
constexpr OptionInfo kJson = {"--json", "FILE", "Also write the table, with the machine and the settings, as JSON."};
constexpr OptionInfo kCsv = {"--csv", "FILE", "Also write the table as comma-separated values."};
constexpr OptionInfo kPlot = {"--plot", "FILE", "Also draw it, as FILE.png or FILE.svg. Needs gnuplot (Debian: gnuplot-nox)."};
constexpr OptionInfo kProtocol = {"--protocol", "LIST", "Coherence protocols to measure: names with commas between. Default: all."};
constexpr OptionInfo kQuick = {"--quick", "", "A few short batches, to see that everything runs. The figures mean little."};
constexpr OptionInfo kQuiet = {"-q,--quiet", "", "No progress line on the terminal."};
constexpr OptionInfo kCheck = {"--check", "", "End with status 3 if a figure misses what it must reach. Without it, figures never fail."};

bool has_sizes(Command command) {
  return command == Command::latency || command == Command::bandwidth || command == Command::message_rate || command == Command::notify ||
         command == Command::faults;
}

[[noreturn]] void refuse(const std::string& what) { throw UsageError("netvm-perf: " + what + "\n", 2); }

std::uint64_t parse_size(const std::string& word, const std::string& list) {
  const auto wrong = [&](const std::string& why) {
    refuse(fmt::format("--sizes {}: {}; sizes are multiples of 8 from 8 to 64M, such as 8:4M or 8,64,4K", list, why));
  };
  const std::size_t digits = std::min(word.find_first_not_of("0123456789"), word.size());
  const std::string suffix = word.substr(digits);
  if (digits == 0 || digits > 9 || !(suffix.empty() || suffix == "K" || suffix == "M" || suffix == "k" || suffix == "m"))
    wrong(fmt::format("'{}' is not a size", word));
  const std::uint64_t unit = suffix.empty() ? 1 : (suffix == "K" || suffix == "k") ? 1024 : 1024 * 1024;
  const std::uint64_t bytes = std::stoull(word.substr(0, digits)) * unit;
  if (bytes < 8 || bytes > kLargestSize || bytes % 8 != 0) wrong(fmt::format("{} is out of range or no multiple of 8", word));
  return bytes;
}

/// What CLI11 fills; converted and checked afterwards, so that messages are ours.
struct Raw {
  std::vector<int> between;
  std::string sizes;
  std::string mode;
  std::string verbs;
  std::string protocols;
  std::string only;
};

void add(CLI::App& app, const OptionInfo& info, Options& o, Raw& raw) {
  const std::string flags(info.flags);
  const std::string name = flags.substr(flags.find("--"));
  if (name == "--nodes") app.add_option(flags, o.nodes)->check(CLI::Range(2, 64));
  if (name == "--between") app.add_option(flags, raw.between)->expected(2);
  if (name == "--sizes") app.add_option(flags, raw.sizes);
  if (name == "--mode") app.add_option(flags, raw.mode)->check(CLI::IsMember({"direct", "packet"}));
  if (name == "--by") app.add_option(flags, raw.verbs)->check(CLI::IsMember({"qp", "post", "wait"}));
  if (name == "--batches") app.add_option(flags, o.batches)->check(CLI::Range(3, 1001));
  if (name == "--iterations") app.add_option(flags, o.iterations)->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}));
  if (name == "--seconds") app.add_option(flags, o.seconds)->check(CLI::Range(0.001, 3600.0));
  if (name == "--warmup") app.add_option(flags, o.warmup)->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1'000'000'000}));
  if (name == "--window") app.add_option(flags, o.window)->check(CLI::Range(1, 4096));
  if (name == "--protocol") app.add_option(flags, raw.protocols);
  if (name == "--only") app.add_option(flags, raw.only);
  if (name == "--op") app.add_option(flags, o.op)->check(CLI::IsMember({"put", "get"}));
  if (name == "--json") app.add_option(flags, o.json);
  if (name == "--csv") app.add_option(flags, o.csv);
  if (name == "--plot") app.add_option(flags, o.plot);
  if (name == "--quick") app.add_flag(flags, o.quick);
  if (name == "--quiet") app.add_flag(flags, o.quiet);
  if (name == "--check") app.add_flag(flags, o.check);
}

[[noreturn]] void unknown_option(const std::string& word, Command command) {
  std::vector<std::string> names;
  for (const OptionInfo& info : options_of(command)) names.emplace_back(info.flags.substr(info.flags.find("--")));
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string name = word.substr(0, word.find('='));
  const std::string_view near = nearest(name, views);
  if (!word.starts_with("-"))
    refuse(fmt::format("{}: '{}' is not expected here; see netvm-perf {} --help", name_of(command), word, name_of(command)));
  refuse(fmt::format("{} has no option {}{}", name_of(command), name,
                     near.empty() ? fmt::format("; it has: {}", fmt::join(names, " ")) : fmt::format("; did you mean {}?", near)));
}

/// The sub-command, and where its options begin.
Command find_command(int argc, char** argv, int* begin) {
  *begin = 1;
  if (argc < 2 || argv[1][0] == '-') return Command::basic;
  *begin = 2;
  std::vector<std::string_view> names;
  for (const Command command : all_commands()) {
    if (name_of(command) == argv[1]) return command;
    names.push_back(name_of(command));
  }
  const std::string_view near = nearest(argv[1], names);
  refuse(fmt::format("there is no sub-command '{}'{}; there are: {}", argv[1], near.empty() ? "" : fmt::format(" (did you mean {}?)", near),
                     fmt::join(names, ", ")));
}

void check_between(Options& o, const Raw& raw, bool nodes_given) {
  if (!raw.between.empty()) o.between = {raw.between[0], raw.between[1]};
  const auto [a, b] = o.between;
  if (a == b || a < 0 || b < 0 || a >= 64 || b >= 64)
    refuse(fmt::format("--between {} {}: two different nodes, 0 to 63, such as --between 0 2", a, b));
  if (!nodes_given) o.nodes = std::max({2, a + 1, b + 1});
  if (std::max(a, b) >= o.nodes)
    refuse(fmt::format("--between {} {}: a job of {} nodes has nodes 0 to {}; raise --nodes", a, b, o.nodes, o.nodes - 1));
}

/// The words of a list with commas between; each must be `known`. Throws UsageError: `what` says what such a word names.
std::vector<std::string> parse_words(std::string_view flag, const std::string& list, std::string_view what,
                                     const std::vector<std::string_view>& known) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= list.size() && !list.empty();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    words.push_back(list.substr(at, end - at));
    at = end + 1;
    if (std::find(known.begin(), known.end(), words.back()) != known.end()) continue;
    const std::string_view near = nearest(words.back(), known);
    refuse(fmt::format("{} {}: there is no {} '{}'; {}", flag, list, what, words.back(),
                       near.empty() ? fmt::format("there are: {}", fmt::join(known, ", ")) : fmt::format("did you mean {}?", near)));
  }
  return words;
}

std::vector<std::string_view> protocol_names() {
  std::vector<std::string_view> names;
  for (const dsm::ProtocolEntry& entry : dsm::protocols()) names.push_back(entry.traits.name);
  return names;
}

void check_outputs(const Options& o) {
  if (o.plot.empty()) return;
  // Inside the job that this program starts, the outer one has looked.
  if (const std::string why = tools::cannot_plot(o.plot); o.collect.empty() && !why.empty()) refuse(why);
}

}  // namespace

std::string_view name_of(Command command) {
  constexpr std::array<std::string_view, 10> kNames = {"basic",     "dsm",          "sync",    "thesis", "latency",
                                                       "bandwidth", "message-rate", "atomics", "notify", "faults"};
  return kNames[static_cast<std::size_t>(command)];
}

std::vector<Command> all_commands() {
  return {Command::basic,     Command::dsm,          Command::sync,    Command::thesis, Command::latency,
          Command::bandwidth, Command::message_rate, Command::atomics, Command::notify, Command::faults};
}

std::vector<OptionInfo> options_of(Command command) {
  if (command == Command::basic || command == Command::sync) return {kBatches, kJson, kQuick, kQuiet};
  if (command == Command::dsm) return {kProtocol, kBatches, kJson, kQuick, kQuiet};
  if (command == Command::thesis) return {kOnly, kBatches, kThesisSeconds, kJson, kCsv, kCheck, kQuick, kQuiet};
  std::vector<OptionInfo> options = {kNodes, kBetween};
  if (has_sizes(command)) options.push_back(kSizes);
  if (command == Command::latency || command == Command::bandwidth || command == Command::message_rate) options.push_back(kOp);
  if (command == Command::bandwidth || command == Command::message_rate) options.insert(options.end(), {kVerbs, kWindow});
  options.insert(options.end(), {kMode, kBatches, kIterations, kSeconds, kWarmup, kJson, kCsv});
  if (has_sizes(command)) options.push_back(kPlot);
  options.insert(options.end(), {kQuick, kQuiet});
  return options;
}

std::vector<std::string_view> thesis_groups() {
  return {"pinning", "dynamic", "minimum", "goodput", "sync", "notify", "faults", "peer", "simulated"};
}

bool wants(const Options& options, std::string_view group) {
  return options.only.empty() || std::find(options.only.begin(), options.only.end(), group) != options.only.end();
}

std::string default_sizes(Command command) {
  switch (command) {
    case Command::message_rate:
      return "8:4K";
    case Command::notify:
      return "8";
    case Command::faults:
      return "4K";
    default:
      return "8:4M";
  }
}

std::vector<std::uint64_t> parse_sizes(const std::string& text) {
  std::vector<std::uint64_t> sizes;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    const std::size_t colon = word.find(':');
    if (colon == std::string::npos) {
      sizes.push_back(parse_size(word, text));
    } else {
      const std::uint64_t first = parse_size(word.substr(0, colon), text);
      const std::uint64_t last = parse_size(word.substr(colon + 1), text);
      if (first > last) refuse(fmt::format("--sizes {}: the range {} is empty; the smaller size comes first", text, word));
      for (std::uint64_t size = first; size <= last; size *= 2) sizes.push_back(size);
    }
    at = end + 1;
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

Options parse_options(int argc, char** argv) {
  Options o;
  int begin = 1;
  if (argc >= 2 && (std::strcmp(argv[1], "-h") == 0 || std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "help") == 0))
    throw UsageError(help_text(), 0);
  o.command = find_command(argc, argv, &begin);
  o.op = "put";
  Raw raw;
  CLI::App app;
  bool help = false;
  app.set_help_flag();
  app.add_flag("-h,--help", help);
  for (const OptionInfo& info : options_of(o.command)) add(app, info, o, raw);
  app.add_option("--collect", o.collect);
  app.add_option("--progress", o.progress);
  std::vector<std::string> words(argv + begin, argv + argc);
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app.allow_extras();
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    refuse(fmt::format("{}: {}; see netvm-perf {} --help", name_of(o.command), error.what(), name_of(o.command)));
  }
  if (help) throw UsageError(help_text(o.command), 0);
  if (const auto extras = app.remaining(); !extras.empty()) unknown_option(extras.front(), o.command);
  const CLI::Option* nodes = app.get_option_no_throw("--nodes");
  check_between(o, raw, nodes != nullptr && nodes->count() > 0);
  if (has_sizes(o.command)) o.sizes = parse_sizes(raw.sizes.empty() ? default_sizes(o.command) : raw.sizes);
  o.only = parse_words("--only", raw.only, "group", thesis_groups());
  o.mode_given = !raw.mode.empty();
  if (raw.mode == "packet") o.mode = ShmMode::packet;
  if (!raw.verbs.empty()) o.verbs = raw.verbs == "qp" ? Verbs::queue_pair : raw.verbs == "post" ? Verbs::posted : Verbs::blocking;
  o.protocols = parse_words("--protocol", raw.protocols, "protocol", protocol_names());
  check_outputs(o);
  if (o.command == Command::thesis && app.count("--seconds") == 0) o.seconds = 1;
  if (o.quick) {
    o.batches = 3;
    o.seconds = std::min(o.seconds, 0.01);
    o.warmup = std::min<std::uint64_t>(o.warmup, 10);
  }
  return o;
}

}  // namespace netvm::perf
