// Kit: what stands behind the macros of c.m4.netvm in one process: its node of the job, the program's shared globals, its threads.
//
// Every node is the same executable. main() of the program runs on node 0 alone, as its thread 0; the other nodes wait for commands from there, in the
// order of one collective each: start threads, wait for their end, end. So a command is a barrier between the nodes too, and carries all memory.
//
// Invariants
//  1. Commands come from the thread that runs main(), one at a time. Threads of the program take part in no collective.
//  2. Before main() begins, the program's globals are shared on all nodes, with node 0's contents. Private globals (by choice) are copied to a node from
//     node 0 when a thread is created there and none runs: what fork() would do.
//  3. An error ends the job with a sentence that names the macro and its line.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kit/program_image.hpp"
#include "dsm/api/job_runtime.hpp"

namespace netvm::kit {

/// Where a macro stands in the program's source.
struct Place {
  const char* macro;
  const char* file;
  int line;
};

/// Who the calling thread is to the program.
struct ThreadContext {
  static constexpr int kNone = -1;  ///< a thread of NetVM's, or one that the program made by other means
  int number = kNone;
  const char* function = "main";
  std::atomic<std::uint64_t> calls{0};  ///< of macros; others read it
};
ThreadContext& this_thread();

/// What start.cpp tells of the program.
struct Program {
  int (*main)(int, char**, char**) = nullptr;
  bool private_globals = false;
};

using Function = void (*)();

class Kit {
 public:
  /// Of this process; ends it with a message if it is not linked with netvm-cc, or if the job is over.
  static Kit& of(const Place& place);
  /// The same, or null. Async-signal-safe.
  static Kit* find();

  /// Joins the job and shares the globals. Prints why it cannot, and ends the process.
  static void start(const Program& program, char** argv);
  /// On node 0: runs main() and the job's end, and ends the process. On others: serves until the end.
  [[noreturn]] void run(int argc, char** argv, char** envp);

  void create_all(Function f, std::string_view name, long count, const Place& place);
  void create_one(Function f, std::string_view name, const Place& place);
  void wait_for_end(long count, const Place& place);
  /// How many threads the program has: thread 0, and those it created. On node 0 alone is this up to date.
  [[nodiscard]] int threads() const { return threads_; }

  /// What names a synchronisation object: the offset of its memory; of private globals, their address, apart from all offsets.
  [[nodiscard]] std::uint64_t key_of(const volatile void* object, const Place& place) const;
  /// Ends the job. "netvm: fft.c.in:310: LOCK by thread 3 on node 1: <text>"
  [[noreturn]] void stop(const Place& place, const std::string& text) const;
  /// Ends the job unless the status is ok.
  void require(Status status, const Place& place) const;

  [[nodiscard]] detail::Runtime& runtime() { return *runtime_; }
  [[nodiscard]] const ProgramImage& image() const { return image_; }
  [[nodiscard]] const Program& program() const { return program_; }
  [[nodiscard]] bool globals_are_shared() const { return globals_shared_; }
  [[nodiscard]] int node() const { return static_cast<int>(runtime_->boot->node().value); }
  [[nodiscard]] int nodes() const { return static_cast<int>(runtime_->boot->nodes()); }

 private:
  struct Command;
  explicit Kit(const Program& program);
  void agree();
  void check_protocol() const;
  void check_deaths() const;
  void check_globals() const;
  std::uint64_t allocate_for_globals();
  void share_globals();
  void send_globals();
  void take_globals();
  void command(Command command);
  [[noreturn]] void serve();
  void obey(const Command& command);
  void start_thread(Function f, const char* name, int number, const Place& place);
  void join_threads();
  void check_caller(const Place& place) const;
  static void on_exit(int status, void* self);
  void finish();

  Program program_;
  ProgramImage image_;
  std::unique_ptr<detail::Runtime> runtime_;
  bool globals_shared_ = false;
  std::byte* globals_at_create_ = nullptr;  // private globals: shared memory through which they travel
  std::vector<pthread_t> local_threads_;    // of this node, not yet joined
  int threads_ = 1;
};

}  // namespace netvm::kit
