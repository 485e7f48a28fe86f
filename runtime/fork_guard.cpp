#include "runtime/fork_guard.hpp"

#include <pthread.h>

#include <mutex>

#include "runtime/check.hpp"
#include "runtime/env.hpp"

namespace netvm {

struct ForkGuard::Registry {
  SpinLock lock;
  ForkGuard* first = nullptr;

  static Registry& only() {
    static Registry registry;
    return registry;
  }
  static void before() { only().lock.lock(); }
  static void in_parent() { only().lock.unlock(); }
  static void in_child() {
    for (ForkGuard* guard = only().first; guard != nullptr; guard = guard->next_) guard->in_child_(guard->context_);
    only().lock.unlock();
  }
};

ForkGuard::ForkGuard(InChild in_child, void* context) : in_child_(in_child), context_(context) {
  Registry& registry = Registry::only();
  static const int registered = pthread_atfork(&Registry::before, &Registry::in_parent, &Registry::in_child);
  NETVM_CHECK(registered == 0, "pthread_atfork: error %d", registered);
  const std::lock_guard guard(registry.lock);
  next_ = registry.first;
  link_ = &registry.first;
  if (next_ != nullptr) next_->link_ = &next_;
  registry.first = this;
}

ForkGuard::~ForkGuard() {
  const std::lock_guard guard(Registry::only().lock);
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
}

}  // namespace netvm
