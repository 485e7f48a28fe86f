// Locks, barriers, pauses, condition variables, subscripts and atomic sections of the macros, by address: mutexes and objects of sync/.
//
// Invariants
//  1. Nothing is kept in the object's memory but the next subscript of GETSUB: zeroed memory is a fresh object, and private globals serve as well.
//  2. A lock and an object may lie at one address: sync/ tells them apart.
#include <fmt/format.h>

#include <sys/time.h>

#include "apps/kit/kit.hpp"
#include "netvm/splash.h"
#include "sync/objects.hpp"

namespace netvm::kit {

namespace {

void lock(Kit& kit, std::uint64_t key, const Place& place) {
  const Status status = kit.runtime().sync->lock(key, detail::this_thread_id());
  if (status == Status::ok) return;
  if (status == Status::invalid) kit.stop(place, "this thread holds the lock already");
  if (status == Status::exhausted)
    kit.stop(place, "the lock table is full: fewer locks in use, or raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
  kit.require(status, place);
}

void unlock(Kit& kit, std::uint64_t key, const Place& place) {
  const Status status = kit.runtime().sync->unlock(key, detail::this_thread_id());
  if (status == Status::perm) kit.stop(place, "this thread does not hold the lock");
  kit.require(status, place);
}

sync::Objects& objects(Kit& kit) { return kit.runtime().sync->objects(); }

/// Says what an operation that is refused (Status::invalid) has met.
void require_object(Kit& kit, Status status, std::uint64_t key, const Place& place) {
  if (status == Status::invalid)
    kit.stop(place, fmt::format("the object there is used as a {}, or by others at this moment in another way",
                                sync::to_string(objects(kit).kind_of(key))));
  if (status == Status::exhausted)
    kit.stop(place, "the lock table is full: fewer objects in use, or raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
  kit.require(status, place);
}

/// A fresh object, whatever was there before.
void reset(void* object, const Place& place) {
  Kit& kit = Kit::of(place);
  const std::uint64_t key = kit.key_of(object, place);
  const Status status = objects(kit).init(key, detail::this_thread_id(), sync::ObjectKind::none, 0);
  if (status == Status::invalid) kit.stop(place, "threads wait for the object");
  require_object(kit, status, key, place);
}

void check_count(Kit& kit, long p, const Place& place) {
  if (p < 1) kit.stop(place, fmt::format("for {} threads: there must be at least one", p));
  if (kit.node() == 0 && this_thread().number == 0 && p > kit.threads()) {
    kit.stop(place,
             fmt::format("it waits for {} threads, but the program has {} (CREATE made fewer than its -p says?): it would wait for ever", p,
                         kit.threads()));
  }
}

/// All p threads come here before one goes on. A barrier may be used for another number of threads when nobody waits at it.
void meet(Kit& kit, void* object, long p, const Place& place, const std::function<void()>* on_completion = nullptr) {
  check_count(kit, p, place);
  const std::uint64_t key = kit.key_of(object, place);
  const auto count = static_cast<std::uint64_t>(p);
  const sync::Objects::Initial initial = [count] { return count; };
  sync::Objects::Arrival arrival;
  arrival.must_be_of = count;
  arrival.on_completion = on_completion;
  const std::uint64_t me = detail::this_thread_id();
  Status status = objects(kit).arrive_and_wait(key, me, initial, arrival);
  if (status == Status::invalid) {
    static_cast<void>(objects(kit).init(key, me, sync::ObjectKind::barrier, count));  // refused: somebody did so, or waits
    status = objects(kit).arrive_and_wait(key, me, initial, arrival);
  }
  if (status == Status::invalid) kit.stop(place, fmt::format("for {} threads, while others wait there for another number", p));
  require_object(kit, status, key, place);
}

}  // namespace

}  // namespace netvm::kit

using netvm::kit::Kit;
using netvm::kit::Place;

void netvm_splash_init(const char* file, int line) { static_cast<void>(Kit::of({"MAIN_INITENV", file, line})); }

void netvm_splash_create_all(netvm_splash_function f, const char* name, long p, const char* file, int line) {
  const Place place{"CREATE", file, line};
  Kit::of(place).create_all(f, name, p, place);
}

void netvm_splash_create(netvm_splash_function f, const char* name, const char* file, int line) {
  const Place place{"CREATE", file, line};
  Kit::of(place).create_one(f, name, place);
}

void netvm_splash_wait_for_end(long p, const char* file, int line) {
  const Place place{"WAIT_FOR_END", file, line};
  Kit::of(place).wait_for_end(p, place);
}

// A lock needs no making: this only says where an object cannot be.
void netvm_splash_lock_init(void* object, const char* file, int line) {
  const Place place{"LOCKINIT", file, line};
  static_cast<void>(Kit::of(place).key_of(object, place));
}

void netvm_splash_lock(void* object, const char* file, int line) {
  const Place place{"LOCK", file, line};
  Kit& kit = Kit::of(place);
  netvm::kit::lock(kit, kit.key_of(object, place), place);
}

void netvm_splash_unlock(void* object, const char* file, int line) {
  const Place place{"UNLOCK", file, line};
  Kit& kit = Kit::of(place);
  netvm::kit::unlock(kit, kit.key_of(object, place), place);
}

void netvm_splash_barrier_init(void* barrier, const char* file, int line) { netvm::kit::reset(barrier, {"BARINIT", file, line}); }

void netvm_splash_barrier(void* barrier, long p, const char* file, int line) {
  const Place place{"BARRIER", file, line};
  netvm::kit::meet(Kit::of(place), barrier, p, place);
}

void netvm_splash_pause_init(void* flag, const char* file, int line) { netvm::kit::reset(flag, {"PAUSEINIT", file, line}); }

void netvm_splash_pause_set(void* flag, int value, const char* file, int line) {
  const Place place{value != 0 ? "SETPAUSE" : "CLEARPAUSE", file, line};
  Kit& kit = Kit::of(place);
  const std::uint64_t key = kit.key_of(flag, place);
  netvm::kit::require_object(kit, netvm::kit::objects(kit).set_flag(key, netvm::detail::this_thread_id(), value != 0), key, place);
}

void netvm_splash_pause_wait(void* flag, const char* file, int line) {
  const Place place{"WAITPAUSE", file, line};
  Kit& kit = Kit::of(place);
  const std::uint64_t key = kit.key_of(flag, place);
  netvm::kit::require_object(kit, netvm::kit::objects(kit).await_flag(key, netvm::detail::this_thread_id()), key, place);
}

void netvm_splash_condition_init(void* condition, const char* file, int line) { netvm::kit::reset(condition, {"CONDVARINIT", file, line}); }

void netvm_splash_condition_wait(void* condition, void* mutex, const char* file, int line) {
  const Place place{"CONDVARWAIT", file, line};
  Kit& kit = Kit::of(place);
  const std::uint64_t key = kit.key_of(condition, place);
  const std::uint64_t lock_key = kit.key_of(mutex, place);
  const std::uint64_t me = netvm::detail::this_thread_id();
  const auto ticket = netvm::kit::objects(kit).enqueue(key, me);  // before the lock is let go: a signal from then on finds it
  netvm::kit::require_object(kit, ticket.status(), key, place);
  netvm::kit::unlock(kit, lock_key, place);
  netvm::kit::require_object(kit, netvm::kit::objects(kit).wait(key, me, *ticket), key, place);
  netvm::kit::lock(kit, lock_key, place);
}

void netvm_splash_condition_signal(void* condition, int all, const char* file, int line) {
  const Place place{all != 0 ? "CONDVARBCAST" : "CONDVARSIGNAL", file, line};
  Kit& kit = Kit::of(place);
  const std::uint64_t key = kit.key_of(condition, place);
  netvm::kit::require_object(kit, netvm::kit::objects(kit).wake(key, netvm::detail::this_thread_id(), all != 0 ? UINT64_MAX : 1).status(),
                             key, place);
}

void netvm_splash_subscripts_init(void* subscripts, const char* file, int line) {
  netvm::kit::reset(subscripts, {"GSINIT", file, line});
  *static_cast<unsigned long*>(subscripts) = 0;
}

// The object's memory is the next subscript, under a lock of its address; the threads that found none meet at a barrier there, which begins anew.
long netvm_splash_subscript(void* subscripts, long last, long p, const char* file, int line) {
  const Place place{"GETSUB", file, line};
  Kit& kit = Kit::of(place);
  std::uint64_t offset = 0;
  if (!kit.runtime().offset_of(subscripts, &offset))
    kit.stop(place, "the subscripts are in a private global: link without --private-globals, or put them into memory of G_MALLOC");
  auto* const next = static_cast<unsigned long*>(subscripts);
  const std::uint64_t key = kit.key_of(subscripts, place);
  netvm::kit::lock(kit, key, place);
  const long mine = static_cast<long>(*next) <= last ? static_cast<long>((*next)++) : -1;
  netvm::kit::unlock(kit, key, place);
  if (mine >= 0) return mine;
  const std::function<void()> begin_anew = [next] { *next = 0; };
  netvm::kit::meet(kit, subscripts, p, place, &begin_anew);
  return -1;
}

void netvm_splash_atomic_begin(const volatile void* variable, const char* file, int line) {
  const Place place{"an atomic operation", file, line};
  Kit& kit = Kit::of(place);
  netvm::kit::lock(kit, kit.key_of(variable, place), place);
}

void netvm_splash_atomic_end(const volatile void* variable, const char* file, int line) {
  const Place place{"an atomic operation", file, line};
  Kit& kit = Kit::of(place);
  netvm::kit::unlock(kit, kit.key_of(variable, place), place);
}

unsigned long netvm_splash_clock(void) {
  timeval now{};
  ::gettimeofday(&now, nullptr);
  return static_cast<unsigned long>(now.tv_sec) * 1'000'000 + static_cast<unsigned long>(now.tv_usec);
}
