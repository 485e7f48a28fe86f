// Locks, barriers, pauses, condition variables, subscripts and atomic sections of the macros, by address.
//
// A lock is a mutex of sync/. The others are a few words of shared memory under a mutex of the same address (the words are the object itself, so
// zeroed memory is a fresh one), and an event counter on each node that is announced on after each change that lets somebody go on. Who waits looks
// at the words, and then waits for the counter to move on from where it was before he looked: no change is missed.
//
// Invariants
//  1. An object's words are read and written under its mutex alone. Nothing waits with it held.
//  2. Everything before an operation that lets others go on is visible to them: the mutex carries it.
#include <fmt/format.h>

#include <sys/time.h>

#include "apps/kit/kit.hpp"
#include "netvm/splash.h"

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

/// The words of an object that is more than a lock.
struct Words {
  std::uint64_t a, b, c;
};

/// Holds an object's mutex.
class Entry {
 public:
  Entry(Kit& kit, void* object, const Place& place)
      : kit_(kit), place_(place), key_(kit.key_of(object, place)), words_(static_cast<Words*>(object)) {
    std::uint64_t offset = 0;
    if (!kit.runtime().offset_of(object, &offset))
      kit.stop(place, "the object is a private global: link without --private-globals, or put it into memory of G_MALLOC");
    lock(kit_, key_, place_);
  }
  ~Entry() { unlock(kit_, key_, place_); }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  Words* operator->() const { return words_; }
  Words& operator*() const { return *words_; }

 private:
  Kit& kit_;
  Place place_;
  std::uint64_t key_;
  Words* words_;
};

void announce(Kit& kit, const Place& place) {
  for (const nic::RemoteCounter& counter : kit.changes()) kit.require(kit.runtime().nic->notify(counter, 1), place);
}

template <class Condition>
void wait_until(Kit& kit, void* object, const Place& place, Condition&& holds) {
  const nic::RemoteCounter& mine = kit.changes()[static_cast<std::size_t>(kit.node())];
  for (;;) {
    const std::uint64_t seen = kit.runtime().nic->counter_value(mine);
    if (Entry words(kit, object, place); holds(*words)) return;
    kit.require(kit.runtime().nic->counter_wait(mine, seen + 1), place);
  }
}

void check_count(Kit& kit, long p, const Place& place) {
  if (p < 1) kit.stop(place, fmt::format("for {} threads: there must be at least one", p));
  if (kit.node() == 0 && this_thread().number == 0 && p > kit.threads()) {
    kit.stop(place,
             fmt::format("it waits for {} threads, but the program has {} (CREATE made fewer than its -p says?): it would wait for ever", p,
                         kit.threads()));
  }
}

/// One of p threads is here (a counts them, b the phases that have ended). True: it was the last.
bool arrive(Words& words, long p) {
  if (++words.a < static_cast<std::uint64_t>(p)) return false;
  words.a = 0;
  ++words.b;
  return true;
}

/// All p threads come here before one goes on.
void meet(Kit& kit, void* object, long p, const Place& place) {
  check_count(kit, p, place);
  std::uint64_t phase = 0;
  bool last = false;
  {
    Entry words(kit, object, place);
    phase = words->b;
    last = arrive(*words, p);
  }
  if (last) return announce(kit, place);
  wait_until(kit, object, place, [phase](const Words& words) { return words.b != phase; });
}

/// A fresh object: nobody uses it yet, or any more, so there is nothing to exclude.
void reset(void* object, const Place& place) {
  static_cast<void>(Kit::of(place).key_of(object, place));
  *static_cast<Words*>(object) = {};
}

}  // namespace

}  // namespace netvm::kit

using netvm::kit::Entry;
using netvm::kit::Kit;
using netvm::kit::Place;
using netvm::kit::Words;

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
  {
    Entry words(kit, flag, place);
    words->a = value != 0 ? 1 : 0;
  }
  if (value != 0) netvm::kit::announce(kit, place);
}

void netvm_splash_pause_wait(void* flag, const char* file, int line) {
  const Place place{"WAITPAUSE", file, line};
  netvm::kit::wait_until(Kit::of(place), flag, place, [](const Words& words) { return words.a != 0; });
}

void netvm_splash_condition_init(void* condition, const char* file, int line) { netvm::kit::reset(condition, {"CONDVARINIT", file, line}); }

// a counts those who came to wait, b those who were let go: in the order in which they came.
void netvm_splash_condition_wait(void* condition, void* mutex, const char* file, int line) {
  const Place place{"CONDVARWAIT", file, line};
  Kit& kit = Kit::of(place);
  std::uint64_t ticket = 0;
  {
    Entry words(kit, condition, place);
    ticket = words->a++;
  }
  const std::uint64_t key = kit.key_of(mutex, place);
  netvm::kit::unlock(kit, key, place);
  netvm::kit::wait_until(kit, condition, place, [ticket](const Words& words) { return words.b > ticket; });
  netvm::kit::lock(kit, key, place);
}

void netvm_splash_condition_signal(void* condition, int all, const char* file, int line) {
  const Place place{all != 0 ? "CONDVARBCAST" : "CONDVARSIGNAL", file, line};
  Kit& kit = Kit::of(place);
  bool changed = false;
  {
    Entry words(kit, condition, place);
    changed = words->b < words->a;
    if (changed) words->b = all != 0 ? words->a : words->b + 1;
  }
  if (changed) netvm::kit::announce(kit, place);
}

void netvm_splash_subscripts_init(void* subscripts, const char* file, int line) { netvm::kit::reset(subscripts, {"GSINIT", file, line}); }

// c is the next subscript; a and b are the barrier at the end. Its last arrival begins anew.
long netvm_splash_subscript(void* subscripts, long last, long p, const char* file, int line) {
  const Place place{"GETSUB", file, line};
  Kit& kit = Kit::of(place);
  netvm::kit::check_count(kit, p, place);
  std::uint64_t phase = 0;
  bool all_have_come = false;
  {
    Entry words(kit, subscripts, place);
    if (static_cast<long>(words->c) <= last) return static_cast<long>(words->c++);
    phase = words->b;
    all_have_come = netvm::kit::arrive(*words, p);
    if (all_have_come) words->c = 0;
  }
  if (all_have_come) {
    netvm::kit::announce(kit, place);
  } else {
    netvm::kit::wait_until(kit, subscripts, place, [phase](const Words& words) { return words.b != phase; });
  }
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
