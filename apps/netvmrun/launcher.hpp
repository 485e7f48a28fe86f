// The launcher: one thread, one event loop, that starts a job's nodes, serves their bootstrap, merges their output, and sees the job
// to its end.
//
// Invariants
//  1. The job's fate is decided once: by the first thing that goes wrong (end_job), or by the last node's good end. Whatever happens
//     after that decision changes neither the message nor the exit status. A death that the others survive (--on-death=continue) decides nothing,
//     but gives the job its exit status if nothing worse happens.
//  2. Once it is decided that the job ends, every process below the launcher is gone within the grace: asked first, then killed.
//  3. run() returns when no process of the job is left and all output is written.
#pragma once

#include <sys/resource.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "apps/netvmrun/guardian.hpp"
#include "apps/netvmrun/options.hpp"
#include "apps/netvmrun/output.hpp"
#include "apps/netvmrun/processes.hpp"
#include "runtime/job_server.hpp"

namespace netvm::run {

struct Outcome {
  int exit_status = 0;
  std::string sentence = "ok";
  double seconds = 0;
  bool anybody_joined = false;
  std::vector<std::string> reports;  ///< of the nodes, empty where there is none
};

class Launcher final : private job::JobListener {
 public:
  /// Makes sockets and memory files. `path` is the program's file. Throws std::system_error.
  Launcher(const Options& options, std::string path, bool verbose);
  ~Launcher() override;

  /// Starts the nodes and returns when all is over. Call once.
  Outcome run();

 private:
  struct Node {
    pid_t pid = -1;
    bool running = false;
    int wait_status = 0;
    std::optional<Clock::time_point> lost_at;  // its connection broke; its end should follow at once and say why
  };
  enum class Fate : std::uint8_t { running, ending, killing };

  // job::JobListener
  void on_joined(NodeId node, std::int32_t pid) override;
  void on_left(NodeId node) override;
  void on_lost(NodeId node) override;
  void on_abort(NodeId node, const std::string& reason) override;
  void on_overdue(const std::string& sentence) override;
  void on_stranger(const std::string& sentence) override;

  void prepare_signals();
  void restore_signals();
  void start_nodes();
  void add_source(UniqueFd pipe, std::uint32_t node, OutputSink& sink);
  void step();
  [[nodiscard]] int wait_ms() const;
  void take_signals();
  void on_end_signal(int signal, bool from_terminal);
  void reap();
  void judge_end(std::uint32_t node);
  // Whether the others go on without it: then they are told.
  bool survive(std::uint32_t node, const std::string& what_happened, int exit_status);
  void check_time();
  void check_deserted();
  void watch_output();
  void flush_output();
  void on_output_failed(int error);
  [[nodiscard]] bool any_running() const;
  [[nodiscard]] std::string others(std::uint32_t node) const;
  [[nodiscard]] std::string name_of(std::uint32_t node) const;

  /// Decides the job's fate, says the sentence, sends the signal to everything below us (0: they have had it) and kills what is left
  /// after the grace.
  void end_job(const std::string& sentence, int exit_status, int signal, std::chrono::milliseconds grace);
  void signal_all(int signal);
  void finish();
  void say(const std::string& sentence);

  const Options& options_;
  std::string path_;
  bool verbose_;
  rlimit old_descriptors_;       // the programs get them back
  std::vector<pid_t> not_ours_;  // children that this process had before it became netvmrun, and the guardian
  job::JobServer server_;
  OutputSink standard_output_{1};
  OutputSink standard_error_{2};
  UniqueFd signals_;
  sigset_t old_mask_{};
  std::vector<Node> nodes_;
  std::list<OutputSource> sources_;  // a list: they stay where they are
  std::optional<Guardian> guardian_;
  bool hurried_ = false;  // a slow reader of our output is not waited for long
  Outcome outcome_;
  Fate fate_ = Fate::running;
  Clock::time_point started_;
  std::optional<Clock::time_point> time_limit_;
  std::optional<Clock::time_point> kill_at_;
};

}  // namespace netvm::run
