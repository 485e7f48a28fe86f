// pthread_create() and the rest that is about threads, in front of the C library's: for threads of the program; those of NetVM and of
// libraries get the C library's.
#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "apps/kit/heap.hpp"
#include "apps/kit/malloc.hpp"
#include "apps/kit/pthread_keys.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/thread_state.hpp"

namespace {

using netvm::kit::in_runtime;
using netvm::kit::Keys;
using netvm::kit::Pthreads;

NETVM_REAL(pthread_create);
NETVM_REAL(pthread_join);
NETVM_REAL(pthread_tryjoin_np);
NETVM_REAL(pthread_timedjoin_np);
NETVM_REAL(pthread_clockjoin_np);
NETVM_REAL(pthread_detach);
NETVM_REAL(pthread_self);
NETVM_REAL(pthread_exit);
NETVM_REAL(pthread_cancel);
NETVM_REAL(pthread_kill);
NETVM_REAL(pthread_getcpuclockid);
NETVM_REAL(pthread_setname_np);
NETVM_REAL(pthread_getname_np);
NETVM_REAL(pthread_setaffinity_np);
NETVM_REAL(pthread_getaffinity_np);
NETVM_REAL(pthread_getschedparam);
NETVM_REAL(pthread_setschedparam);
NETVM_REAL(pthread_getattr_np);
NETVM_REAL(pthread_key_create);
NETVM_REAL(pthread_key_delete);
NETVM_REAL(pthread_getspecific);
NETVM_REAL(pthread_setspecific);

/// Of the program's, or of one that has been joined: the C library must not see either.
bool is_ours(pthread_t thread) { return Pthreads::find() != nullptr && netvm::kit::Heap::is_shared(reinterpret_cast<void*>(thread)); }

/// f(the thread's own pthread_t), where the thread runs on this node; else what says so.
template <class F>
int on_local(pthread_t thread, int elsewhere, F&& f) {
  if (!is_ours(thread)) return f(thread);
  if (Pthreads::record_of(thread) == nullptr) return ESRCH;
  const pthread_t here = Pthreads::local(thread);
  return here != 0 ? in_runtime([&] { return f(here); }) : elsewhere;
}

}  // namespace

extern "C" {

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*function)(void*), void* argument) noexcept {
  if (!netvm::kit::program_calls()) return real_pthread_create(thread, attributes, function, argument);
  return Pthreads::find()->create(thread, attributes, function, argument, {.here = netvm::kit::is_openmp(__builtin_return_address(0))});
}

// For threads of OpenMP's teams (openmp/team.cpp): on the node that the placement gives to thread `number` of those that main() is the first of.
int netvm_kit_create_numbered(pthread_t* thread, void* (*function)(void*), void* argument, unsigned long number) {
  return Pthreads::find()->create(thread, nullptr, function, argument, {.number = number});
}

int pthread_join(pthread_t thread, void** result) {
  if (!is_ours(thread)) return real_pthread_join(thread, result);
  return Pthreads::find()->join(thread, result, nullptr, CLOCK_REALTIME, true);
}
int pthread_tryjoin_np(pthread_t thread, void** result) noexcept {
  if (!is_ours(thread)) return real_pthread_tryjoin_np(thread, result);
  return Pthreads::find()->join(thread, result, nullptr, CLOCK_REALTIME, false);
}
int pthread_timedjoin_np(pthread_t thread, void** result, const timespec* until) {
  if (!is_ours(thread)) return real_pthread_timedjoin_np(thread, result, until);
  return Pthreads::find()->join(thread, result, until, CLOCK_REALTIME, true);
}
int pthread_clockjoin_np(pthread_t thread, void** result, clockid_t clock, const timespec* until) {
  if (!is_ours(thread)) return real_pthread_clockjoin_np(thread, result, clock, until);
  return Pthreads::find()->join(thread, result, until, clock, true);
}
int pthread_detach(pthread_t thread) noexcept { return is_ours(thread) ? Pthreads::find()->detach(thread) : real_pthread_detach(thread); }
pthread_t pthread_self() noexcept {
  return netvm::kit::program_calls() ? reinterpret_cast<pthread_t>(netvm::kit::t_state.record) : real_pthread_self();
}

void pthread_exit(void* result) {
  if (netvm::kit::program_calls()) Pthreads::find()->exit_thread(result);
  real_pthread_exit(result);
  __builtin_unreachable();
}

int pthread_cancel(pthread_t thread) {
  if (!is_ours(thread)) return real_pthread_cancel(thread);
  netvm::kit::misuse("pthread_cancel()",
                     "threads cannot be cancelled, for they may be on other nodes, or in the middle of a page: let the thread look at a "
                     "flag, and return when it is set");
}
int pthread_kill(pthread_t thread, int signal) noexcept {
  if (!is_ours(thread)) return real_pthread_kill(thread, signal);
  if (Pthreads::record_of(thread) == nullptr) return ESRCH;
  const pthread_t here = Pthreads::local(thread);
  if (here != 0) return real_pthread_kill(here, signal);
  if (signal == 0) return 0;
  netvm::kit::misuse("pthread_kill()",
                     "signals do not reach threads of other nodes: use a condition variable or a semaphore, or NETVM_PLACE to have both "
                     "threads on one node");
}

int pthread_getcpuclockid(pthread_t thread, clockid_t* clock) noexcept {
  return on_local(thread, ENOENT, [=](pthread_t here) { return real_pthread_getcpuclockid(here, clock); });
}
int pthread_setname_np(pthread_t thread, const char* name) noexcept {
  return on_local(thread, 0, [=](pthread_t here) { return real_pthread_setname_np(here, name); });
}
int pthread_getname_np(pthread_t thread, char* name, std::size_t bytes) noexcept {
  return on_local(thread, ENOENT, [=](pthread_t here) { return real_pthread_getname_np(here, name, bytes); });
}
// NetVM places threads; a program's wish for a processor of its own counts on the thread's node.
int pthread_setaffinity_np(pthread_t thread, std::size_t bytes, const cpu_set_t* set) noexcept {
  const cpu_set_t copy = *set;
  const std::size_t used = bytes < sizeof copy ? bytes : sizeof copy;
  return on_local(thread, 0, [=, &copy](pthread_t here) { return real_pthread_setaffinity_np(here, used, &copy); });
}
int pthread_getaffinity_np(pthread_t thread, std::size_t bytes, cpu_set_t* set) noexcept {
  cpu_set_t copy;
  CPU_ZERO(&copy);
  const int error = on_local(thread, ESRCH, [&](pthread_t here) { return real_pthread_getaffinity_np(here, sizeof copy, &copy); });
  if (error == 0) __builtin_memcpy(set, &copy, bytes < sizeof copy ? bytes : sizeof copy);
  return error;
}
int pthread_getschedparam(pthread_t thread, int* policy, sched_param* parameters) noexcept {
  int found = SCHED_OTHER;
  sched_param its{};
  const int error = on_local(thread, 0, [&](pthread_t here) { return real_pthread_getschedparam(here, &found, &its); });
  *policy = found;
  *parameters = its;
  return error;
}
int pthread_setschedparam(pthread_t thread, int policy, const sched_param* parameters) noexcept {
  const sched_param its = *parameters;
  return on_local(thread, 0, [=, &its](pthread_t here) { return real_pthread_setschedparam(here, policy, &its); });
}
int pthread_getattr_np(pthread_t thread, pthread_attr_t* attributes) noexcept {
  if (!is_ours(thread)) return real_pthread_getattr_np(thread, attributes);
  const auto& me = netvm::kit::t_state;
  if (thread != reinterpret_cast<pthread_t>(me.record)) return ENOSYS;
  const int error = pthread_attr_init(attributes);
  return error != 0 ? error : pthread_attr_setstack(attributes, reinterpret_cast<void*>(me.stack_begin), me.stack_end - me.stack_begin);
}

int pthread_key_create(pthread_key_t* key, void (*destructor)(void*)) noexcept {
  return netvm::kit::program_calls() ? Keys::create(key, destructor) : real_pthread_key_create(key, destructor);
}
int pthread_key_delete(pthread_key_t key) noexcept { return Keys::is_ours(key) ? Keys::remove(key) : real_pthread_key_delete(key); }
void* pthread_getspecific(pthread_key_t key) noexcept { return Keys::is_ours(key) ? Keys::get(key) : real_pthread_getspecific(key); }
int pthread_setspecific(pthread_key_t key, const void* value) noexcept {
  return Keys::is_ours(key) ? Keys::set(key, const_cast<void*>(value)) : real_pthread_setspecific(key, value);
}

}  // extern "C"
