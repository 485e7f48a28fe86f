// SpinWatch: notices a thread that waits for a plain variable to change, under a protocol that may never show it the change.
//
// A thread of its own looks at the program's threads twice a second. One that used the processor for kPatience without calling any macro is
// stopped a few times by a signal that notes its registers. If it is always inside a few instructions, and has the same registers whenever it is at the same one, it makes no
// progress: a computation changes some. Then its pages' table entries are dropped (under mprotect: their protection; the trap puts either back at the next
// access), and the faults that follow tell what it reads.
//
// Invariants
//  1. Nothing is changed that the program could see; the message is a warning, said once for each thread.
//  2. Nothing runs under a sequentially consistent default protocol, where such a program is right.
// Threads: enter() and leave() by the watched thread itself.
#pragma once

namespace netvm::kit {

class Kit;

class SpinWatch {
 public:
  /// Once, when the kit has joined the job.
  static void begin(Kit& kit);
  /// Before the job ends.
  static void end();
  /// The calling thread is watched from now on, until leave().
  static void enter();
  static void leave();
};

}  // namespace netvm::kit
