// Process state: to the program its threads are one process, whose environment, current directory, file mode mask, locale, signal dispositions, signal mask
// of main() (which processes without a thread of the program's show) and seeds of the C library's generators any thread may change. Each node is a process of
// its own; a change on one is made on all before the call that asks for it returns.
//
// Invariants
//  1. Changes are made one at a time in the job, so all nodes see the same order. Handlers of an exit() that was called on another node
//     change node 0 alone: the thread that asks for a change may be gone, with its turn.
//  2. Others' changes are made by a node's server (Pthreads::serve), which holds nothing that a change waits for.
//  3. A server takes no signal for which the program has a handler: those run in threads of the program's, on their signal stacks.
//  4. Handlers of exit() that a thread registers on another node are node 0's: they run there, in the order of all.
// Threads: any of the program's, on its own stack.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace netvm::kit {

/// In shared memory: what is to be changed. The texts lie behind it.
struct ProcessChange {
  enum class What : std::uint32_t {
    set_variable,    // first = second
    unset_variable,  // first
    clear_variables,
    directory,    // first, absolute
    file_mask,    // number
    locale,       // of the category `number`: first
    disposition,  // of the signal `number`: action
    main_blocks,  // action.sa_mask
    random_seed,  // number
    rand48_seed,  // number
    at_exit,      // handler(argument), of the library `library`
  };
  What what = What::clear_variables;
  std::int64_t number = 0;
  struct sigaction action {};
  void (*handler)(void*) = nullptr;
  void* argument = nullptr;
  void* library = nullptr;
  std::size_t first_bytes = 0;
  std::size_t second_bytes = 0;
};

/// Whether the signal runs code of the program's.
inline bool has_handler(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

class ProcessState {
 public:
  /// On each node, before the program begins: nodes but the first begin with seeds of their own.
  static void open(int node);
  /// Whether the caller is the program, and there are other nodes that must know.
  static bool concerns_others();
  /// From now on this node changes itself alone.
  static void close();

  /// here() changes this node and returns whether it has; then the others change. `first`, `second`: texts or null. Keeps errno.
  static void change(const ProcessChange& what, const char* first, const char* second, const std::function<bool()>& here);
  /// By a node's server.
  static void apply(const ProcessChange& change);
};

}  // namespace netvm::kit
