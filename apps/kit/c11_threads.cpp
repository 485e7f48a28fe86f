// <threads.h> in terms of the pthread calls, as the C library has it: the types are the same memory.
#include <pthread.h>
#include <threads.h>

#include <cerrno>
#include <climits>
#include <cstdint>

#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/thread_state.hpp"

namespace {

NETVM_REAL(thrd_create);
NETVM_REAL(thrd_exit);

int result_of(int error) {
  switch (error) {
    case 0:
      return thrd_success;
    case EBUSY:
      return thrd_busy;
    case ETIMEDOUT:
      return thrd_timedout;
    case ENOMEM:
    case EAGAIN:
      return thrd_nomem;
    default:
      return thrd_error;
  }
}

pthread_mutex_t* mutex_of(mtx_t* mutex) { return reinterpret_cast<pthread_mutex_t*>(mutex); }
pthread_cond_t* condition_of(cnd_t* condition) { return reinterpret_cast<pthread_cond_t*>(condition); }
static_assert(sizeof(pthread_mutex_t) == sizeof(mtx_t) && sizeof(pthread_cond_t) == sizeof(cnd_t) &&
              sizeof(pthread_once_t) == sizeof(once_flag));

/// What a thread of thrd_create() begins with, in shared memory.
struct Start {
  thrd_start_t function;
  void* argument;
};

void* begin(void* memory) {
  const Start start = *static_cast<Start*>(memory);
  std::free(memory);
  return reinterpret_cast<void*>(static_cast<std::intptr_t>(start.function(start.argument)));
}

}  // namespace

extern "C" {

int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
  if (!netvm::kit::program_calls()) return real_thrd_create(thread, function, argument);
  auto* const start = static_cast<Start*>(std::malloc(sizeof(Start)));
  if (start == nullptr) return thrd_nomem;
  *start = {function, argument};
  const int error = ::pthread_create(thread, nullptr, &begin, start);
  if (error != 0) std::free(start);
  return result_of(error);
}
int thrd_join(thrd_t thread, int* result) {
  void* value = nullptr;
  const int error = ::pthread_join(thread, &value);
  if (error == 0 && result != nullptr) *result = static_cast<int>(reinterpret_cast<std::intptr_t>(value));
  return result_of(error);
}
int thrd_detach(thrd_t thread) { return result_of(::pthread_detach(thread)); }
thrd_t thrd_current() { return ::pthread_self(); }
void thrd_exit(int result) {
  if (netvm::kit::program_calls()) ::pthread_exit(reinterpret_cast<void*>(static_cast<std::intptr_t>(result)));
  real_thrd_exit(result);
  __builtin_unreachable();
}

int mtx_init(mtx_t* mutex, int type) {
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_settype(&attributes, (type & mtx_recursive) != 0 ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL);
  const int error = ::pthread_mutex_init(mutex_of(mutex), &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  return result_of(error);
}
void mtx_destroy(mtx_t* mutex) { ::pthread_mutex_destroy(mutex_of(mutex)); }
int mtx_lock(mtx_t* mutex) { return result_of(::pthread_mutex_lock(mutex_of(mutex))); }
int mtx_trylock(mtx_t* mutex) { return result_of(::pthread_mutex_trylock(mutex_of(mutex))); }
int mtx_timedlock(mtx_t* mutex, const timespec* until) { return result_of(::pthread_mutex_timedlock(mutex_of(mutex), until)); }
int mtx_unlock(mtx_t* mutex) { return result_of(::pthread_mutex_unlock(mutex_of(mutex))); }

int cnd_init(cnd_t* condition) { return result_of(::pthread_cond_init(condition_of(condition), nullptr)); }
void cnd_destroy(cnd_t* condition) { ::pthread_cond_destroy(condition_of(condition)); }
int cnd_wait(cnd_t* condition, mtx_t* mutex) { return result_of(::pthread_cond_wait(condition_of(condition), mutex_of(mutex))); }
int cnd_timedwait(cnd_t* condition, mtx_t* mutex, const timespec* until) {
  return result_of(::pthread_cond_timedwait(condition_of(condition), mutex_of(mutex), until));
}
int cnd_signal(cnd_t* condition) { return result_of(::pthread_cond_signal(condition_of(condition))); }
int cnd_broadcast(cnd_t* condition) { return result_of(::pthread_cond_broadcast(condition_of(condition))); }

int tss_create(tss_t* key, tss_dtor_t destructor) { return result_of(::pthread_key_create(key, destructor)); }
void tss_delete(tss_t key) { ::pthread_key_delete(key); }
void* tss_get(tss_t key) { return ::pthread_getspecific(key); }
int tss_set(tss_t key, void* value) { return result_of(::pthread_setspecific(key, value)); }

void call_once(once_flag* flag, void (*routine)()) { ::pthread_once(reinterpret_cast<pthread_once_t*>(flag), routine); }

}  // extern "C"
