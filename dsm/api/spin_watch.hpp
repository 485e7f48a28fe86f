// SpinWatch: notices a thread that waits for a plain variable to change, under a protocol that may never show it the change.
//
// A thread of its own looks at the program's threads twice a second. One that used the processor for a while without calling NetVM is
// stopped a few times by a signal (SIGRTMAX - 3) that notes its registers, and has run for a millisecond in between. If it is always inside a few instructions, and has the same registers whenever it is at the same one, it makes no
// progress: a computation changes some. Then its pages' table entries are dropped (under mprotect: their protection; the trap puts either back at the next
// access), and the faults that follow tell what it reads.
//
// Invariants
//  1. Nothing is changed that the program could see; the message is a warning, said once for each thread.
//  2. Nothing is said of memory under a sequentially consistent protocol, where such a program is right.
// Threads: enter() and leave() by the watched thread itself; begin() and end() by one thread. A job of one node, and the checked trap, are not watched.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "dsm/api/job_runtime.hpp"
#include "runtime/log.hpp"

namespace netvm::detail {

class SpinWatch {
 public:
  /// What kinds of programs differ in.
  struct Program {
    double seconds = 2;                                                      ///< how long a thread may spin unnoticed
    std::function<void(std::uintptr_t address, LineBuffer& line)> describe;  ///< appends what lies there
    std::string advice;                                                      ///< the rest of the message
  };
  /// Once, when the process has joined the job.
  static void begin(Runtime& runtime, Program program);
  /// Before the job ends.
  static void end();
  [[nodiscard]] static bool runs();

  struct Who {
    std::function<void(LineBuffer& line)> name;
    const std::atomic<std::uint64_t>* calls = nullptr;  ///< of NetVM by the thread; null: unknown
  };
  /// The calling thread is watched from now on, until leave().
  static void enter(Who who);
  static void leave();
};

}  // namespace netvm::detail
