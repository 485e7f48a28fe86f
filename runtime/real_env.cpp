#include "runtime/real_env.hpp"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <ctime>
#include <deque>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/check.hpp"
#include "runtime/cpu.hpp"
#include "runtime/random.hpp"
#include "runtime/signals_blocked.hpp"

namespace netvm {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kSecondWordPoll = 200'000;  // how late the second word may be noticed without futex_waitv

// The kernel's interface of Linux 5.16, declared here because older headers lack it.
struct WaitvEntry {
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr long kSysFutexWaitv = 449;       // the same on all architectures
constexpr std::uint32_t kFutexSize32 = 2;  // FUTEX_32; not FUTEX_PRIVATE_FLAG: see invariant 1

std::atomic<bool> waitv_missing{false};

timespec to_timespec(Nanos moment) { return {static_cast<time_t>(moment / kSecond), static_cast<long>(moment % kSecond)}; }

Nanos monotonic_now() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<Nanos>(t.tv_sec) * kSecond + t.tv_nsec;
}

// FUTEX_WAIT_BITSET, because its deadline is a moment of CLOCK_MONOTONIC and not a duration.
void wait_one(const ParkOn& on, Nanos deadline) {
  const timespec until = to_timespec(std::max<Nanos>(deadline, 0));
  const timespec* limit = deadline == kForever ? nullptr : &until;
  const long rc = ::syscall(SYS_futex, on.word, FUTEX_WAIT_BITSET, on.expected, limit, nullptr, FUTEX_BITSET_MATCH_ANY);
  NETVM_CHECK(rc == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT, "futex wait: errno %d", errno);
}

// False if this kernel (or a seccomp filter) knows no futex_waitv.
bool wait_many(std::span<const ParkOn> words, Nanos deadline) {
  std::array<WaitvEntry, kMaxParkWords> entries{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    entries[i] = {words[i].expected, reinterpret_cast<std::uintptr_t>(words[i].word), kFutexSize32, 0};
  }
  const timespec until = to_timespec(std::max<Nanos>(deadline, 0));
  const timespec* limit = deadline == kForever ? nullptr : &until;
  const long rc = ::syscall(kSysFutexWaitv, entries.data(), words.size(), 0, limit, CLOCK_MONOTONIC);
  if (rc >= 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT) return true;
  NETVM_CHECK(errno == ENOSYS || errno == EPERM, "futex_waitv: errno %d", errno);
  return false;
}

bool still_expected(const ParkOn& on) { return on.word->load(std::memory_order_seq_cst) == on.expected; }

std::uint64_t seed_from_kernel() {
  std::uint64_t seed = 0;
  while (::getrandom(&seed, sizeof seed, 0) != static_cast<ssize_t>(sizeof seed)) {
    NETVM_CHECK(errno == EINTR, "getrandom: errno %d", errno);
  }
  return seed;
}

}  // namespace

// ---- timers -------------------------------------------------------------------------------------------------------

struct RealEnv::Timers {
  struct Timer {
    Nanos when;
    std::uint64_t order;  // of insertion: timers of one moment run in the order in which they were set
    std::function<void()> task;
    bool operator<(const Timer& other) const { return std::pair(when, order) > std::pair(other.when, other.order); }
  };
  std::mutex mutex;
  std::vector<Timer> heap;  // a heap with the earliest first
  std::uint64_t next_order = 0;
  std::atomic<Nanos> earliest{kForever};  // heap.front().when; read without the lock
  std::function<void()> hook;

  // Requires the mutex.
  void publish_earliest() { earliest.store(heap.empty() ? kForever : heap.front().when); }
};

void RealEnv::at(Nanos when, std::function<void()> task) {
  bool is_earliest = false;
  {
    const std::lock_guard lock(timers_->mutex);
    is_earliest = when < timers_->earliest.load();
    timers_->heap.push_back({when, timers_->next_order++, std::move(task)});
    std::push_heap(timers_->heap.begin(), timers_->heap.end());
    timers_->publish_earliest();
  }
  if (is_earliest && timers_->hook) timers_->hook();
}

Nanos RealEnv::next_timer() const { return timers_->earliest.load(); }

std::size_t RealEnv::run_due_timers() {
  if (timers_->earliest.load() == kForever) return 0;
  const Nanos due = now();
  std::size_t count = 0;
  while (timers_->earliest.load() <= due) {
    std::function<void()> task;
    {
      const std::lock_guard lock(timers_->mutex);
      if (timers_->heap.empty() || timers_->heap.front().when > due) break;
      std::pop_heap(timers_->heap.begin(), timers_->heap.end());
      task = std::move(timers_->heap.back().task);
      timers_->heap.pop_back();
      timers_->publish_earliest();
    }
    task();
    ++count;
  }
  return count;
}

void RealEnv::set_earlier_timer_hook(std::function<void()> hook) { timers_->hook = std::move(hook); }

// ---- spawned tasks --------------------------------------------------------------------------------------------------

// A thread is made when a task finds none idle, because tasks may wait for each other: a bound would be a deadlock. Idle
// threads go after a while.
class RealEnv::Workers {
 public:
  ~Workers() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    work_.notify_all();
    ended_.wait(lock, [this] { return threads_.size() == finished_.size(); });
    join_finished();
  }

  void run(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ >= tasks_.size()) {
      work_.notify_one();
      return;
    }
    join_finished();
    start_thread();
  }

 private:
  using Threads = std::list<std::thread>;
  static constexpr auto kIdleTime = std::chrono::seconds(2);

  // Requires the mutex.
  void start_thread() {
    const SignalsBlocked signals;
    const auto self = threads_.emplace(threads_.end());
    try {
      *self = std::thread([this, self] { work(self); });  // it waits for the mutex before it looks at anything
    } catch (const std::system_error&) {
      threads_.erase(self);  // the task waits for a thread that is busy now
      NETVM_CHECK(!threads_.empty(), "the system gives this process no thread; raise its limit (ulimit -u, or the cgroup's pids.max)");
    }
  }

  // Requires the mutex; these threads never take it again.
  void join_finished() {
    for (const Threads::iterator thread : finished_) {
      thread->join();
      threads_.erase(thread);
    }
    finished_.clear();
  }

  void work(Threads::iterator self) {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (!tasks_.empty()) {
        std::function<void()> task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        task = nullptr;  // what it holds must go without the lock held
        lock.lock();
        continue;
      }
      if (stopping_) break;
      ++idle_;
      const bool woken = work_.wait_for(lock, kIdleTime, [this] { return stopping_ || !tasks_.empty(); });
      --idle_;
      if (!woken) break;
    }
    finished_.push_back(self);
    ended_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable ended_;
  std::deque<std::function<void()>> tasks_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  Threads threads_;
  std::vector<Threads::iterator> finished_;  // those of threads_ that have ended or are about to
};

void RealEnv::spawn(std::function<void()> task) { workers_->run(std::move(task)); }

// ---- the rest -------------------------------------------------------------------------------------------------------

RealEnv::RealEnv(const RealEnvOptions& options)
    : options_(options),
      random_state_(options.seed != 0 ? options.seed : seed_from_kernel()),
      timers_(std::make_unique<Timers>()),
      workers_(std::make_unique<Workers>()) {}

RealEnv::~RealEnv() = default;

Nanos RealEnv::now() const { return monotonic_now(); }

std::uint64_t RealEnv::random() {
  // relaxed: each caller needs a state of its own and nothing else
  return mix64(random_state_.fetch_add(kSplitMixStep, std::memory_order_relaxed) + kSplitMixStep);
}

void RealEnv::park(std::span<const ParkOn> words, Nanos deadline) {
  NETVM_CHECK(!words.empty() && words.size() <= kMaxParkWords, "park() takes 1 or 2 words, not %zu", words.size());
  const int saved_errno = errno;
  if (words.size() == 1) {
    wait_one(words[0], deadline);
  } else if (waitv_missing.load(std::memory_order_relaxed) || !wait_many(words, deadline)) {  // relaxed: only remembers an answer
    waitv_missing.store(true, std::memory_order_relaxed);                                     // relaxed: as above
    if (still_expected(words[1])) wait_one(words[0], std::min(deadline, monotonic_now() + kSecondWordPoll));
  }
  errno = saved_errno;
}

void RealEnv::wake(const std::atomic<std::uint32_t>& word, int count) {
  const int saved_errno = errno;
  const long rc = ::syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0);
  NETVM_CHECK(rc >= 0 || errno == EFAULT, "futex wake: errno %d", errno);  // EFAULT: the word's owner has freed it already
  errno = saved_errno;
}

std::uintptr_t RealEnv::context() const {
  thread_local const char mine = 0;
  return reinterpret_cast<std::uintptr_t>(&mine);
}

int RealEnv::processor() const { return ::sched_getcpu(); }

// A thread whose affinity leaves out where it runs is moved before the call returns.
bool RealEnv::move_from(std::span<const int> processors) {
  const int saved_errno = errno;
  cpu_set_t allowed;
  bool moved = false;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    cpu_set_t others = allowed;
    for (const int processor : processors) CPU_CLR(processor, &others);
    moved = CPU_COUNT(&others) != 0 && ::sched_setaffinity(0, sizeof(others), &others) == 0;
    if (moved) (void)::sched_setaffinity(0, sizeof(allowed), &allowed);
  }
  errno = saved_errno;
  return moved;
}

void RealEnv::relax() {
  constexpr std::uint32_t kPausesBeforeYield = 8;
  thread_local std::uint32_t pauses = 0;
  if (options_.crowded && ++pauses % kPausesBeforeYield == 0) {
    ::sched_yield();
  } else {
    cpu_pause();
  }
}

}  // namespace netvm
