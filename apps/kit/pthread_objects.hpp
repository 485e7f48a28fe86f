// What the calls about synchronisation objects have in common: pthread_mutexes.cpp, pthread_objects.cpp, semaphores.cpp, futex.cpp.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <optional>

#include "apps/kit/pthreads.hpp"
#include "apps/kit/thread_state.hpp"

namespace netvm::kit {

/// What names an object between the nodes; nothing: it lies in private memory, and is the C library's.
std::optional<std::uint64_t> shared_key(const volatile void* object);

/// The calling thread ends. in_runtime().
void forget_rwlocks();

int lock_for_condition(pthread_mutex_t* mutex, std::uint64_t key);
int unlock_for_condition(pthread_mutex_t* mutex, std::uint64_t key);

/// Runs an operation on the object as one of that kind. Memory that was an object of another kind before, and that nobody waits for, is a new one:
/// programs use memory again without a word. in_runtime(), as f is.
template <class F>
Status as_kind(std::uint64_t key, sync::ObjectKind kind, F&& f) {
  Status status = f();
  sync::Objects& objects = Pthreads::find()->objects();
  const sync::ObjectKind is = objects.kind_of(key);
  if (status != Status::invalid || is == kind || is == sync::ObjectKind::none) return status;
  if (!ok(objects.init(key, detail::this_thread_id(), sync::ObjectKind::none, 0))) return status;
  return f();
}

}  // namespace netvm::kit
