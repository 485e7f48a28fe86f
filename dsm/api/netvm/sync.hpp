// Synchronisation between the threads of all nodes, in the shapes of the C++ standard library: semaphores, reader-writer locks, condition variables, wait
// queues, barriers, latches, flags, call_once. (netvm::mutex and the barrier of everybody, Thread::barrier(), are in netvm.hpp.)
//
// What holds for all of them:
//  - They live in shared memory (allocate<netvm::latch>(), or inside a shared structure) and are known by their address: the same object on every node.
//    They take 8 bytes, need no destruction, and cost nothing until they are used: thousands of them are fine.
//  - Zeroed memory is a valid object: a semaphore without permits, a free lock, an open latch, a flag that is not set. A count is given by constructing the
//    object in place (std::construct_at(p, 3)) before others use it, or by init(). Both begin anew, whatever lived there, also if its state died with a node
//    (owner_dead). A constructor without a count does nothing at run time: it leaves the object that lives there as it is, and zeros are one. Memory that
//    was freed with Job::free() and is handed out again is zeros for all nodes: what used to live there is gone.
//  - They carry memory: what a thread wrote before it released, notified, arrived, counted down or set is visible to the threads that this lets go on, and
//    to all that use the object after it. So it is under protocols that give Consistency::release and more. Under "scope" that is what
//    the calling node itself wrote; under "entry" it is what was bound to a shared_mutex, and the others order, but move nothing: docs/sync.md.
//  - An operation may wait for other nodes' short operations on the same object. Those that are said to block wait for something to happen, first come, first
//    served. Operations with a time return false (or cv_status::timeout) after it, with nothing changed; a time of zero tries. Whatever other nodes do, stopped
//    ones included, these come back half a second after their time (or after a stop request) at the latest, false if by then nothing is known: docs/sync.md, Giving up.
//  - Misuse and what cannot go on throw std::system_error: operation_not_permitted (not in shared memory, or not held), invalid_argument (a count that does not
//    fit, or another kind of object lives at this address), resource_deadlock_would_occur, device_or_resource_busy (constructed again while threads
//    wait), owner_dead (a node died with the object), no_lock_available (the lock table is full), operation_canceled (the job ends).
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <type_traits>
#include <utility>

#include "netvm/netvm.hpp"

namespace netvm {

namespace detail {

enum class ObjectKind : std::uint8_t { semaphore = 1, rwlock = 2, wait_queue = 3, barrier = 4, latch = 5, flag = 6, once = 7 };

/// Begins an object anew if it lies in shared memory; else nothing happens: an object with static storage is taken as it lies.
void object_init(const void* object, ObjectKind kind, std::int64_t count, std::int64_t most);
// Those that wait return false after the limit, or when a stop is requested.
// Where a count is asked for at the first use of an object that was not initialised by code, it is read from `*count`.
bool semaphore_acquire(const void* object, const std::int64_t* count, std::int64_t limit, const std::stop_token* stop = nullptr);
void semaphore_release(const void* object, const std::int64_t* count, std::int64_t permits, std::int64_t most);
bool rwlock_lock(const void* object, bool shared, std::int64_t limit, const std::stop_token* stop = nullptr);
void rwlock_unlock(const void* object, bool shared);
void rwlock_bind(const void* object, const void* first, std::size_t bytes);
std::uint64_t rwlock_fencing_token(const void* object);
std::uint64_t queue_enter(const void* object, std::int64_t limit = kNoLimit,
                          const std::stop_token* stop = nullptr);  // 0: the limit or the stop came first
bool queue_wait(const void* object, std::uint64_t ticket, std::int64_t limit, const std::stop_token* stop = nullptr);
void queue_interrupt(std::uint64_t ticket);
std::uint64_t queue_wake(const void* object, std::uint64_t most);
struct BarrierCall {
  const std::int64_t* count = nullptr;  // expected arrivals of one that was not initialised by code
  std::int64_t must_be = 0;
  std::int64_t arrivals = 1;
  bool drops = false;
  const std::function<void()>* on_completion = nullptr;
};
std::uint64_t barrier_arrive(const void* object, const BarrierCall& call);
void barrier_arrive_and_wait(const void* object, const BarrierCall& call);
bool barrier_wait(const void* object, std::uint64_t phase, std::int64_t limit, const std::stop_token* stop = nullptr);
void latch_count_down(const void* object, const std::int64_t* count, std::int64_t by);
bool latch_wait(const void* object, const std::int64_t* count, std::int64_t limit, const std::stop_token* stop = nullptr);
void flag_set(const void* object, bool value);
bool flag_wait(const void* object, std::int64_t limit, const std::stop_token* stop = nullptr);
enum class OnceTurn : std::uint8_t { mine, done, stopped };
OnceTurn once_begin(const void* object, const std::stop_token* stop = nullptr);
void once_end(const void* object, bool done);

}  // namespace detail

/// std::counting_semaphore between the threads of all nodes. First come, first served: a permit released while threads wait belongs to the
/// first of them, nobody barges in.
template <std::ptrdiff_t LeastMaxValue = PTRDIFF_MAX>
class counting_semaphore {
  static_assert(LeastMaxValue >= 0);

 public:
  /// Without permits, as zeroed memory is.
  constexpr counting_semaphore() = default;
  constexpr explicit counting_semaphore(std::ptrdiff_t desired) : count_(desired) {
    if (!std::is_constant_evaluated()) init(desired);
  }
  counting_semaphore(const counting_semaphore&) = delete;
  counting_semaphore& operator=(const counting_semaphore&) = delete;
  static constexpr std::ptrdiff_t max() noexcept { return LeastMaxValue; }

  /// Begins anew with so many permits. Throws invalid_argument (below 0, above max()), device_or_resource_busy (threads wait).
  void init(std::ptrdiff_t desired) { detail::object_init(this, detail::ObjectKind::semaphore, desired, LeastMaxValue); }
  /// Throws invalid_argument if update < 0 or there would be more than max() permits.
  void release(std::ptrdiff_t update = 1) { detail::semaphore_release(this, &count_, update, LeastMaxValue); }
  /// Blocks until there is a permit.
  void acquire() { static_cast<void>(detail::semaphore_acquire(this, &count_, detail::kNoLimit)); }
  /// Blocks until there is a permit (true) or a stop is requested (false).
  [[nodiscard]] bool acquire(const std::stop_token& stop) { return detail::semaphore_acquire(this, &count_, detail::kNoLimit, &stop); }
  [[nodiscard]] bool try_acquire() { return detail::semaphore_acquire(this, &count_, 0); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& time) {
    return detail::semaphore_acquire(this, &count_, detail::limit_of(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(const std::chrono::time_point<Clock, Duration>& moment) {
    return detail::semaphore_acquire(this, &count_, detail::limit_until(moment));
  }

 private:
  std::int64_t count_ = 0;  // before the first use; then the permits are kept elsewhere
};
using binary_semaphore = counting_semaphore<1>;

/// std::shared_timed_mutex between the threads of all nodes: one writer or many readers. In order of arrival; readers that stand next to each other in the
/// queue enter together, and a reader whose node reads already joins without a message (a bounded number of times, so writers do not
/// starve). Works with std::shared_lock, std::unique_lock, std::scoped_lock. Not recursive, neither way: resource_deadlock_would_occur.
class shared_mutex {
 public:
  constexpr shared_mutex() = default;
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;
  /// Begins anew, also after owner_dead. Throws device_or_resource_busy if threads hold it or wait for it.
  void init() { detail::object_init(this, detail::ObjectKind::rwlock, 0, 0); }

  void lock() { static_cast<void>(detail::rwlock_lock(this, false, detail::kNoLimit)); }
  /// Blocks until it is this thread's (true) or a stop is requested (false).
  [[nodiscard]] bool lock(const std::stop_token& stop) { return detail::rwlock_lock(this, false, detail::kNoLimit, &stop); }
  [[nodiscard]] bool try_lock() { return detail::rwlock_lock(this, false, 0); }
  /// Throws operation_not_permitted if this thread does not hold it so.
  void unlock() { detail::rwlock_unlock(this, false); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return detail::rwlock_lock(this, false, detail::limit_of(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& moment) {
    return detail::rwlock_lock(this, false, detail::limit_until(moment));
  }

  void lock_shared() { static_cast<void>(detail::rwlock_lock(this, true, detail::kNoLimit)); }
  [[nodiscard]] bool lock_shared(const std::stop_token& stop) { return detail::rwlock_lock(this, true, detail::kNoLimit, &stop); }
  [[nodiscard]] bool try_lock_shared() { return detail::rwlock_lock(this, true, 0); }
  void unlock_shared() { detail::rwlock_unlock(this, true); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(const std::chrono::duration<Rep, Period>& time) {
    return detail::rwlock_lock(this, true, detail::limit_of(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration>& moment) {
    return detail::rwlock_lock(this, true, detail::limit_until(moment));
  }

  /// How many writers have been let in, as of when this thread, the writer, was: a number that rises from writer to writer, to be sent along with what
  /// must not be done by one that has lost the lock. From others an operation on the lock's state; after owner_dead it is above that of every writer.
  [[nodiscard]] std::uint64_t fencing_token() const { return detail::rwlock_fencing_token(this); }

  /// Says that this mutex guards these objects: what mutex::bind() is to a mutex. Under protocol "entry" readers and writers see them as the last writer left them.
  template <class T>
  void bind(const T* first, std::size_t count = 1) {
    detail::rwlock_bind(this, first, detail::bytes_of<T>(count));
  }

 private:
  [[maybe_unused]] std::int64_t reserved_ = 0;  // no state here: the address is the identity
};

class condition_variable;

/// Threads that wait to be woken, first come, first served; what condition variables are made of. Enqueue first, look at the condition, then wait or
/// leave: a wake-up in between is not lost.
class wait_queue {
 public:
  /// A place in the queue. To be used up by the thread that got it, by wait() or leave(), once.
  class ticket {
   public:
    ticket() = default;

   private:
    friend class wait_queue;
    friend class condition_variable;
    explicit ticket(std::uint64_t number) : number_(number) {}
    std::uint64_t number_ = 0;
  };
  constexpr wait_queue() = default;
  wait_queue(const wait_queue&) = delete;
  wait_queue& operator=(const wait_queue&) = delete;
  /// Begins anew, also after owner_dead. Throws device_or_resource_busy if threads wait.
  void init() { detail::object_init(this, detail::ObjectKind::wait_queue, 0, 0); }

  /// Does not block.
  [[nodiscard]] ticket enqueue() { return ticket(detail::queue_enter(this)); }
  /// Blocks until woken.
  void wait(ticket place) { static_cast<void>(detail::queue_wait(this, place.number_, detail::kNoLimit)); }
  /// False: a stop was requested, and the place is given up.
  [[nodiscard]] bool wait(ticket place, const std::stop_token& stop) {
    return detail::queue_wait(this, place.number_, detail::kNoLimit, &stop);
  }
  /// False: the time is over, and the place is given up.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(ticket place, const std::chrono::duration<Rep, Period>& time) {
    return detail::queue_wait(this, place.number_, detail::limit_of(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(ticket place, const std::chrono::time_point<Clock, Duration>& moment) {
    return detail::queue_wait(this, place.number_, detail::limit_until(moment));
  }
  /// Gives the place up. True: it had been woken meanwhile (and may want to wake the next).
  bool leave(ticket place) { return detail::queue_wait(this, place.number_, 0); }
  /// Wakes the first. False: nobody waits.
  bool wake_one() { return detail::queue_wake(this, 1) != 0; }
  /// Wakes all who wait now. Returns how many.
  std::size_t wake_all() { return detail::queue_wake(this, UINT64_MAX); }

 private:
  [[maybe_unused]] std::int64_t reserved_ = 0;
};

/// std::condition_variable_any between the threads of all nodes: with std::unique_lock<netvm::mutex>, std::shared_lock<netvm::shared_mutex>, or a
/// netvm::mutex itself. No wake-up is lost, none is spurious; those who wait are woken in their order. The mutex must be one of shared memory.
class condition_variable {
 public:
  constexpr condition_variable() = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;
  /// Begins anew, also after owner_dead. Throws device_or_resource_busy if threads wait.
  void init() { queue_.init(); }

  /// Never block. May be called with or without the lock held.
  void notify_one() { queue_.wake_one(); }
  void notify_all() { queue_.wake_all(); }

  /// Gives the lock up, blocks until notified, takes the lock again.
  template <class Lock>
  void wait(Lock& lock) {
    static_cast<void>(wait_limited(lock, detail::kNoLimit));
  }
  template <class Lock, class Predicate>
  void wait(Lock& lock, Predicate holds) {
    while (!holds()) wait(lock);
  }
  template <class Lock, class Rep, class Period>
  std::cv_status wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& time) {
    return wait_limited(lock, detail::limit_of(time));
  }
  template <class Lock, class Clock, class Duration>
  std::cv_status wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& moment) {
    return wait_limited(lock, detail::limit_until(moment));
  }
  /// Return holds().
  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& time, Predicate holds) {
    const std::int64_t limit = detail::limit_of(time);
    if (limit == detail::kNoLimit) return wait(lock, std::move(holds)), true;
    return wait_until(lock, std::chrono::steady_clock::now() + std::chrono::nanoseconds(limit), std::move(holds));
  }
  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& moment, Predicate holds) {
    while (!holds()) {
      if (wait_until(lock, moment) == std::cv_status::timeout) return holds();
    }
    return true;
  }
  /// The same, until the token is asked to stop.
  template <class Lock, class Predicate>
  bool wait(Lock& lock, const std::stop_token& stop, Predicate holds) {
    while (!holds()) {
      if (stop.stop_requested()) return false;
      static_cast<void>(wait_limited(lock, detail::kNoLimit, &stop));
    }
    return true;
  }
  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, const std::stop_token& stop, const std::chrono::time_point<Clock, Duration>& moment, Predicate holds) {
    while (!holds()) {
      if (stop.stop_requested()) return false;
      if (wait_limited(lock, detail::limit_until(moment), &stop) == std::cv_status::timeout) return holds();
    }
    return true;
  }
  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, const std::stop_token& stop, const std::chrono::duration<Rep, Period>& time, Predicate holds) {
    const std::int64_t limit = detail::limit_of(time);
    if (limit == detail::kNoLimit) return wait(lock, stop, std::move(holds));
    return wait_until(lock, stop, std::chrono::steady_clock::now() + std::chrono::nanoseconds(limit), std::move(holds));
  }

 private:
  template <class Lock>
  std::cv_status wait_limited(Lock& lock, std::int64_t limit, const std::stop_token* stop = nullptr) {
    const auto begin = std::chrono::steady_clock::now();
    const wait_queue::ticket place(
        detail::queue_enter(&queue_, limit, stop));  // before the lock is free: whoever notifies from then on finds this thread
    if (place.number_ == 0) return std::cv_status::timeout;
    try {
      lock.unlock();
    } catch (...) {
      queue_.leave(place);
      throw;
    }
    if (limit != detail::kNoLimit) {
      const std::chrono::nanoseconds passed = std::chrono::steady_clock::now() - begin;
      limit -= std::min<std::int64_t>(limit, passed.count());
    }
    bool woken = false;
    const auto relock = [&lock] { lock.lock(); };
    try {
      if (stop != nullptr) {
        const std::stop_callback on_stop(*stop, [&place] { detail::queue_interrupt(place.number_); });
        woken = detail::queue_wait(&queue_, place.number_, limit);
      } else {
        woken = detail::queue_wait(&queue_, place.number_, limit);
      }
    } catch (...) {
      relock();
      throw;
    }
    relock();
    return woken ? std::cv_status::no_timeout : std::cv_status::timeout;
  }

  wait_queue queue_;
};

namespace detail {
struct NoCompletion {
  void operator()() const noexcept {}
};
}  // namespace detail

/// std::barrier for any threads of the job, so many of them as it was made for; reusable, split into arrive() and wait() where there is something to do
/// in between. The completion function, if any, is run by the last to arrive, before anybody goes on; its type must be fine in shared memory,
/// and it must not use this barrier.
template <class Completion = detail::NoCompletion>
class barrier {
  static_assert(std::is_trivially_destructible_v<Completion>, "shared memory runs no destructors");

 public:
  /// What arrive() returns and wait() takes.
  class arrival_token {
   private:
    friend class barrier;
    explicit arrival_token(std::uint64_t phase) : phase_(phase) {}
    std::uint64_t phase_;
  };
  constexpr barrier() = default;
  constexpr explicit barrier(std::ptrdiff_t expected, Completion on_completion = {}) : count_(expected), completion_(on_completion) {
    if (!std::is_constant_evaluated()) init(expected);
  }
  barrier(const barrier&) = delete;
  barrier& operator=(const barrier&) = delete;

  /// Begins anew for so many threads (SPLASH's BARINIT). Throws device_or_resource_busy if threads wait.
  void init(std::ptrdiff_t expected) { detail::object_init(this, detail::ObjectKind::barrier, expected, PTRDIFF_MAX); }
  /// Does not wait for others. Throws invalid_argument for more arrivals than are missing.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t update = 1) {
    return arrival_token(with_completion({&count_, 0, update, false, nullptr}, detail::barrier_arrive));
  }
  /// Blocks until the phase of the token has ended.
  void wait(arrival_token&& phase) const { static_cast<void>(detail::barrier_wait(this, phase.phase_, detail::kNoLimit)); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_wait_for(const arrival_token& phase, const std::chrono::duration<Rep, Period>& time) const {
    return detail::barrier_wait(this, phase.phase_, detail::limit_of(time));
  }
  /// False: a stop was requested; the arrival stays.
  [[nodiscard]] bool wait(const arrival_token& phase, const std::stop_token& stop) const {
    return detail::barrier_wait(this, phase.phase_, detail::kNoLimit, &stop);
  }
  [[nodiscard]] bool try_wait(const arrival_token& phase) const { return detail::barrier_wait(this, phase.phase_, 0); }
  void arrive_and_wait() { with_completion({&count_, 0, 1, false, nullptr}, detail::barrier_arrive_and_wait); }
  /// The same, saying how many are expected: a barrier of zeroed memory gets its count from the first who arrives; one that is of another count throws
  /// invalid_argument.
  void arrive_and_wait(std::ptrdiff_t expected) {
    const std::int64_t count = expected;
    with_completion({&count, expected, 1, false, nullptr}, detail::barrier_arrive_and_wait);
  }
  /// Arrives, and is expected no more.
  void arrive_and_drop() { static_cast<void>(with_completion({&count_, 0, 1, true, nullptr}, detail::barrier_arrive)); }

 private:
  template <class Operation>
  auto with_completion(detail::BarrierCall call, Operation operation) {
    if constexpr (std::is_same_v<Completion, detail::NoCompletion>) {
      return operation(this, call);
    } else {
      const std::function<void()> run = [this] { completion_(); };
      call.on_completion = &run;
      return operation(this, call);
    }
  }
  std::int64_t count_ = 0;  // before the first use
  [[no_unique_address]] Completion completion_{};
};

/// std::latch between the threads of all nodes: open when its count is 0, and for good.
class latch {
 public:
  constexpr latch() = default;
  constexpr explicit latch(std::ptrdiff_t expected) : count_(expected) {
    if (!std::is_constant_evaluated()) init(expected);
  }
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;

  void init(std::ptrdiff_t expected) { detail::object_init(this, detail::ObjectKind::latch, expected, PTRDIFF_MAX); }
  /// Throws invalid_argument if the count is less. Does not block.
  void count_down(std::ptrdiff_t update = 1) { detail::latch_count_down(this, &count_, update); }
  [[nodiscard]] bool try_wait() const { return detail::latch_wait(this, &count_, 0); }
  /// Blocks until it is open.
  void wait() const { static_cast<void>(detail::latch_wait(this, &count_, detail::kNoLimit)); }
  /// Blocks until it is open (true) or a stop is requested (false).
  [[nodiscard]] bool wait(const std::stop_token& stop) const { return detail::latch_wait(this, &count_, detail::kNoLimit, &stop); }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& time) const {
    return detail::latch_wait(this, &count_, detail::limit_of(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& moment) const {
    return detail::latch_wait(this, &count_, detail::limit_until(moment));
  }
  void arrive_and_wait(std::ptrdiff_t update = 1) {
    count_down(update);
    wait();
  }

 private:
  std::int64_t count_ = 0;  // before the first use
};

/// Set or not; threads wait until it is set (SPLASH's PAUSE, an event in other systems).
class flag {
 public:
  constexpr flag() = default;
  flag(const flag&) = delete;
  flag& operator=(const flag&) = delete;
  /// Begins anew, also after owner_dead. Throws device_or_resource_busy if threads wait.
  void init() { detail::object_init(this, detail::ObjectKind::flag, 0, 0); }

  /// Lets all go on who wait, and all who come, until clear().
  void set() { detail::flag_set(this, true); }
  void clear() { detail::flag_set(this, false); }
  [[nodiscard]] bool is_set() const { return detail::flag_wait(this, 0); }
  /// Blocks until it is set.
  void wait() const { static_cast<void>(detail::flag_wait(this, detail::kNoLimit)); }
  /// Blocks until it is set (true) or a stop is requested (false).
  [[nodiscard]] bool wait(const std::stop_token& stop) const { return detail::flag_wait(this, detail::kNoLimit, &stop); }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& time) const {
    return detail::flag_wait(this, detail::limit_of(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& moment) const {
    return detail::flag_wait(this, detail::limit_until(moment));
  }

 private:
  [[maybe_unused]] std::int64_t reserved_ = 0;
};

/// For call_once(): something that one thread of the job does for all.
class once_flag {
 public:
  constexpr once_flag() = default;
  once_flag(const once_flag&) = delete;
  once_flag& operator=(const once_flag&) = delete;
  /// Begins anew, also after owner_dead. Throws device_or_resource_busy if threads wait.
  void init() { detail::object_init(this, detail::ObjectKind::once, 0, 0); }

 private:
  template <class F, class... Args>
  friend void call_once(once_flag& flag, F&& f, Args&&... args);
  template <class F, class... Args>
  friend bool call_once(once_flag& flag, std::stop_token stop, F&& f, Args&&... args);
  [[maybe_unused]] std::int64_t reserved_ = 0;
};

namespace detail {
template <class F, class... Args>
void once_run(const void* flag, F&& f, Args&&... args) {
  try {
    std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
  } catch (...) {
    once_end(flag, false);
    throw;
  }
  once_end(flag, true);
}
}  // namespace detail

/// std::call_once for all nodes: calls f if nobody has; blocks while somebody does; what f wrote is visible after. If f throws, the exception goes to its
/// caller, and the next one tries.
template <class F, class... Args>
void call_once(once_flag& flag, F&& f, Args&&... args) {
  if (detail::once_begin(&flag) == detail::OnceTurn::mine) detail::once_run(&flag, std::forward<F>(f), std::forward<Args>(args)...);
}

/// The same, but who waits for another thread's call gives up when a stop is requested. False then: it has not been done.
template <class F, class... Args>
bool call_once(once_flag& flag,
               std::stop_token stop,  // NOLINT(performance-unnecessary-value-param): by reference the form above would match as well
               F&& f, Args&&... args) {
  const detail::OnceTurn turn = detail::once_begin(&flag, &stop);
  if (turn == detail::OnceTurn::mine) detail::once_run(&flag, std::forward<F>(f), std::forward<Args>(args)...);
  return turn != detail::OnceTurn::stopped;
}

namespace detail {
template <std::ptrdiff_t LeastMaxValue>
inline constexpr bool is_object<counting_semaphore<LeastMaxValue>> = true;
template <>
inline constexpr bool is_object<shared_mutex> = true;
template <>
inline constexpr bool is_object<wait_queue> = true;
template <>
inline constexpr bool is_object<condition_variable> = true;
template <class Completion>
inline constexpr bool is_object<barrier<Completion>> = true;
template <>
inline constexpr bool is_object<latch> = true;
template <>
inline constexpr bool is_object<flag> = true;
template <>
inline constexpr bool is_object<once_flag> = true;
}  // namespace detail

static_assert(sizeof(binary_semaphore) == 8 && sizeof(shared_mutex) == 8 && sizeof(condition_variable) == 8 && sizeof(barrier<>) == 8 &&
              sizeof(latch) == 8 && sizeof(flag) == 8 && sizeof(once_flag) == 8);

}  // namespace netvm
