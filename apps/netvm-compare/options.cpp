#include "apps/netvm-compare/options.hpp"

#include <fmt/format.h>
#include <wordexp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string_view>

#include "apps/common/gnuplot.hpp"

namespace netvm::compare {
namespace {

constexpr const char* kPurpose = R"(Runs programs under netvmrun with each number of nodes and each protocol, and prints one table: seconds,
speed-up over the sequential run, whether the answer was right, page faults, messages and bytes.)";

constexpr const char* kFooter =
    R"(Each combination runs --runs times; the runs of all combinations take turns, so that a disturbance of the machine does not
hit one combination alone. The table shows medians and, of several runs, the fastest and the slowest. A program says what it measured with netvm::Job::annotate():
  "seconds"             the timed section; without it, the time of the whole job is shown, marked with *
  "sequential_seconds"  the same work by one processor without NetVM; the speed-up is the median of all of a program's by the seconds
  "verified"            "yes", or "no: why"
page faults are read and write faults, messages are packets to a handler and one-sided operations on other nodes' memory, bytes are what
both carried; all are sums over the nodes and the whole job, the checking of the answer included. --json has every statistic (docs/statistics.md).
--times and --plot divide the time of all application threads (thread_ns in docs/statistics.md) into computing, page wait, lock wait, barriers, imbalance (what a
barrier waited for the last thread) and protocol (finding and flushing changes, acting on notices); handlers of messages come on top. The first bar
of each program is 100.

Exit status: 0; 1 if a run failed or its answer was not verified; 2 if the command line is wrong.

Examples:
  netvm-compare --nodes 1,2,4 -- radix -n 1048576
  netvm-compare --program "radix -n 1048576" --program "fft -m 16" --protocols hlrc --runs 5 --json table.json
  netvm-compare --nodes 2,4 --protocols hlrc,scope,sc-directory --times --plot times.png -- ocean -n 258)";

class Formatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return "Usage: netvm-compare [OPTIONS] [--] PROGRAM [ARGUMENTS...]\n       netvm-compare [OPTIONS] --program \"PROGRAM ARGUMENTS...\" "
           "...\n";
  }
};

/// The first argument that is neither an option nor an option's value: there the program begins.
int program_begins(const CLI::App& app, int argc, char** argv) {
  int at = 1;
  while (at < argc && argv[at][0] == '-' && std::string_view(argv[at]) != "--") {
    const std::string word = argv[at];
    const bool is_long = word.size() > 1 && word[1] == '-';
    const CLI::Option* option = app.get_option_no_throw(is_long ? word.substr(0, word.find('=')) : word.substr(0, 2));
    const bool value_follows =
        option != nullptr && option->get_items_expected_max() > 0 && (is_long ? word.find('=') == std::string::npos : word.size() == 2);
    at += value_follows ? 2 : 1;
  }
  return std::min(at, argc);
}

std::vector<std::uint32_t> parse_nodes(const std::vector<std::string>& words) {
  std::vector<std::uint32_t> nodes;
  for (const std::string& word : words) {
    const bool digits = !word.empty() && word.size() <= 4 && word.find_first_not_of("0123456789") == std::string::npos;
    const unsigned long value = digits ? std::stoul(word) : 0;
    if (value == 0) throw CLI::ValidationError("--nodes", fmt::format("'{}' is not a list of numbers of nodes, such as 1,2,4", word));
    nodes.push_back(static_cast<std::uint32_t>(value));
  }
  return nodes;
}

}  // namespace

Command split_command(const std::string& text) {
  wordexp_t words{};
  const int failed = ::wordexp(text.c_str(), &words, WRDE_NOCMD | WRDE_UNDEF);
  Command command;
  if (failed == 0) command.assign(words.we_wordv, words.we_wordv + words.we_wordc);
  if (failed == 0 || failed == WRDE_NOSPACE) ::wordfree(&words);
  if (failed != 0 || command.empty()) {
    throw UsageError(fmt::format("netvm-compare: --program '{}' is not a program with its arguments, such as \"radix -n 1048576\"\n", text),
                     2);
  }
  return command;
}

std::string join_command(const Command& command) {
  std::string line;
  for (const std::string& word : command) {
    if (!line.empty()) line += ' ';
    const bool plain = !word.empty() && word.find_first_of(" \t\n'\"\\$&|;<>()*?[]#~`!{}") == std::string::npos;
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

Options parse_options(int argc, char** argv) {
  Options options;
  CLI::App app(kPurpose, "netvm-compare");
  app.set_help_flag("-h,--help", "Print this and end.");
  app.formatter(std::make_shared<Formatter>());
  app.get_formatter()->column_width(26);
  std::vector<std::string> nodes;
  std::vector<std::string> programs;
  app.add_option("-n,--nodes", nodes, "Numbers of nodes, separated by commas.")->delimiter(',')->option_text("N,... [1,2,4]");
  app.add_option("--protocols", options.protocols, "Protocols, separated by commas.")
      ->delimiter(',')
      ->option_text("NAME,... [hlrc,sc-directory]");
  app.add_option("--traps", options.traps, "Traps, separated by commas. Default: the one that netvmrun chooses.")
      ->delimiter(',')
      ->option_text("NAME,...");
  app.add_option("--granularity", options.granularities, "Sizes of coherence units, separated by commas. Default: netvmrun's.")
      ->delimiter(',')
      ->option_text("BYTES,...");
  app.add_option("--program", programs, "A program with its arguments, in one word. May be repeated.")
      ->option_text("\"PROGRAM ARGS\"")
      ->allow_extra_args(false);
  app.add_option("--runs", options.runs, "Run each combination N times and show medians.")
      ->option_text("N [1]")
      ->check(CLI::Range(1U, 1000U));
  app.add_option("--minutes", options.minutes, "Begin no further turn that would end after M minutes. Each combination runs once at least.")
      ->option_text("M")
      ->check(CLI::Range(0.01, 1e6));
  app.add_option("--timeout", options.timeout_s, "End a run that has taken this long; it counts as failed.")
      ->option_text("SECONDS [300]")
      ->check(CLI::Range(0.1, 1e6));
  app.add_option("--run-flag", options.run_flags, "One more flag for netvmrun, such as --run-flag=--threads=2. May be repeated.")
      ->option_text("FLAG")
      ->allow_extra_args(false);
  app.add_option("--json", options.json, "Also write every run and the table to FILE.")->option_text("FILE");
  app.add_flag("--times", options.times, "Also print where the threads' time went, in per cent, and the mean latency of a lock.");
  app.add_option("--plot", options.plot, "Also draw that as stacked bars, as FILE.png or FILE.svg. Needs gnuplot (Debian: gnuplot-nox).")
      ->option_text("FILE");
  app.add_option("--netvmrun", options.netvmrun, "The netvmrun to use. Default: the one beside this program, then the one in PATH.")
      ->option_text("PATH");
  app.add_flag("-q,--quiet", options.quiet, "No progress on the terminal.");
  app.footer(kFooter);
  const int program = program_begins(app, argc, argv);
  try {
    app.parse(program, argv);
    if (!nodes.empty()) options.nodes = parse_nodes(nodes);
  } catch (const CLI::CallForHelp&) {
    throw UsageError(app.help(), 0);
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("netvm-compare: {}\nSee netvm-compare --help.\n", error.what()), 2);
  }
  for (const std::string& text : programs) options.programs.push_back(split_command(text));
  const int words = program < argc && std::string_view(argv[program]) == "--" ? program + 1 : program;
  if (words < argc) options.programs.emplace_back(argv + words, argv + argc);
  if (options.programs.empty()) {
    throw UsageError("netvm-compare: no program given; for instance netvm-compare -- radix -n 1048576\nSee netvm-compare --help.\n", 2);
  }
  if (const std::string why = options.plot.empty() ? std::string() : tools::cannot_plot(options.plot); !why.empty()) {
    throw UsageError(fmt::format("netvm-compare: {}\n", why), 2);
  }
  return options;
}

}  // namespace netvm::compare
