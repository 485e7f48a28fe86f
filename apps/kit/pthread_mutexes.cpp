// pthread_mutex_t and pthread_spinlock_t in shared memory: mutexes of sync/, by address. In private memory they stay the C library's.
//
// Invariants
//  1. Of the object's memory only what the C library's initialisers put there is used: the type, and count and owner of a recursive mutex, which its holder
//     alone changes. Zeroed memory is a fresh mutex.
//  2. The owner is never a thread that does not hold the mutex: who unlocks it has taken its name away before. So a thread that finds its own holds it.
#include <pthread.h>

#include <algorithm>
#include <cerrno>

#include "apps/kit/pthread_objects.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/thread_state.hpp"

namespace netvm::kit {

namespace {

NETVM_REAL(pthread_mutex_init);
NETVM_REAL(pthread_mutex_destroy);
NETVM_REAL(pthread_mutex_lock);
NETVM_REAL(pthread_mutex_trylock);
NETVM_REAL(pthread_mutex_timedlock);
NETVM_REAL(pthread_mutex_clocklock);
NETVM_REAL(pthread_mutex_unlock);
NETVM_REAL(pthread_spin_init);
NETVM_REAL(pthread_spin_destroy);
NETVM_REAL(pthread_spin_lock);
NETVM_REAL(pthread_spin_trylock);
NETVM_REAL(pthread_spin_unlock);

enum class Type : std::uint8_t { normal, recursive, errorcheck, adaptive };
Type type_of(const pthread_mutex_t* mutex) { return static_cast<Type>(mutex->__data.__kind & 3); }

int my_name() { return t_state.record != nullptr ? t_state.record->number + 1 : -1; }
bool is_mine(const pthread_mutex_t* mutex) { return type_of(mutex) == Type::recursive && mutex->__data.__owner == my_name(); }
void sign(pthread_mutex_t* mutex) {
  if (type_of(mutex) == Type::recursive) mutex->__data.__owner = my_name();
}

/// This thread has it already. What is said of that depends on the type.
int again(pthread_mutex_t* mutex, const char* call) {
  switch (type_of(mutex)) {
    case Type::recursive:
      if (mutex->__data.__count == UINT32_MAX) return EAGAIN;
      ++mutex->__data.__count;
      return 0;
    case Type::errorcheck:
      return EDEADLK;
    default:
      misuse(call, "this thread holds the mutex already: it would wait for itself for ever (PTHREAD_MUTEX_RECURSIVE allows it)");
  }
}

int lock(pthread_mutex_t* mutex, std::uint64_t key, Nanos deadline, const char* call) {
  if (is_mine(mutex)) return again(mutex, call);
  const Status status = in_runtime([=] { return Pthreads::find()->sync().lock(key, detail::this_thread_id(), deadline); });
  if (ok(status)) sign(mutex);
  return status == Status::invalid ? again(mutex, call) : error_of(status, call);
}

int try_lock(pthread_mutex_t* mutex, std::uint64_t key) {
  constexpr const char* kCall = "pthread_mutex_trylock()";
  if (is_mine(mutex)) return again(mutex, kCall);
  bool mine = false;
  const Status status = in_runtime([key, &mine] {
    const Result<bool> got = Pthreads::find()->sync().try_lock(key, detail::this_thread_id());
    mine = got.has_value() && *got;
    return got.status();
  });
  if (status == Status::invalid) return EBUSY;
  if (const int error = error_of(status, kCall); error != 0) return error;
  if (mine) sign(mutex);
  return mine ? 0 : EBUSY;
}

int timed_lock(pthread_mutex_t* mutex, std::uint64_t key, clockid_t clock, const timespec* until) {
  if (const int error = try_lock(mutex, key); error != EBUSY) return error;
  const auto deadline = Pthreads::find()->deadline_of(clock, until);
  if (!deadline) return EINVAL;
  // Of a free mutex that was used elsewhere the token comes with a message, which takes its time whatever the deadline.
  constexpr Nanos kMessage = 5'000'000;
  const Nanos least = Pthreads::find()->kit().runtime().env->now() + kMessage;
  return lock(mutex, key, std::max(*deadline, least), "pthread_mutex_timedlock()");
}

int unlock(pthread_mutex_t* mutex, std::uint64_t key) {
  if (type_of(mutex) == Type::recursive) {
    if (!is_mine(mutex)) return EPERM;
    if (mutex->__data.__count != 0) return --mutex->__data.__count, 0;
    mutex->__data.__owner = 0;
  }
  const Status status = in_runtime([key] { return Pthreads::find()->sync().unlock(key, detail::this_thread_id()); });
  if (status == Status::perm && type_of(mutex) != Type::recursive && type_of(mutex) != Type::errorcheck)
    misuse("pthread_mutex_unlock()",
           "this thread does not hold the mutex: who locks it must unlock it (for a signal between threads use a semaphore)");
  return error_of(status, "pthread_mutex_unlock()");
}

std::uint64_t key_of_spinlock(pthread_spinlock_t* lock) {
  const auto key = shared_key(const_cast<const int*>(lock));
  return key ? *key : 0;
}

}  // namespace

std::optional<std::uint64_t> shared_key(const volatile void* object) {
  const Pthreads* const pthreads = Pthreads::find();
  return pthreads != nullptr ? pthreads->key_of(object) : std::nullopt;
}

int lock_for_condition(pthread_mutex_t* mutex, std::uint64_t key) { return lock(mutex, key, kForever, "pthread_cond_wait()"); }
int unlock_for_condition(pthread_mutex_t* mutex, std::uint64_t key) { return unlock(mutex, key); }

}  // namespace netvm::kit

using netvm::kForever;
using netvm::kit::in_runtime;
using netvm::kit::Pthreads;
using netvm::kit::shared_key;

extern "C" {

int pthread_mutex_init(pthread_mutex_t* mutex, const pthread_mutexattr_t* attributes) noexcept {
  return netvm::kit::real_pthread_mutex_init(mutex, attributes);  // of the memory alone
}
int pthread_mutex_destroy(pthread_mutex_t* mutex) noexcept {
  const auto key = shared_key(mutex);
  if (!key) return netvm::kit::real_pthread_mutex_destroy(mutex);
  return in_runtime([key] { return Pthreads::find()->sync().held_here(*key); }) ? EBUSY : 0;
}
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  const auto key = shared_key(mutex);
  return key ? netvm::kit::lock(mutex, *key, kForever, "pthread_mutex_lock()") : netvm::kit::real_pthread_mutex_lock(mutex);
}
int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  const auto key = shared_key(mutex);
  return key ? netvm::kit::try_lock(mutex, *key) : netvm::kit::real_pthread_mutex_trylock(mutex);
}
int pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* until) noexcept {
  const auto key = shared_key(mutex);
  return key ? netvm::kit::timed_lock(mutex, *key, CLOCK_REALTIME, until) : netvm::kit::real_pthread_mutex_timedlock(mutex, until);
}
int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* until) noexcept {
  const auto key = shared_key(mutex);
  return key ? netvm::kit::timed_lock(mutex, *key, clock, until) : netvm::kit::real_pthread_mutex_clocklock(mutex, clock, until);
}
int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  const auto key = shared_key(mutex);
  return key ? netvm::kit::unlock(mutex, *key) : netvm::kit::real_pthread_mutex_unlock(mutex);
}

int pthread_spin_init(pthread_spinlock_t* lock, int shared) noexcept { return netvm::kit::real_pthread_spin_init(lock, shared); }
int pthread_spin_destroy(pthread_spinlock_t* lock) noexcept { return netvm::kit::real_pthread_spin_destroy(lock); }
int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  const std::uint64_t key = netvm::kit::key_of_spinlock(lock);
  if (key == 0) return netvm::kit::real_pthread_spin_lock(lock);
  const netvm::Status status = in_runtime([key] { return Pthreads::find()->sync().lock(key, netvm::detail::this_thread_id()); });
  return status == netvm::Status::invalid ? EDEADLK : netvm::kit::error_of(status, "pthread_spin_lock()");
}
int pthread_spin_trylock(pthread_spinlock_t* lock) noexcept {
  const std::uint64_t key = netvm::kit::key_of_spinlock(lock);
  if (key == 0) return netvm::kit::real_pthread_spin_trylock(lock);
  return in_runtime([key] {
    const netvm::Result<bool> got = Pthreads::find()->sync().try_lock(key, netvm::detail::this_thread_id());
    return got.has_value() && *got ? 0 : EBUSY;
  });
}
int pthread_spin_unlock(pthread_spinlock_t* lock) noexcept {
  const std::uint64_t key = netvm::kit::key_of_spinlock(lock);
  if (key == 0) return netvm::kit::real_pthread_spin_unlock(lock);
  return netvm::kit::error_of(in_runtime([key] { return Pthreads::find()->sync().unlock(key, netvm::detail::this_thread_id()); }),
                              "pthread_spin_unlock()");
}

}  // extern "C"
