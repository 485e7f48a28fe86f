// The actor: a node that does what its first argument says. It uses the bootstrap alone, so that these tests show netvmrun's doing
// and nothing else's.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "runtime/bootstrap.hpp"

namespace {

using netvm::Bootstrap;
using Arguments = std::vector<std::string>;

int number(const Arguments& arguments, std::size_t at) { return at < arguments.size() ? std::atoi(arguments[at].c_str()) : 0; }

std::unique_ptr<Bootstrap> join() { return netvm::join_job(netvm::Settings::from_environment()); }

/// Everybody gives its number and checks what the others gave.
bool exchange(Bootstrap& job) {
  const std::string mine = fmt::format("node {}", job.node().value);
  const auto all = job.exchange(std::as_bytes(std::span(mine)));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string theirs(reinterpret_cast<const char*>(all[i].data()), all[i].size());
    if (theirs != fmt::format("node {}", i)) return false;
  }
  return all.size() == job.nodes();
}

void say(const std::string& line) { std::cout << line << '\n' << std::flush; }

bool is_me(Bootstrap& job, const Arguments& arguments) { return job.node().value == static_cast<std::uint32_t>(number(arguments, 0)); }

// ---- acts: arguments are those after the act's name; K is the node that does it ---------------------------------------

int act_join(const Arguments&) {
  auto job = join();
  for (int round = 0; round < 3; ++round) {
    if (!exchange(*job)) return 9;
  }
  say(fmt::format("node {} of {}", job->node().value, job->nodes()));
  job->leave(fmt::format(R"({{"stats": {{"widgets": {}}}, "annotations": {{"node {} was": "here"}}}})", 1000 * (job->node().value + 1),
                         job->node().value));
  return 0;
}

/// A value written into a node's memory file by its owner is read by the others: the descriptors are the right ones.
int act_memory(const Arguments&) {
  auto job = join();
  const auto mine = job->node();
  const std::string text = fmt::format("frames of {}", mine.value);
  const std::string device = fmt::format("device of {}", mine.value);
  if (::pwrite(job->frames_fd(mine), text.data(), text.size(), 0) < 0 ||
      ::pwrite(job->device_fd(mine), device.data(), device.size(), 0) < 0)
    return 9;
  exchange(*job);
  for (std::uint32_t node = 0; node < job->nodes(); ++node) {
    char buffer[64] = {};
    if (::pread(job->frames_fd(netvm::NodeId{node}), buffer, sizeof buffer, 0) < 0 || fmt::format("frames of {}", node) != buffer) return 9;
    std::memset(buffer, 0, sizeof buffer);
    if (::pread(job->device_fd(netvm::NodeId{node}), buffer, sizeof buffer, 0) < 0 || fmt::format("device of {}", node) != buffer) return 9;
  }
  say("memory is right");
  exchange(*job);
  job->leave("{}");
  return 0;
}

/// Dies of a real SIGSEGV, sanitizer or not, and leaves no core file.
[[noreturn]] void crash() {
  const rlimit none{0, 0};
  (void)::setrlimit(RLIMIT_CORE, &none);
  ::signal(SIGSEGV, SIG_DFL);
  ::raise(SIGSEGV);
  std::abort();
}

/// K exits with the status in the middle of the job; the others wait for it.
int act_exit(const Arguments& arguments) {
  auto job = join();
  exchange(*job);
  if (is_me(*job, arguments)) std::_Exit(number(arguments, 1));
  exchange(*job);
  return 0;
}

int act_crash(const Arguments& arguments) {
  auto job = join();
  exchange(*job);
  if (is_me(*job, arguments)) crash();
  exchange(*job);
  return 0;
}

/// K crashes; the others compute on and ignore every polite request.
int act_crash_stubborn(const Arguments& arguments) {
  ::signal(SIGTERM, SIG_IGN);
  auto job = join();
  exchange(*job);
  if (is_me(*job, arguments)) crash();
  for (;;) ::pause();
}

int act_abort(const Arguments& arguments) {
  auto job = join();
  exchange(*job);
  if (is_me(*job, arguments)) job->abort_job("the counters disagree");
  exchange(*job);
  return 0;
}

/// K ends well without ever joining.
int act_absent(const Arguments& arguments) {
  if (std::getenv("NETVM_NODE") == arguments.at(0)) return 0;
  auto job = join();
  exchange(*job);
  return 0;
}

/// K never comes to the job, and never ends.
int act_stall(const Arguments& arguments) {
  if (std::getenv("NETVM_NODE") == arguments.at(0)) {
    for (;;) ::pause();
  }
  auto job = join();
  exchange(*job);
  return 0;
}

int act_fail_after_leaving(const Arguments& arguments) {
  auto job = join();
  exchange(*job);
  const bool me = is_me(*job, arguments);
  job->leave("{}");
  return me ? number(arguments, 1) : 0;
}

/// Joins twice: the second process of the same node is refused.
int act_join_twice(const Arguments&) {
  auto job = join();
  try {
    auto again = join();
  } catch (const netvm::BootstrapError& error) {
    say(error.what());
  }
  job->leave("{}");
  return 0;
}

int act_hang(const Arguments&) {
  auto job = join();
  exchange(*job);
  if (job->node().value == 0) say("ready");
  for (;;) ::pause();
}

int act_hang_stubborn(const Arguments&) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::signal(signal, SIG_IGN);
  return act_hang({});
}

/// Counts the interrupts that arrive within a moment of the first, then ends well.
volatile std::sig_atomic_t interrupts = 0;
int act_count_interrupts(const Arguments&) {
  ::signal(SIGINT, [](int) { interrupts = interrupts + 1; });
  auto job = join();
  exchange(*job);
  if (job->node().value == 0) say("ready");
  while (interrupts == 0) ::usleep(1000);
  ::usleep(200'000);
  say(fmt::format("node {}: {} interrupts", job->node().value, static_cast<int>(interrupts)));
  return 0;
}

/// N lines of the given length on each stream.
int act_print(const Arguments& arguments) {
  const char* node = std::getenv("NETVM_NODE");
  const std::string filler(static_cast<std::size_t>(number(arguments, 1)), static_cast<char>('a' + std::atoi(node)));
  for (int line = 0; line < number(arguments, 0); ++line) {
    std::cout << "out " << node << ' ' << line << ' ' << filler << '\n';
    std::cerr << "err " << node << ' ' << line << ' ' << filler << '\n';
  }
  return 0;
}

/// Bytes of all values, no newline at the end.
int act_binary(const Arguments&) {
  if (std::string(std::getenv("NETVM_NODE")) != "0") return 0;
  for (int round = 0; round < 4; ++round) {
    for (int c = 0; c < 256; ++c) std::cout.put(static_cast<char>(c));
  }
  return 0;
}

int act_echo_input(const Arguments&) {
  std::string text((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
  std::cout << "node " << std::getenv("NETVM_NODE") << " read '" << text << "'\n";
  return 0;
}

/// Endless output.
int act_flood(const Arguments&) {
  for (;;) std::cout << "more and more and more\n" << std::flush;
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, int (*)(const Arguments&)> acts{
      {"join", act_join},
      {"memory", act_memory},
      {"exit", act_exit},
      {"crash", act_crash},
      {"crash-stubborn", act_crash_stubborn},
      {"abort", act_abort},
      {"absent", act_absent},
      {"stall", act_stall},
      {"fail-after-leaving", act_fail_after_leaving},
      {"join-twice", act_join_twice},
      {"hang", act_hang},
      {"hang-stubborn", act_hang_stubborn},
      {"count-interrupts", act_count_interrupts},
      {"print", act_print},
      {"binary", act_binary},
      {"echo-input", act_echo_input},
      {"flood", act_flood},
  };
  const auto act = argc > 1 ? acts.find(argv[1]) : acts.end();
  if (act == acts.end()) {
    std::cerr << "actor: no such act\n";
    return 98;
  }
  try {
    return act->second(Arguments(argv + 2, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << "actor: " << error.what() << '\n';
    return 97;
  }
}
