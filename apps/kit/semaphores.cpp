// sem_t in shared memory: semaphores of sync/, by address. The memory holds the count to begin with.
#include <semaphore.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstring>

#include "apps/kit/pthread_objects.hpp"
#include "apps/kit/real.hpp"

namespace netvm::kit {

namespace {

NETVM_REAL(sem_init);
NETVM_REAL(sem_destroy);
NETVM_REAL(sem_wait);
NETVM_REAL(sem_trywait);
NETVM_REAL(sem_timedwait);
NETVM_REAL(sem_clockwait);
NETVM_REAL(sem_post);
NETVM_REAL(sem_getvalue);

struct SemaphoreMemory {
  std::uint32_t count;
};

SemaphoreMemory& memory_of(sem_t* semaphore) { return *reinterpret_cast<SemaphoreMemory*>(semaphore); }

int fail(int error) {
  if (error == 0) return 0;
  errno = error;
  return -1;
}

int acquire(sem_t* semaphore, std::uint64_t key, Nanos deadline) {
  const std::uint64_t count = memory_of(semaphore).count;
  const Status status = in_runtime([=] {
    return as_kind(key, sync::ObjectKind::semaphore, [=] {
      return Pthreads::find()->objects().acquire(
          key, detail::this_thread_id(), [count] { return count; }, deadline);
    });
  });
  if (status == Status::timeout && deadline == 0) return EAGAIN;
  return error_of(status, "sem_wait()");
}

int acquire_until(sem_t* semaphore, std::uint64_t key, clockid_t clock, const timespec* until) {
  if (const int error = acquire(semaphore, key, 0); error != EAGAIN) return error;
  const auto deadline = Pthreads::find()->deadline_of(clock, until);
  return deadline ? acquire(semaphore, key, std::max<Nanos>(*deadline, 1)) : EINVAL;
}

int post(sem_t* semaphore, std::uint64_t key) {
  const std::uint64_t count = memory_of(semaphore).count;
  const Status status = in_runtime([=] {
    return as_kind(key, sync::ObjectKind::semaphore, [=] {
      return Pthreads::find()->objects().release(key, detail::this_thread_id(), 1, SEM_VALUE_MAX, [count] { return count; });
    });
  });
  return status == Status::invalid ? EOVERFLOW : error_of(status, "sem_post()");
}

}  // namespace

}  // namespace netvm::kit

namespace kit = netvm::kit;
using netvm::kit::shared_key;

extern "C" {

int sem_init(sem_t* semaphore, int shared, unsigned count) noexcept {
  const auto key = shared_key(semaphore);
  if (!key) return kit::real_sem_init(semaphore, shared, count);
  if (count > SEM_VALUE_MAX) return kit::fail(EINVAL);
  std::memset(semaphore, 0, sizeof *semaphore);
  kit::memory_of(semaphore).count = count;
  const netvm::Status status = kit::in_runtime([=] {
    return kit::Pthreads::find()->objects().init(*key, netvm::detail::this_thread_id(), netvm::sync::ObjectKind::semaphore, count);
  });
  return kit::fail(status == netvm::Status::invalid ? EBUSY : kit::error_of(status, "sem_init()"));
}
int sem_destroy(sem_t* semaphore) noexcept { return shared_key(semaphore) ? 0 : kit::real_sem_destroy(semaphore); }
int sem_wait(sem_t* semaphore) {
  const auto key = shared_key(semaphore);
  return key ? kit::fail(kit::acquire(semaphore, *key, netvm::kForever)) : kit::real_sem_wait(semaphore);
}
int sem_trywait(sem_t* semaphore) noexcept {
  const auto key = shared_key(semaphore);
  return key ? kit::fail(kit::acquire(semaphore, *key, 0)) : kit::real_sem_trywait(semaphore);
}
int sem_timedwait(sem_t* semaphore, const timespec* until) {
  const auto key = shared_key(semaphore);
  return key ? kit::fail(kit::acquire_until(semaphore, *key, CLOCK_REALTIME, until)) : kit::real_sem_timedwait(semaphore, until);
}
int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* until) {
  const auto key = shared_key(semaphore);
  return key ? kit::fail(kit::acquire_until(semaphore, *key, clock, until)) : kit::real_sem_clockwait(semaphore, clock, until);
}
int sem_post(sem_t* semaphore) noexcept {
  const auto key = shared_key(semaphore);
  return key ? kit::fail(kit::post(semaphore, *key)) : kit::real_sem_post(semaphore);
}
int sem_getvalue(sem_t* semaphore, int* value) noexcept {
  const auto key = shared_key(semaphore);
  if (!key) return kit::real_sem_getvalue(semaphore, value);
  const std::uint64_t first = kit::memory_of(semaphore).count;
  const std::uint64_t count = kit::in_runtime([=]() -> std::uint64_t {
    const auto now = kit::Pthreads::find()->objects().permits(*key, netvm::detail::this_thread_id(), [first] { return first; });
    return now ? *now : 0;
  });
  *value = static_cast<int>(count);
  return 0;
}

}  // extern "C"
