// ThreadState: on which stack the calling thread is, and for whom it works: for the program, or for NetVM inside a call of the program's.
//
// Threads of a pthreads program run on stacks in shared memory. NetVM must not: a page of such a stack may be away at any time, and the fault would
// be served by the code that is using the page. So every call of the program that needs NetVM changes to the thread's private stack
// (in_runtime()), and signals are taken on a third one.
//
// Invariants
//  1. Code of NetVM runs on private memory: with `inside` above 0, or on the alternate stack.
//  2. private_stack is where the shared stack was entered: everything below that is free while the program runs.
//  3. errno passes through in_runtime() unchanged.
// Threads: each sees its own state only.
#pragma once

#include <cerrno>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace netvm::kit {

struct ThreadRecord;
struct HeldRwlocks;

struct ThreadState {
  bool program = false;  ///< a thread of a pthreads program
  bool is_main = false;
  int inside = 0;                  ///< calls of in_runtime() under way
  int opening = 0;                 ///< calls that open a FILE under way
  std::uintptr_t stack_begin = 0;  ///< the shared stack; equal to its end: it is not on one
  std::uintptr_t stack_end = 0;
  std::uintptr_t ordinary_begin = 0;  ///< the stack that the C library gave, where the program runs on that
  std::uintptr_t ordinary_end = 0;
  std::uintptr_t signal_begin = 0;  ///< the stack of signal handlers
  std::uintptr_t signal_end = 0;
  void* private_stack = nullptr;
  ThreadRecord* record = nullptr;
  HeldRwlocks* rwlocks = nullptr;  ///< made at the first reader-writer lock

  [[nodiscard]] static bool in(std::uintptr_t at, std::uintptr_t begin, std::uintptr_t end) { return at - begin < end - begin; }
};

extern thread_local constinit ThreadState t_state [[gnu::tls_model("initial-exec")]];

/// Whether the program itself makes this call: then it gets shared memory and objects between nodes.
inline bool program_calls() {
  const ThreadState& me = t_state;
  return me.program && me.inside == 0 &&
         !ThreadState::in(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)), me.signal_begin, me.signal_end);
}

/// Runs f(argument) on the calling thread's private stack, with `inside` counted.
void enter_runtime(void (*f)(void*), void* argument);

/// The same for what can be called; returns its result.
template <class F>
auto in_runtime(F&& f) {
  using Result = decltype(f());
  if constexpr (std::is_void_v<Result>) {
    enter_runtime([](void* it) { (*static_cast<std::remove_reference_t<F>*>(it))(); }, &f);
  } else {
    struct Call {
      std::remove_reference_t<F>* f;
      Result result;
    } call{&f, Result{}};
    enter_runtime(
        [](void* it) {
          auto& mine = *static_cast<Call*>(it);
          Result result = (*mine.f)();
          mine.result = std::move(result);
        },
        &call);
    return std::move(call.result);
  }
}

/// f() of the C library, off the shared stack, with the errno that it leaves.
template <class F>
auto privately(F&& f) {
  if (!t_state.program) [[likely]]
    return f();
  int error = errno;
  auto result = in_runtime([&] {
    auto made = f();
    error = errno;
    return made;
  });
  errno = error;
  return result;
}

/// Runs f(argument) on the shared stack [begin, end) and returns when it does. Of a thread that is on its private stack.
void run_on_shared_stack(std::uintptr_t begin, std::uintptr_t end, void (*f)(void*), void* argument);

/// Notes where the calling thread's ordinary stack lies.
void find_ordinary_stack();

/// The thread takes signals on a private stack from now on, and until take_away_signal_stack().
void give_signal_stack();
void take_away_signal_stack();

}  // namespace netvm::kit
