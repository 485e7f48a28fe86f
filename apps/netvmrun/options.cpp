#include "apps/netvmrun/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <deque>
#include <string_view>

#include "runtime/job_wire.hpp"
#include "runtime/settings.hpp"

namespace netvm::run {
namespace {

/// CLI11's application, with where its values go.
struct CommandLine {
  CLI::App app{"netvmrun"};
  Options options;
  bool help = false;
  bool version = false;
  std::string nodes;
  std::string timeout;
  std::string on_death;
  struct SettingValue {
    const SettingInfo* info;
    std::string flag;
    std::string value;  // of an option with a value
    CLI::Option* option;
    std::string constant;  // of a flag without one
  };
  std::deque<SettingValue> settings;  // a deque: CLI11 keeps pointers to the values
};

bool is_switch(const SettingInfo& info) { return info.value == "on|off"; }

void add_setting(CommandLine& line, const SettingInfo& info) {
  const std::string flag(info.flag);
  if (line.app.get_option_no_throw(flag) != nullptr) return;
  auto& value = line.settings.emplace_back(CommandLine::SettingValue{&info, flag, {}, nullptr, {}});
  if (is_switch(info)) {
    value.option = line.app.add_flag(flag);
    value.constant = "on";
    auto& opposite = line.settings.emplace_back(CommandLine::SettingValue{&info, "--no-" + flag.substr(2), {}, nullptr, "off"});
    opposite.option = line.app.add_flag(opposite.flag);
  } else if (info.variable == "NETVM_VERBOSE") {
    value.option = line.app.add_flag("-v," + flag);  // counted: -v -v is level 2
  } else {
    value.option = line.app.add_option(flag, value.value)->take_last();
  }
}

void define(CommandLine& line) {
  line.app.set_help_flag();  // ours is a manual page
  line.app.add_option("-n,--nodes", line.nodes)->take_last();
  line.app.add_option("--timeout", line.timeout)->take_last();
  line.app.add_option("--on-death", line.on_death)->take_last();
  line.app.add_option("--report", line.options.report)->take_last();
  line.app.add_flag("--tag", line.options.tag);
  line.app.add_flag("-h,--help", line.help);
  line.app.add_flag("-V,--version", line.version);
  for (const SettingInfo& info : setting_list()) {
    if (!info.flag.empty()) add_setting(line, info);
  }
}

[[noreturn]] void unknown_flag(const CommandLine& line, const std::string& flag) {
  std::vector<std::string> names;
  for (const CLI::Option* option : line.app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  std::sort(names.begin(), names.end());
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view near = nearest(flag, views);
  const std::string advice = near.empty() ? fmt::format("there are: -n {}", fmt::join(names, " ")) : fmt::format("did you mean {}?", near);
  throw UsageError(fmt::format("there is no option {}; {} (options of the program go after its name)", flag, advice));
}

/// How many of the arguments are netvmrun's own: they end before PROGRAM. "--" is counted with them.
std::size_t own_arguments(const CommandLine& line, const std::vector<std::string>& arguments) {
  std::size_t at = 0;
  while (at < arguments.size()) {
    const std::string& argument = arguments[at];
    if (argument == "--") return at + 1;
    if (argument.size() < 2 || argument[0] != '-') return at;
    const bool is_long = argument[1] == '-';
    const std::string name = is_long ? argument.substr(0, argument.find('=')) : argument.substr(0, 2);
    const CLI::Option* option = line.app.get_option_no_throw(name);
    if (option == nullptr) unknown_flag(line, is_long ? name : argument);
    const bool takes_value = option->get_items_expected_max() > 0;
    const bool has_value = is_long ? argument.find('=') != std::string::npos : argument.size() > 2;
    at += takes_value && !has_value ? 2 : 1;
    if (at > arguments.size()) throw UsageError(fmt::format("{} needs a value; see netvmrun --help", name));
  }
  return at;
}

std::uint32_t parse_nodes(const std::string& text) {
  const bool digits = !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos;
  const unsigned long value = digits ? std::stoul(text) : 0;
  if (value < 1 || value > job::kMaxNodes) {
    throw UsageError(fmt::format("-n {}: the number of nodes is a whole number from 1 to {}", text, job::kMaxNodes));
  }
  return static_cast<std::uint32_t>(value);
}

double parse_seconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value) || value <= 0 || value > 1e8) {
    throw UsageError(
        fmt::format("--timeout {}: the limit is a number of seconds greater than 0, as in --timeout 60 or --timeout 0.5", text));
  }
  return value;
}

bool parse_on_death(const std::string& text) {
  if (text != "end" && text != "continue")
    throw UsageError(fmt::format("--on-death {}: what happens when a node dies is end or continue", text));
  return text == "continue";
}

void collect_settings(CommandLine& line) {
  for (const auto& setting : line.settings) {
    if (setting.option->count() == 0) continue;
    std::string value = setting.constant.empty() ? setting.value : setting.constant;
    if (setting.info->variable == "NETVM_VERBOSE") value = std::to_string(std::min<std::size_t>(setting.option->count(), 2));
    line.options.settings.push_back({std::string(setting.info->variable), std::move(value), setting.flag});
  }
}

}  // namespace

Options parse_options(int argc, char** argv) {
  CommandLine line;
  define(line);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::size_t own = own_arguments(line, arguments);
  std::vector<std::string> reversed(arguments.begin(), arguments.begin() + static_cast<std::ptrdiff_t>(own));
  if (!reversed.empty() && reversed.back() == "--") reversed.pop_back();
  std::reverse(reversed.begin(), reversed.end());  // as CLI11 wants them
  try {
    line.app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}; see netvmrun --help", error.what()));
  }
  Options& options = line.options;
  if (line.help || line.version) {
    options.action = line.help ? Action::help : Action::version;
    return options;
  }
  if (!line.nodes.empty() || line.app.count("--nodes") > 0) options.nodes = parse_nodes(line.nodes);
  if (line.app.count("--timeout") > 0) options.timeout_s = parse_seconds(line.timeout);
  if (line.app.count("--on-death") > 0) options.outlives_nodes = parse_on_death(line.on_death);
  if (line.app.count("--report") > 0 && options.report.empty()) throw UsageError("--report needs the name of a file");
  options.program.assign(arguments.begin() + static_cast<std::ptrdiff_t>(own), arguments.end());
  if (options.program.empty())
    throw UsageError("no program given: netvmrun [OPTIONS] PROGRAM [ARGUMENTS...], as in netvmrun -n 4 ./program; see netvmrun --help");
  collect_settings(line);
  return options;
}

}  // namespace netvm::run
