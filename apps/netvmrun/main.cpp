// netvmrun: starts a job of several nodes on this machine. See help.cpp for what it promises.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>

#include "apps/netvmrun/launcher.hpp"
#include "apps/netvmrun/options.hpp"
#include "apps/netvmrun/program_path.hpp"
#include "apps/netvmrun/report_file.hpp"
#include "netvm/netvm.hpp"
#include "runtime/job_report.hpp"
#include "runtime/settings.hpp"

namespace netvm::run {
namespace {

constexpr int kUsageStatus = 2;

/// Why nodes cannot make their backing files there (runtime/backing_store.hpp), as far as it can be seen before they start; empty: they can.
std::string backing_obstacle(const std::string& path, std::uint32_t nodes) {
  namespace files = std::filesystem;
  std::error_code error;
  const bool is_folder = files::is_directory(path, error);
  files::path folder = is_folder ? files::path(path) : files::path(path).parent_path();
  if (folder.empty()) folder = ".";
  if (!files::is_directory(folder, error)) return fmt::format("there is no folder {}", folder.string());
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    return fmt::format("no file can be made in {}: {}", folder.string(), std::strerror(errno));
  for (std::uint32_t node = 0; !is_folder && node < nodes; ++node) {
    const std::string file = fmt::format("{}.{}", path, node);
    if (files::exists(files::symlink_status(file, error))) return fmt::format("{} exists, and NetVM overwrites nothing", file);
  }
  return {};
}

/// Puts the flags into the environment, where the nodes find them, and judges each as the nodes would.
Settings apply_settings(const Options& options) {
  Settings settings;
  try {
    settings = Settings::from_environment();
  } catch (const SettingError& error) {
    throw UsageError(error.what());
  }
  for (const auto& assignment : options.settings) {
    ::setenv(assignment.variable.c_str(), assignment.value.c_str(), 1);
    try {
      settings = Settings::from_environment();
    } catch (const SettingError& error) {
      throw UsageError(fmt::format("{}: {}", assignment.flag, error.what()));
    }
  }
  const bool was_said =
      std::any_of(options.settings.begin(), options.settings.end(), [](const auto& s) { return s.variable == "NETVM_BACKING"; });
  if (!settings.backing.empty() && (was_said || settings.memory != 0)) {
    if (const std::string obstacle = backing_obstacle(settings.backing, options.nodes); !obstacle.empty())
      throw UsageError(fmt::format("--backing {}: {}; give a folder, or the name of a new file in one", settings.backing, obstacle));
  }
  const auto names = protocol_names();
  if (std::find(names.begin(), names.end(), settings.protocol) == names.end()) {
    const std::string_view near = nearest(settings.protocol, names);
    std::string list;
    for (const auto name : names) list += (list.empty() ? "" : ", ") + std::string(name);
    throw UsageError(fmt::format("there is no protocol '{}'; there are: {}{}", settings.protocol, list,
                                 near.empty() ? std::string() : fmt::format(" (did you mean {}?)", near)));
  }
  return settings;
}

void report_result(const Options& options, const Settings& settings, Outcome& outcome) {
  if (settings.stats) std::fputs(job::format_stats(outcome.reports).c_str(), stderr);
  if (options.report.empty()) return;
  job::JobSummary summary;
  summary.program = options.program.front();
  summary.arguments.assign(options.program.begin() + 1, options.program.end());
  summary.nodes = options.nodes;
  summary.exit_status = outcome.exit_status;
  summary.outcome = outcome.sentence;
  summary.seconds = outcome.seconds;
  for (const SettingInfo& info : setting_list()) {
    const std::string name(info.variable);
    const char* value = std::getenv(name.c_str());
    summary.settings.emplace_back(name, value == nullptr ? std::string(info.fallback) : value);
  }
  try {
    write_report(options.report, job::merge_reports(summary, outcome.reports));
  } catch (const std::system_error& error) {
    fmt::print(stderr, "netvmrun: cannot write the report {}: {}\n", options.report, error.code().message());
    if (outcome.exit_status == 0) outcome.exit_status = EXIT_FAILURE;
  }
}

int run(int argc, char** argv) {
  open_standard_streams();
  const Options options = parse_options(argc, argv);
  if (options.action == Action::help) {
    std::fputs(help_text().c_str(), stdout);
    return EXIT_SUCCESS;
  }
  if (options.action == Action::version) {
    fmt::print("netvmrun (NetVM) {}, job protocol {}\n", job::kLibraryVersion, job::kProtocolVersion);
    return EXIT_SUCCESS;
  }
  const Settings settings = apply_settings(options);
  if (!options.report.empty()) {
    const std::string obstacle = report_obstacle(options.report);
    if (!obstacle.empty()) throw UsageError(fmt::format("--report {}: {}", options.report, obstacle));
  }
  const ProgramPath program = find_program(options.program.front());
  if (program.exit_status != 0) {
    fmt::print(stderr, "netvmrun: {}\n", program.error);
    return program.exit_status;
  }
  Launcher launcher(options, program.path, settings.verbose > 0);
  Outcome outcome = launcher.run();
  if (options.nodes > 1 && !outcome.anybody_joined && outcome.exit_status == 0) {
    const bool threads = creates_threads(program.path);
    if (threads || settings.verbose > 0) {
      fmt::print(stderr, "netvmrun: {} ran {} times, each by itself, for it does not join the job{}\n", options.program.front(),
                 options.nodes, threads ? ": to spread its threads over the nodes, build it with netvm-cc (docs/porting.md)" : "");
    }
  }
  report_result(options, settings, outcome);
  return outcome.exit_status;
}

}  // namespace
}  // namespace netvm::run

int main(int argc, char** argv) {
  try {
    return netvm::run::run(argc, argv);
  } catch (const netvm::run::UsageError& error) {
    fmt::print(stderr, "netvmrun: {}\n", error.what());
    return netvm::run::kUsageStatus;
  } catch (const std::exception& error) {
    fmt::print(stderr, "netvmrun: cannot run the job: {}\n", error.what());
    return EXIT_FAILURE;
  }
}
