// Descriptors: the number of a file descriptor of the program's says which node opened it, and on another node the same number is made to mean the same open
// file when it is used first. So threads of all nodes share descriptors as those of one process do: one position, one end.
//
// A number is looked for in slices, one for each node, where no descriptor of NetVM's lies on any node: [first, 1024), which select() can take, and as many
// again above. What the program opens is moved into the node's slice. A node that is given another's number asks that node for the descriptor
// (SCM_RIGHTS, which serves the nodes of one host); closing it anywhere closes all copies first.
//
// Invariants
//  1. A copy lives no longer than its original: whoever closes asks the owner for the nodes that have copies, has them dropped, and lets the owner close.
//     Meanwhile the owner gives none away.
//  2. The thread that answers other nodes never waits for one.
//  3. 0 is node 0's for all; 1 and 2 are each node's own, which netvmrun puts together. Numbers from 3 up to the slices are NetVM's, or of files that a library
//     opened for itself: nobody else's.
// Threads: any of the program's, on the private stack where it says so.
#pragma once

#include <atomic>
#include <cstdio>

#include "apps/kit/kit.hpp"
#include "apps/kit/thread_state.hpp"

namespace netvm::kit {

class Descriptors {
 public:
  /// Collective, at the start of a program with threads.
  static void open(Kit& kit);

  /// The program has opened `fd` (or failed to: -1): returns the number that it gets. EMFILE if this node's slices are full.
  static int adopt(int fd) { return is_open() && fd > 2 && !is_mine(fd) && program_calls() ? move(fd) : fd; }
  /// The same for the descriptor inside a FILE, which is returned.
  static FILE* adopt(FILE* file);

  /// Whether the call may go on: the number is this node's, or the other node's file is here now. False: errno is EBADF.
  static bool here(int fd) { return !is_open() || is_mine(fd) || fd == 1 || fd == 2 || !program_calls() || bring(fd); }

  /// close() of any node's number.
  static int close(int fd);
  /// Before this node closes a number, whoever's it is, in another way (fclose(), pclose(), closedir(), dup2()): it ends for all others.
  static void recall(int fd);
  /// Whether dup2() may take the number. Ends the job if it is another node's or NetVM's.
  static void require_target(const char* call, int fd);

  /// The node in whose slices the number lies; -1: in nobody's.
  [[nodiscard]] static int owner_of(int fd);

 private:
  static bool is_open() { return open_.load(std::memory_order_acquire); }  // acquire: partner is open()'s release
  static bool is_mine(int fd) {
    const auto number = static_cast<unsigned>(fd);
    return number - low_ < low_width_ || number - high_ < high_width_;
  }
  static int move(int fd);
  static bool bring(int fd);

  static inline std::atomic<bool> open_{false};
  static inline unsigned low_ = 0, low_width_ = 0;    // this node's slice below 1024
  static inline unsigned high_ = 0, high_width_ = 0;  // and above
};

}  // namespace netvm::kit
