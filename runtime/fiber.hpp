// Fiber: a thread of control that runs until it suspends itself. The one user of Boost.Context.
//
// Invariants
//  1. Resumer and fiber alternate: resume() returns when the fiber suspends or its body has ended, suspend() when resumed again.
//  2. A fiber is resumed by one thread for its whole life: thread-local variables keep their meaning inside.
//  3. No exception leaves the body's fiber: take_exception() hands it to the resumer.
//  4. The sanitizers are told of each switch: AddressSanitizer which stack is in use, ThreadSanitizer whose history goes on.
// A stack has a guard page below it; overflowing it is an ordinary SIGSEGV.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>

namespace netvm {

class Fiber {
 public:
  /// Nothing runs before the first resume().
  explicit Fiber(std::function<void()> body);
  /// A fiber that has not ended is abandoned: what lies on its stack is not destroyed. Not from inside the fiber.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs the fiber until it suspends or ends. From outside, and only while !done().
  void resume();
  /// Back to the resumer. From inside only.
  void suspend();

  [[nodiscard]] bool done() const;
  /// What the body threw; null if nothing. At most once non-null.
  [[nodiscard]] std::exception_ptr take_exception();

  static constexpr std::size_t kStackBytes = std::size_t{1} << 20;  // address space; memory only as far as it is used

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace netvm
