#include "apps/netvmrun/launcher.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

namespace netvm::run {
namespace {

using namespace std::chrono_literals;

constexpr auto kGrace = 1000ms;           // between asking the nodes to end and killing them
constexpr auto kInterruptGrace = 2000ms;  // the same after Ctrl-C: a program may have something to tidy
constexpr auto kFarewellGrace = 500ms;    // for the others of a node that failed after its part in the job was over
constexpr auto kLostPatience = 300ms;     // between the end of a connection and the end of its process
constexpr auto kKillAgain = 50ms;
constexpr auto kReaderPatience = 5000ms;   // with a slow reader of our output, once the user wants the end
constexpr rlim_t kDescriptorsPerNode = 5;  // connection, two memory files, two pipes
constexpr rlim_t kDescriptorsBeside = 64;

constexpr int kTimeoutStatus = 124;
constexpr int kCannotRunStatus = 126;

/// Signals that end the job, and those that are passed on to the nodes.
constexpr std::array kEndSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr std::array kPassedSignals{SIGUSR1, SIGUSR2};

}  // namespace

Launcher::Launcher(const Options& options, std::string path, bool verbose)
    : options_(options),
      path_(std::move(path)),
      verbose_(verbose),
      old_descriptors_(raise_descriptor_limit(kDescriptorsBeside + kDescriptorsPerNode * options.nodes)),
      server_(options.nodes, *this, options.outlives_nodes),
      nodes_(options.nodes) {
  ::setenv(std::string(job::kRendezvousVariable).c_str(), server_.rendezvous().c_str(), 1);
  ::setenv(std::string(job::kKeyVariable).c_str(), server_.key().c_str(), 1);
  ::setenv("NETVM_NODES", std::to_string(options.nodes).c_str(), 1);  // for programs that choose their threads before they join
  become_subreaper();
  not_ours_ = descendants({});
}

Launcher::~Launcher() { restore_signals(); }

Outcome Launcher::run() {
  started_ = Clock::now();
  if (options_.timeout_s > 0) {
    time_limit_ = started_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.timeout_s));
  }
  prepare_signals();
  guardian_.emplace(server_.rendezvous());
  not_ours_.push_back(guardian_->pid());
  start_nodes();
  while (any_running()) step();
  finish();
  outcome_.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) outcome_.reports.push_back(server_.report(NodeId{node}));
  return outcome_;
}

// ---- the start ----------------------------------------------------------------------------------------------------

void Launcher::prepare_signals() {
  sigset_t ours;
  sigemptyset(&ours);
  for (const int signal : kEndSignals) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaddset(&ours, signal);  // nohup, or a background job of a script: stays ignored
  }
  for (const int signal : kPassedSignals) sigaddset(&ours, signal);
  sigaddset(&ours, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &ours, &old_mask_);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);  // an inherited "ignore" would take the nodes' exit statuses away
  signals_.reset(::signalfd(-1, &ours, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_) throw std::system_error(errno, std::generic_category(), "cannot make a signal descriptor");
}

void Launcher::restore_signals() {
  if (signals_) ::sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
}

void Launcher::start_nodes() {
  for (std::uint32_t node = 0; node < options_.nodes && fate_ == Fate::running; ++node) {
    try {
      StartedProcess process = start_process({path_, options_.program, node, old_mask_, old_descriptors_});
      nodes_[node].pid = process.pid;
      nodes_[node].running = true;
      add_source(std::move(process.output), node, standard_output_);
      add_source(std::move(process.error), node, standard_error_);
    } catch (const std::system_error& error) {
      end_job(fmt::format("cannot start node {}: {}; ending the nodes before it", node, error.what()), kCannotRunStatus, SIGTERM, kGrace);
    }
  }
}

void Launcher::add_source(UniqueFd pipe, std::uint32_t node, OutputSink& sink) {
  auto partial = OutputSource::Partial::wait;
  if (options_.nodes == 1) {
    partial = OutputSource::Partial::pass;
  } else if (node == 0 && ::isatty(STDIN_FILENO) == 1) {
    partial = OutputSource::Partial::interject;
  }
  sources_.emplace_back(node, std::move(pipe), options_.tag ? fmt::format("[{}] ", node) : std::string(), partial, sink);
}

// ---- the loop -----------------------------------------------------------------------------------------------------

void Launcher::step() {
  std::vector<pollfd> polls{{server_.epoll_fd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
  for (const OutputSink* sink : {&standard_output_, &standard_error_}) {
    polls.push_back({sink->backlog() != 0 ? sink->poll_fd() : -1, POLLOUT, 0});
  }
  for (OutputSource& source : sources_) {
    polls.push_back({source.open() && source.sink().backlog() <= kMaxBacklog ? source.fd() : -1, POLLIN, 0});
  }
  (void)::poll(polls.data(), polls.size(), wait_ms());
  std::size_t at = 4;
  for (OutputSource& source : sources_) {
    if (polls[at++].revents != 0) source.read_some();
  }
  server_.serve();
  take_signals();
  check_time();
  check_deserted();
  flush_output();
}

int Launcher::wait_ms() const {
  std::optional<Clock::time_point> first = server_.deadline();
  const auto consider = [&first](std::optional<Clock::time_point> when) {
    if (when && (!first || *when < *first)) first = when;
  };
  consider(fate_ == Fate::running ? time_limit_ : std::nullopt);
  consider(kill_at_);
  for (const Node& node : nodes_) consider(node.lost_at);
  for (const OutputSource& source : sources_) consider(source.deadline());
  if (!first) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*first - Clock::now());
  return static_cast<int>(std::clamp(left, 0ms, std::chrono::milliseconds(1h)).count());
}

void Launcher::take_signals() {
  signalfd_siginfo info;
  bool child = false;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      child = true;
    } else if (std::find(kPassedSignals.begin(), kPassedSignals.end(), signal) != kPassedSignals.end()) {
      for (const Node& node : nodes_) {
        if (node.running) ::kill(node.pid, signal);
      }
    } else {
      on_end_signal(signal, info.ssi_code == SI_KERNEL);
    }
  }
  if (child) reap();
}

void Launcher::on_end_signal(int signal, bool from_terminal) {
  hurried_ = true;
  if (fate_ != Fate::running) {  // the second time: at once
    say(fmt::format("received {} again; killing the nodes", ::strsignal(signal)));
    fate_ = Fate::killing;
    kill_at_ = Clock::now();
    return;
  }
  end_job(fmt::format("received signal {} ({}); ending the nodes", signal, ::strsignal(signal)), 128 + signal, from_terminal ? 0 : signal,
          kInterruptGrace);
}

void Launcher::reap() {
  std::vector<std::uint32_t> ended;
  int wait_status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &wait_status, WNOHANG)) > 0) {
    const auto node = std::find_if(nodes_.begin(), nodes_.end(), [pid](const Node& n) { return n.pid == pid && n.running; });
    if (node == nodes_.end()) continue;  // an orphan of some node's
    node->running = false;
    node->wait_status = wait_status;
    ended.push_back(static_cast<std::uint32_t>(node - nodes_.begin()));
  }
  server_.serve();  // after the ends are known, before they are judged: whatever a process said before its end has been heard
  for (const std::uint32_t node : ended) {
    nodes_[node].lost_at.reset();
    for (OutputSource& source : sources_) {
      if (source.node() == node) source.read_what_is_there();  // its last words before ours
    }
    judge_end(node);
  }
}

void Launcher::check_time() {
  const auto now = Clock::now();
  for (OutputSource& source : sources_) source.on_time(now);
  if (fate_ == Fate::running && time_limit_ && now >= *time_limit_) {
    hurried_ = true;
    end_job(fmt::format("the job has run for {:g} s, its limit (--timeout); ending it", options_.timeout_s), kTimeoutStatus, SIGTERM,
            kGrace);
  }
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    if (!nodes_[node].lost_at || now < *nodes_[node].lost_at) continue;
    nodes_[node].lost_at.reset();
    end_job(
        fmt::format("the program of {} (pid {}) ended without leaving the job{}", name_of(node), server_.pid(NodeId{node}), others(node)),
        EXIT_FAILURE, SIGTERM, kGrace);
  }
  if (kill_at_ && now >= *kill_at_) {
    fate_ = Fate::killing;
    signal_all(SIGKILL);
    kill_at_ = now + kKillAgain;  // again, for what was started meanwhile
  }
}

void Launcher::flush_output() {
  if (const int error = standard_output_.flush(); error != 0) on_output_failed(error);
  (void)standard_error_.flush();  // nowhere left to say that it fails
}

void Launcher::on_output_failed(int error) {
  const bool reader_gone = error == EPIPE || error == ECONNRESET;
  const int exit_status = reader_gone ? 128 + SIGPIPE : EXIT_FAILURE;
  const std::string what = reader_gone ? "the reader of the standard output is gone"
                                       : fmt::format("writing to the standard output failed: {}", std::generic_category().message(error));
  if (fate_ == Fate::running && any_running()) return end_job(what + "; ending the job", exit_status, SIGTERM, kGrace);
  // Too late to end anything; but output is lost, and that is no success.
  say(what);
  if (outcome_.exit_status == 0) outcome_.exit_status = exit_status;
}

bool Launcher::any_running() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [](const Node& n) { return n.running; });
}

// ---- what happens to nodes ------------------------------------------------------------------------------------------

void Launcher::on_joined(NodeId node, std::int32_t pid) {
  outcome_.anybody_joined = true;
  if (verbose_) say(fmt::format("node {} joined (pid {})", node.value, pid));
}

void Launcher::on_left(NodeId node) {
  if (verbose_) say(fmt::format("node {} left", node.value));
}

void Launcher::on_lost(NodeId node) {
  if (fate_ == Fate::running && nodes_[node.value].running) nodes_[node.value].lost_at = Clock::now() + kLostPatience;
}

void Launcher::on_abort(NodeId node, const std::string& reason) {
  end_job(fmt::format("{} ended the job: {}{}", name_of(node.value), reason, others(node.value)), EXIT_FAILURE, SIGTERM, kGrace);
}

void Launcher::on_overdue(const std::string& sentence) { end_job(sentence + "; ending the job", EXIT_FAILURE, SIGTERM, kGrace); }

void Launcher::on_stranger(const std::string& sentence) { say(sentence); }

void Launcher::judge_end(std::uint32_t node) {
  using State = job::JobServer::State;
  const State state = server_.state(NodeId{node});
  const int wait_status = nodes_[node].wait_status;
  const int status = exit_status_of(wait_status);
  if (verbose_ && status == 0) say(fmt::format("{} ended", name_of(node)));
  if ((state == State::joined || state == State::lost) &&
      survive(node, status != 0 ? describe_end(wait_status) : "exited with status 0 in the middle of the job, without leaving it",
              status != 0 ? status : EXIT_FAILURE))
    return;
  if (status != 0) {
    const bool after_leaving = state == State::left;
    // A status is the program's answer; a signal after the end, in a destructor, is worth a word.
    const bool late = after_leaving && WIFSIGNALED(wait_status);
    const std::string sentence = fmt::format("{} {}{}", name_of(node), describe_end(wait_status), late ? " after it had left the job" : "");
    // A node that has left may fail for a reason that the others share (a wrong answer): they get a moment to say so themselves.
    end_job(sentence + others(node), status, after_leaving ? 0 : SIGTERM, after_leaving ? kFarewellGrace : kGrace);
  } else if (state == State::joined || state == State::lost) {
    end_job(fmt::format("{} exited with status 0 in the middle of the job, without leaving it{}", name_of(node), others(node)),
            EXIT_FAILURE, SIGTERM, kGrace);
  }
}

bool Launcher::survive(std::uint32_t node, const std::string& what_happened, int exit_status) {
  const bool others_live = std::any_of(nodes_.begin(), nodes_.end(), [](const Node& other) { return other.running; });
  if (!options_.outlives_nodes || fate_ != Fate::running || !others_live || !server_.can_lose_nodes()) return false;
  const std::string sentence = fmt::format("{} {}; the others go on without it (--on-death=continue)", name_of(node), what_happened);
  say(sentence);
  if (outcome_.exit_status == 0) {
    outcome_.exit_status = exit_status;
    outcome_.sentence = sentence;
  }
  server_.declare_dead(NodeId{node});
  return true;
}

void Launcher::check_deserted() {
  if (fate_ != Fate::running) return;
  const auto waiting = server_.waiting();
  if (waiting.empty()) return;
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    const auto state = server_.state(NodeId{node});
    const bool never_joins = state == job::JobServer::State::absent && !nodes_[node].running;
    if (!never_joins && state != job::JobServer::State::left) continue;
    end_job(fmt::format("{} {}, and the others wait for it{}", name_of(node),
                        never_joins ? "ended without ever joining the job" : "has left the job", others(node)),
            EXIT_FAILURE, SIGTERM, kGrace);
    return;
  }
}

std::string Launcher::name_of(std::uint32_t node) const { return fmt::format("node {} (pid {})", node, nodes_[node].pid); }

std::string Launcher::others(std::uint32_t node) const {
  for (std::uint32_t other = 0; other < nodes_.size(); ++other) {
    if (other != node && nodes_[other].running) return "; ending the other nodes";
  }
  return {};
}

// ---- the end --------------------------------------------------------------------------------------------------------

void Launcher::end_job(const std::string& sentence, int exit_status, int signal, std::chrono::milliseconds grace) {
  if (fate_ != Fate::running) return;
  fate_ = Fate::ending;
  outcome_.exit_status = exit_status;
  outcome_.sentence = sentence;
  say(sentence);
  if (signal != 0) signal_all(signal);
  server_.fail_exchanges("the job is ending: " + sentence);
  kill_at_ = Clock::now() + grace;
}

void Launcher::signal_all(int signal) {
  for (const pid_t pid : descendants(not_ours_)) ::kill(pid, signal);
}

void Launcher::finish() {
  // All nodes have ended. What they started and left behind ends too: asked, then killed.
  auto kill_time = Clock::now() + kGrace;
  if (fate_ != Fate::killing) signal_all(SIGTERM);
  while (!descendants(not_ours_).empty()) {
    if (Clock::now() >= kill_time || fate_ == Fate::killing) signal_all(SIGKILL);
    pollfd poll{signals_.get(), POLLIN, 0};
    (void)::poll(&poll, 1, static_cast<int>(kKillAgain.count()));
    take_signals();
    for (OutputSource& source : sources_) {
      if (source.open()) source.read_some();
    }
    flush_output();
  }
  for (OutputSource& source : sources_) {
    source.finish();
    flush_output();
  }
  guardian_->dismiss();
  const auto patience = hurried_ ? Clock::now() + kReaderPatience : Clock::time_point::max();
  restore_signals();  // from here on Ctrl-C ends us as it ends anybody: nothing is left to tidy
  signals_.reset();
  if (const int error = standard_output_.drain(patience); error != 0) on_output_failed(error);
  (void)standard_error_.drain(patience);
}

void Launcher::say(const std::string& sentence) { standard_error_.append("netvmrun: " + sentence + "\n"); }

}  // namespace netvm::run
