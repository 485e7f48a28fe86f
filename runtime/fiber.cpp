#include "runtime/fiber.hpp"

#include <cxxabi.h>
#include <sys/mman.h>

#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>
#include <boost/context/stack_context.hpp>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/check.hpp"
#include "runtime/ids.hpp"
#include "runtime/sanitizers.hpp"

#if NETVM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if NETVM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace netvm {
namespace {

namespace context = boost::context;

// ---- stacks ---------------------------------------------------------------------------------------------------------

// Mapped stacks, kept for reuse: a simulation of many seeds makes and ends thousands of fibers. Thread-safe.
class StackPool {
 public:
  static StackPool& shared() {
    static StackPool pool;
    return pool;
  }

  ~StackPool() {
    for (std::byte* stack : free_) unmap(stack);
  }

  // The lowest address of kStackBytes.
  std::byte* take() {
    std::byte* stack = reuse();
    if (stack == nullptr) stack = map();
#if NETVM_ASAN
    __lsan_register_root_region(stack, Fiber::kStackBytes);
#endif
    return stack;
  }

  // `abandoned`: frames are left on it whose destructors never ran.
  void give(std::byte* stack, bool abandoned) {
#if NETVM_ASAN
    if (abandoned) return;  // stays mapped and a root of the leak search: what the frames own is no leak of the code under test
    __lsan_unregister_root_region(stack, Fiber::kStackBytes);
    __asan_unpoison_memory_region(stack, Fiber::kStackBytes);
#else
    static_cast<void>(abandoned);
#endif
    {
      const std::lock_guard lock(mutex_);
      if (free_.size() < kKeep) {
        free_.push_back(stack);
        return;
      }
    }
    unmap(stack);
  }

 private:
  static constexpr std::size_t kKeep = 256;

  std::byte* reuse() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return nullptr;
    std::byte* stack = free_.back();
    free_.pop_back();
    return stack;
  }

  static std::byte* map() {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
    void* memory = ::mmap(nullptr, kPageSize + Fiber::kStackBytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    NETVM_CHECK(memory != MAP_FAILED, "no memory for a fiber's stack (errno %d); raise vm.max_map_count or run fewer fibers", errno);
    NETVM_CHECK(::mprotect(memory, kPageSize, PROT_NONE) == 0, "no guard page for a fiber's stack: errno %d", errno);
    return static_cast<std::byte*>(memory) + kPageSize;
  }

  static void unmap(std::byte* stack) { ::munmap(stack - kPageSize, kPageSize + Fiber::kStackBytes); }

  std::mutex mutex_;
  std::vector<std::byte*> free_;
};

// What Boost asks for; the stack stays the Fiber's.
struct BorrowedStack {
  context::stack_context allocate() { return {}; }
  void deallocate(context::stack_context&) noexcept {}
};

// ---- what a thread of control owns beside its stack -----------------------------------------------------------------

// The C++ runtime's list of caught exceptions is per thread; each fiber needs one of its own, or a switch inside a catch
// block or during unwinding mixes them. The layout is fixed by the Itanium C++ ABI, 2.2.2.
struct ExceptionState {
  void* caught = nullptr;
  unsigned int uncaught = 0;
};

void exchange_exception_state(ExceptionState* other) {
  ExceptionState mine;
  void* const current = abi::__cxa_get_globals();
  std::memcpy(&mine, current, sizeof mine);
  std::memcpy(current, other, sizeof mine);
  *other = mine;
}

// One side of a switch as the sanitizers know it.
struct Side {
#if NETVM_ASAN
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_bytes = 0;
#endif
#if NETVM_TSAN
  void* tsan_fiber = nullptr;
#endif
};

// Called by the side that stops running, immediately before the switch; `last`: it will never run again. Inlined, because
// ThreadSanitizer counts a function's entry and its exit, and here they would be counted for different fibers.
[[gnu::always_inline]] inline void announce_switch([[maybe_unused]] Side* from, [[maybe_unused]] const Side& to,
                                                   [[maybe_unused]] bool last) {
#if NETVM_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &from->fake_stack, to.stack_bottom, to.stack_bytes);
#endif
#if NETVM_TSAN
  __tsan_switch_to_fiber(to.tsan_fiber, 0);
#endif
}

// Called by the side that has begun to run, immediately after the switch. Learns where the other side's stack is.
inline void complete_switch([[maybe_unused]] const Side& self, [[maybe_unused]] Side* other) {
#if NETVM_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, &other->stack_bottom, &other->stack_bytes);
#endif
}

}  // namespace

// ---- the fiber ------------------------------------------------------------------------------------------------------

struct Fiber::Impl {
  explicit Impl(std::function<void()> what) : body(std::move(what)), stack(StackPool::shared().take()) {
#if NETVM_ASAN
    inside.stack_bottom = stack;
    inside.stack_bytes = kStackBytes;
#endif
#if NETVM_TSAN
    inside.tsan_fiber = __tsan_create_fiber(0);
#endif
  }

  ~Impl() {
    NETVM_CHECK(!running, "a fiber cannot destroy itself");
#if NETVM_TSAN
    __tsan_destroy_fiber(inside.tsan_fiber);
#endif
    StackPool::shared().give(stack, started && !done);
  }

  // Runs on the fiber's own stack and never returns: the last switch is one like all others, which keeps ThreadSanitizer's
  // shadow stacks in balance (Boost's own way out of a fiber ends in the resumer's history).
  [[noreturn]] void main() {
    complete_switch(inside, &outside);
    try {
      body();
    } catch (...) {
      exception = std::current_exception();
    }
    done = true;
    switch_out();
    NETVM_CHECK(false, "a fiber was resumed that has ended");
    __builtin_unreachable();
  }

  void switch_in() {
    exchange_exception_state(&exceptions);
#if NETVM_TSAN
    outside.tsan_fiber = __tsan_get_current_fiber();
#endif
    announce_switch(&outside, inside, false);
    fiber = std::move(fiber).resume();
    complete_switch(outside, &inside);
    exchange_exception_state(&exceptions);
  }

  void switch_out() {
    announce_switch(&inside, outside, done);
    resumer = std::move(resumer).resume();
    complete_switch(inside, &outside);
  }

  // Made at the first resume(), by the thread that runs the fiber. Boost enters the new stack once to set it up: the calls
  // that stay open there belong to the fiber's history.
  void make_context() {
#if NETVM_TSAN
    void* const maker = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(inside.tsan_fiber, 0);
#endif
    context::stack_context where;
    where.sp = stack + kStackBytes;
    where.size = kStackBytes;
    fiber = context::fiber(std::allocator_arg, context::preallocated(where.sp, where.size, where), BorrowedStack{},
                           [this](context::fiber&& from) -> context::fiber {
                             resumer = std::move(from);
                             main();
                           });
#if NETVM_TSAN
    __tsan_switch_to_fiber(maker, 0);
#endif
  }

  std::function<void()> body;
  std::byte* stack;
  Side inside;   // the fiber
  Side outside;  // whoever resumes it
  ExceptionState exceptions;
  std::exception_ptr exception;
  bool started = false;
  bool running = false;
  bool done = false;
  // In a union, because destroying a suspended context::fiber would unwind its stack by an exception: code that is in the
  // middle of a wait would run against objects that are gone. Nothing of it lies outside the stack.
  union {
    context::fiber fiber{};
  };
  union {
    context::fiber resumer{};
  };
};

Fiber::Fiber(std::function<void()> body) : impl_(std::make_unique<Impl>(std::move(body))) {}
Fiber::~Fiber() = default;

void Fiber::resume() {
  Impl& self = *impl_;
  NETVM_CHECK(!self.done, "a fiber was resumed that has ended");
  NETVM_CHECK(!self.running, "a fiber was resumed from inside");
  if (!self.started) {
    self.started = true;
    self.make_context();
  }
  self.running = true;
  self.switch_in();
  self.running = false;
}

void Fiber::suspend() {
  NETVM_CHECK(impl_->running, "suspend() was called from outside the fiber");
  impl_->switch_out();
}

bool Fiber::done() const { return impl_->done; }
std::exception_ptr Fiber::take_exception() { return std::exchange(impl_->exception, nullptr); }

}  // namespace netvm
