// netvm-perf: NetVM's basic operations, each beside its floor measured in the same run.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "apps/netvm-perf/sections.hpp"

namespace {

namespace fs = std::filesystem;
using namespace netvm::perf;

/// What one node does inside a job; node 0 writes the rows to a file for the process that started it all.
int run_node(const Options& options, const std::string& rows_file) {
  std::unique_ptr<FloorPartner> partner;
  if (const char* node = std::getenv("NETVM_NODE"); node != nullptr && std::string_view(node) == "0")
    partner = std::make_unique<FloorPartner>();
  netvm::Job job(1);
  std::vector<Row> rows;
  const auto say = [&](const char* what) {
    if (job.node() == 0 && isatty(STDERR_FILENO) != 0) fmt::print(stderr, "netvm-perf: {} nodes: {}\n", job.nodes(), what);
  };
  if (job.nodes() == 2) {
    say("put, get, atomics");
    measure_put_get(job, options, partner.get(), rows);
    say("page faults");
    measure_faults(job, options, rows);
    say("mutex");
    measure_mutex(job, options, partner.get(), rows);
  }
  say("barrier");
  measure_barrier(job, options, partner.get(), rows);
  if (job.nodes() == 2) {
    say("a target that computes");
    measure_busy_target(job, options, rows);
  }
  if (job.node() == 0) {
    if (!(std::ofstream(rows_file) << to_json(rows))) {
      fmt::print(stderr, "netvm-perf: cannot write {}\n", rows_file);
      return 1;
    }
  }
  return 0;
}

/// Starts this program as a job; returns its exit status.
int start_job(const fs::path& self, int nodes, const std::vector<std::string>& arguments) {
  const fs::path beside = self.parent_path() / "netvmrun";
  std::vector<std::string> words = {fs::exists(beside) ? beside.string() : "netvmrun", "-n", std::to_string(nodes), self.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) {
    execvp(argv[0], argv.data());
    fmt::print(stderr, "netvm-perf: cannot start {}: {}\n", words[0], std::strerror(errno));
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Runs the jobs of 2 and 4 nodes and gathers their rows.
int run_all(const Options& options, const std::string& json_file) {
  const fs::path self = fs::read_symlink("/proc/self/exe");
  std::string folder = (fs::temp_directory_path() / "netvm-perf-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    fmt::print(stderr, "netvm-perf: cannot make a folder for results in {}: {}\n", fs::temp_directory_path().string(),
               std::strerror(errno));
    return 1;
  }
  std::vector<Row> rows;
  int failed = 0;
  for (const int nodes : {2, 4}) {
    const fs::path file = fs::path(folder) / fmt::format("{}.json", nodes);
    std::vector<std::string> arguments = {"--rows", file.string(), "--batches", std::to_string(options.batches)};
    if (options.quick) arguments.emplace_back("--quick");
    failed = start_job(self, nodes, arguments);
    if (failed != 0) break;
    std::ifstream in(file);
    std::stringstream text;
    text << in.rdbuf();
    for (Row& row : from_json(text.str())) rows.push_back(std::move(row));
  }
  fs::remove_all(folder);
  if (failed != 0) return failed;
  print_table(rows);
  if (!json_file.empty() && !(std::ofstream(json_file) << to_json(rows) << '\n')) {
    fmt::print(stderr, "netvm-perf: cannot write {}: {}\n", json_file, std::strerror(errno));
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "netvm-perf - NetVM's basic operations, each beside its floor\n\n"
      "Starts jobs of 2 and of 4 nodes on this machine and prints, for each operation, its time, the time of the bare mechanism measured "
      "in turns "
      "with it in the same run, their ratio (medians; the middle half of the batches beside it), and the aim. Quiet machine, please: other "
      "load shows."};
  Options options;
  std::string json_file;
  std::string rows_file;
  app.add_option("--batches", options.batches, "Batches per figure; the median is shown")
      ->check(CLI::Range(3, 1001))
      ->capture_default_str();
  app.add_flag("--quick", options.quick, "A few batches, to see that everything runs; the figures mean little");
  app.add_option("--json", json_file, "Write the table as JSON to this file, too");
  app.add_option("--rows", rows_file)->group("");  // between this program and the nodes that it starts
  CLI11_PARSE(app, argc, argv);
  if (options.quick) options.batches = 3;
  try {
    return rows_file.empty() ? run_all(options, json_file) : run_node(options, rows_file);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
