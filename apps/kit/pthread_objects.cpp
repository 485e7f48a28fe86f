// Condition variables, barriers, reader-writer locks and once, in shared memory: objects of sync/, by address.
//
// Invariants
//  1. Of the object's memory this is used: a condition variable's clock, a barrier's count. Zeroed memory is a fresh object (but a barrier, which has no
//     static initialiser either).
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "apps/kit/pthread_objects.hpp"
#include "apps/kit/real.hpp"

namespace netvm::kit {

struct HeldRwlocks {
  struct Held {
    std::uint64_t key;
    std::uint32_t times;  // how often this thread reads
    bool writes;
  };
  std::vector<Held> held;
};

namespace {

NETVM_REAL(pthread_cond_init);
NETVM_REAL(pthread_cond_destroy);
NETVM_REAL(pthread_cond_wait);
NETVM_REAL(pthread_cond_timedwait);
NETVM_REAL(pthread_cond_clockwait);
NETVM_REAL(pthread_cond_signal);
NETVM_REAL(pthread_cond_broadcast);
NETVM_REAL(pthread_barrier_init);
NETVM_REAL(pthread_barrier_destroy);
NETVM_REAL(pthread_barrier_wait);
NETVM_REAL(pthread_rwlock_init);
NETVM_REAL(pthread_rwlock_destroy);
NETVM_REAL(pthread_rwlock_rdlock);
NETVM_REAL(pthread_rwlock_tryrdlock);
NETVM_REAL(pthread_rwlock_timedrdlock);
NETVM_REAL(pthread_rwlock_clockrdlock);
NETVM_REAL(pthread_rwlock_wrlock);
NETVM_REAL(pthread_rwlock_trywrlock);
NETVM_REAL(pthread_rwlock_timedwrlock);
NETVM_REAL(pthread_rwlock_clockwrlock);
NETVM_REAL(pthread_rwlock_unlock);
NETVM_REAL(pthread_once);

sync::Objects& objects() { return Pthreads::find()->objects(); }

// ---- condition variables -----------------------------------------------------------------------------------------------------------------

struct ConditionMemory {
  std::uint32_t clock;  // 0: CLOCK_REALTIME
};

int wait(pthread_cond_t* condition, std::uint64_t key, pthread_mutex_t* mutex, Nanos deadline) {
  constexpr const char* kCall = "pthread_cond_wait()";
  const auto mutex_key = shared_key(mutex);
  if (!mutex_key)
    misuse(kCall,
           "the condition variable is shared between nodes and its mutex is not (it is a thread_local variable, or a library's own)");
  static_cast<void>(condition);
  std::uint64_t ticket = 0;
  const Status lined_up = in_runtime([key, &ticket] {
    return as_kind(key, sync::ObjectKind::wait_queue, [key, &ticket] {
      const auto place = objects().enqueue(key, detail::this_thread_id());  // before the mutex is let go: a signal from then on finds it
      if (place) ticket = *place;
      return place.status();
    });
  });
  if (const int error = error_of(lined_up, kCall); error != 0) return error;
  if (const int error = unlock_for_condition(mutex, *mutex_key); error != 0) {
    in_runtime([=] { static_cast<void>(objects().wait(key, detail::this_thread_id(), ticket, 0)); });
    return error;
  }
  const Status status = in_runtime([=] { return objects().wait(key, detail::this_thread_id(), ticket, deadline); });
  if (const int error = lock_for_condition(mutex, *mutex_key); error != 0) return error;
  return error_of(status, kCall);
}

int timed_wait(pthread_cond_t* condition, std::uint64_t key, pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  const auto deadline = Pthreads::find()->deadline_of(clock, until);
  return deadline ? wait(condition, key, mutex, *deadline) : EINVAL;
}

int wake(std::uint64_t key, std::uint64_t most) {
  const Status status = in_runtime([=] {
    return as_kind(key, sync::ObjectKind::wait_queue, [=] { return objects().wake(key, detail::this_thread_id(), most).status(); });
  });
  return error_of(status, "pthread_cond_signal()");
}

// ---- barriers ----------------------------------------------------------------------------------------------------------------------------

struct BarrierMemory {
  std::uint32_t count;
};

int begin_barrier(std::uint64_t key, std::uint32_t count) {
  const Status status = in_runtime([=] {
    return objects().init(key, detail::this_thread_id(), count != 0 ? sync::ObjectKind::barrier : sync::ObjectKind::none, count);
  });
  return status == Status::invalid ? EBUSY : error_of(status, "pthread_barrier_init()");
}

int meet(std::uint64_t key, std::uint32_t count) {
  bool last = false;
  const Status status = in_runtime([key, count, &last] {
    bool mine = false;
    const std::function<void()> on_completion = [&mine] { mine = true; };
    sync::Objects::Arrival arrival;
    arrival.on_completion = &on_completion;
    const sync::Objects::Initial initial = [count] { return count; };
    const Status ended = objects().arrive_and_wait(key, detail::this_thread_id(), initial, arrival);
    last = mine;
    return ended;
  });
  if (const int error = error_of(status, "pthread_barrier_wait()"); error != 0) return error;
  return last ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
}

// ---- reader-writer locks -----------------------------------------------------------------------------------------------------------------

std::vector<HeldRwlocks::Held>::iterator find_held(std::uint64_t key) {
  auto& held = t_state.rwlocks->held;
  return std::find_if(held.begin(), held.end(), [key](const HeldRwlocks::Held& one) { return one.key == key; });
}

/// A thread may read several times at once: the lock between the nodes counts once.
int enter(std::uint64_t key, bool writes, Nanos deadline) {
  int error = 0;
  const Status status = in_runtime([=, &error] {
    if (t_state.rwlocks == nullptr) t_state.rwlocks = new HeldRwlocks;
    auto& held = t_state.rwlocks->held;
    const auto mine = find_held(key);
    if (mine != held.end()) {
      if (!writes && !mine->writes) {
        ++mine->times;
      } else {
        error = deadline == 0 ? EBUSY : EDEADLK;
      }
      return Status::ok;
    }
    const std::uint64_t me = detail::this_thread_id();
    const Status entered = as_kind(key, sync::ObjectKind::rwlock,
                                   [=] { return writes ? objects().lock(key, me, deadline) : objects().lock_shared(key, me, deadline); });
    if (ok(entered)) held.push_back({key, 1, writes});
    return entered;
  });
  if (error != 0) return error;
  if (status == Status::timeout) return deadline == 0 ? EBUSY : ETIMEDOUT;
  return error_of(status, "pthread_rwlock_rdlock()");
}

int enter_timed(std::uint64_t key, bool writes, clockid_t clock, const timespec* until) {
  if (const int error = enter(key, writes, 0); error != EBUSY) return error;
  const auto deadline = Pthreads::find()->deadline_of(clock, until);
  return deadline ? enter(key, writes, std::max<Nanos>(*deadline, 1)) : EINVAL;
}

int leave(std::uint64_t key) {
  bool holds = true;
  const Status status = in_runtime([key, &holds] {
    const bool any = t_state.rwlocks != nullptr;
    const auto mine = any ? find_held(key) : std::vector<HeldRwlocks::Held>::iterator{};
    holds = any && mine != t_state.rwlocks->held.end();
    if (!holds) return Status::ok;
    if (--mine->times != 0) return Status::ok;
    const bool writes = mine->writes;
    t_state.rwlocks->held.erase(mine);
    return writes ? objects().unlock(key, detail::this_thread_id()) : objects().unlock_shared(key, detail::this_thread_id());
  });
  if (!holds) misuse("pthread_rwlock_unlock()", "this thread does not hold the lock: who locks it must unlock it");
  return error_of(status, "pthread_rwlock_unlock()");
}

// ---- once --------------------------------------------------------------------------------------------------------------------------------

class Once {
 public:
  Once(std::uint64_t key, bool again) : key_(key) {
    const Status status = in_runtime([this, again] {
      return as_kind(key_, sync::ObjectKind::once, [this, again] {
        const Result<bool> mine = objects().begin_once(key_, detail::this_thread_id(), nullptr, again);
        mine_ = mine.has_value() && *mine;
        return mine.status();
      });
    });
    error_ = error_of(status, "pthread_once()");
  }
  /// If an exception or pthread_exit() comes through, the next one tries.
  ~Once() {
    if (!mine_) return;
    const Status status = in_runtime([this] { return objects().end_once(key_, detail::this_thread_id(), done_); });
    static_cast<void>(error_of(status, "pthread_once()"));
  }
  Once(const Once&) = delete;
  Once& operator=(const Once&) = delete;
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] bool must_do() const { return mine_; }
  void done() { done_ = true; }

 private:
  std::uint64_t key_;
  int error_ = 0;
  bool mine_ = false;
  bool done_ = false;
};

// The program's word says whether it has been done, as the C library's does: what is zero again (a new object at the address of an old one, whose
// constructor is no call) is to be done again. It is looked at behind the object's acquire, so it is as new as the object.
constexpr pthread_once_t kDone = 2;  // the C library's value: what it has done before there were nodes counts, too

int once(std::uint64_t key, pthread_once_t* word, void (*routine)()) {
  for (bool again = false;; again = true) {
    Once mine(key, again);
    if (mine.error() != 0) return mine.error();
    if (*word == PTHREAD_ONCE_INIT && !mine.must_do()) continue;
    if (*word == PTHREAD_ONCE_INIT) {
      routine();
      *word = kDone;
    }
    mine.done();
    return 0;
  }
}

template <class Memory>
Memory* memory_of(void* object) {
  return static_cast<Memory*>(object);
}

}  // namespace

void forget_rwlocks() { delete std::exchange(t_state.rwlocks, nullptr); }

int error_of(Status status, const char* call) {
  switch (status) {
    case Status::ok:
      return 0;
    case Status::timeout:
      return ETIMEDOUT;
    case Status::perm:
      return EPERM;
    case Status::invalid:
      return EINVAL;
    case Status::owner_dead:
      return EOWNERDEAD;
    case Status::exhausted:
      misuse(call, "the lock table is full: fewer objects in use, or raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
    default:
      misuse(call, std::string(describe(status)));
  }
}

std::optional<std::uint64_t> Pthreads::key_of(const volatile void* object) const {
  std::uint64_t offset = 0;
  const detail::Runtime& rt = kit_.runtime();
  if (!rt.offset_of(const_cast<const void*>(object), &offset) || !rt.layout.shared.contains(PageId{offset / kPageSize}))
    return std::nullopt;
  return offset;
}

std::optional<Nanos> Pthreads::deadline_of(clockid_t clock, const timespec* time) const {
  constexpr Nanos kSecond = 1'000'000'000;
  timespec now{};
  if (time->tv_nsec < 0 || time->tv_nsec >= kSecond || ::clock_gettime(clock, &now) != 0) return std::nullopt;
  constexpr std::int64_t kFar = std::int64_t{1} << 32;  // seconds; what lies beyond does not fit
  const std::int64_t seconds = std::clamp<std::int64_t>(time->tv_sec, now.tv_sec - kFar, now.tv_sec + kFar) - now.tv_sec;
  const Nanos left = seconds * kSecond + time->tv_nsec - now.tv_nsec;
  return std::max<Nanos>(kit_.runtime().env->now() + left, 0);
}

}  // namespace netvm::kit

namespace kit = netvm::kit;
using netvm::kForever;
using netvm::kit::shared_key;

extern "C" {

int pthread_cond_init(pthread_cond_t* condition, const pthread_condattr_t* attributes) noexcept {
  if (!shared_key(condition)) return kit::real_pthread_cond_init(condition, attributes);
  clockid_t clock = CLOCK_REALTIME;
  if (attributes != nullptr) pthread_condattr_getclock(attributes, &clock);
  *condition = {};
  kit::memory_of<kit::ConditionMemory>(condition)->clock = static_cast<std::uint32_t>(clock);
  return 0;
}
int pthread_cond_destroy(pthread_cond_t* condition) noexcept {
  return shared_key(condition) ? 0 : kit::real_pthread_cond_destroy(condition);
}
int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  const auto key = shared_key(condition);
  return key ? kit::wait(condition, *key, mutex, kForever) : kit::real_pthread_cond_wait(condition, mutex);
}
int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
  const auto key = shared_key(condition);
  if (!key) return kit::real_pthread_cond_timedwait(condition, mutex, until);
  return kit::timed_wait(condition, *key, mutex, static_cast<clockid_t>(kit::memory_of<kit::ConditionMemory>(condition)->clock), until);
}
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  const auto key = shared_key(condition);
  return key ? kit::timed_wait(condition, *key, mutex, clock, until) : kit::real_pthread_cond_clockwait(condition, mutex, clock, until);
}
int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  const auto key = shared_key(condition);
  return key ? kit::wake(*key, 1) : kit::real_pthread_cond_signal(condition);
}
int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  const auto key = shared_key(condition);
  return key ? kit::wake(*key, UINT64_MAX) : kit::real_pthread_cond_broadcast(condition);
}

int pthread_barrier_init(pthread_barrier_t* barrier, const pthread_barrierattr_t* attributes, unsigned count) noexcept {
  const auto key = shared_key(barrier);
  if (!key) return kit::real_pthread_barrier_init(barrier, attributes, count);
  if (count == 0 || count > INT32_MAX) return EINVAL;
  *barrier = {};
  kit::memory_of<kit::BarrierMemory>(barrier)->count = count;
  return kit::begin_barrier(*key, count);
}
int pthread_barrier_destroy(pthread_barrier_t* barrier) noexcept {
  const auto key = shared_key(barrier);
  return key ? kit::begin_barrier(*key, 0) : kit::real_pthread_barrier_destroy(barrier);
}
int pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  const auto key = shared_key(barrier);
  return key ? kit::meet(*key, kit::memory_of<kit::BarrierMemory>(barrier)->count) : kit::real_pthread_barrier_wait(barrier);
}

int pthread_rwlock_init(pthread_rwlock_t* lock, const pthread_rwlockattr_t* attributes) noexcept {
  return kit::real_pthread_rwlock_init(lock, attributes);  // of the memory alone
}
int pthread_rwlock_destroy(pthread_rwlock_t* lock) noexcept { return shared_key(lock) ? 0 : kit::real_pthread_rwlock_destroy(lock); }
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter(*key, false, kForever) : kit::real_pthread_rwlock_rdlock(lock);
}
int pthread_rwlock_tryrdlock(pthread_rwlock_t* lock) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter(*key, false, 0) : kit::real_pthread_rwlock_tryrdlock(lock);
}
int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock, const timespec* until) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter_timed(*key, false, CLOCK_REALTIME, until) : kit::real_pthread_rwlock_timedrdlock(lock, until);
}
int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter_timed(*key, false, clock, until) : kit::real_pthread_rwlock_clockrdlock(lock, clock, until);
}
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter(*key, true, kForever) : kit::real_pthread_rwlock_wrlock(lock);
}
int pthread_rwlock_trywrlock(pthread_rwlock_t* lock) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter(*key, true, 0) : kit::real_pthread_rwlock_trywrlock(lock);
}
int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock, const timespec* until) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter_timed(*key, true, CLOCK_REALTIME, until) : kit::real_pthread_rwlock_timedwrlock(lock, until);
}
int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::enter_timed(*key, true, clock, until) : kit::real_pthread_rwlock_clockwrlock(lock, clock, until);
}
int pthread_rwlock_unlock(pthread_rwlock_t* lock) noexcept {
  const auto key = shared_key(lock);
  return key ? kit::leave(*key) : kit::real_pthread_rwlock_unlock(lock);
}

int pthread_once(pthread_once_t* once, void (*routine)()) {
  const auto key = shared_key(once);
  if (!key) return kit::real_pthread_once(once, routine);
  return kit::once(*key, once, routine);
}

}  // extern "C"
