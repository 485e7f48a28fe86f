// Event counters: how a node learns that something has landed. 64 bits of successes, 64 of errors, a place to wait, and a threshold at
// which somebody acts on it: a handler or a triggered operation of the owner (counter_events.hpp).
//
// Invariants
//  1. Both halves only grow while a counter exists, and never overflow a queue: there is none.
//  2. An increment is a release of everything that its notification covers; seeing it is an acquire.
//  3. An increment announces to the waiters of the counter; a waiter arms, re-checks by seq_cst loads, then sleeps (WaitWord).
//  4. An increment of a counter that does not exist changes nothing (E_COUNTER_RANGE).
//  5. An increment that reaches the armed threshold (an error: any) marks the counter and rings its owner. The owner stores the threshold, then looks
//     at the halves; the incrementer adds, then looks at the threshold; all four are seq_cst, so that at least one sees the other.
//  6. A mark is two bits, set from the counter's to its group's and taken the other way round, before the counter is looked at: no mark is lost.
// Threads: increment(), value(), errors(), mark(), ring(): any, of any process that maps the device. create(), destroy(): the owner's, serialised
// by the caller. take_marks(): the owner's driver.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "nic/doorbell.hpp"
#include "runtime/cpu.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

/// In device memory. What an increment touches, in one line: who waits reads it all the time, so an incrementer's first access is the addition.
struct alignas(kCacheLine) EventCounter {
  std::atomic<std::uint64_t> ok;
  std::atomic<std::uint64_t> error;
  std::atomic<std::uint64_t> armed;  ///< lowest value of `ok` at which the owner has something to do; written by the owner
  WaitWord waiters;
};
static_assert(sizeof(EventCounter) == kCacheLine);

/// In device memory: the counters that exist, and those that have reached what they were armed for. 0 everywhere: none.
struct alignas(kCacheLine) CounterMarks {
  static constexpr std::uint32_t kGroups = 64;
  std::atomic<std::uint64_t> groups;  ///< bit g: counters[g] has a bit
  WaitWord tasks;                     ///< where the owner's event tasks sleep
  alignas(kCacheLine) std::array<std::atomic<std::uint64_t>, kGroups> counters;
  alignas(kCacheLine) std::array<std::atomic<std::uint64_t>, kGroups> exist;  ///< a bit a counter; written by the owner, seldom
};

class EventCounters final {
 public:
  static constexpr std::uint32_t kEntries = 64 * CounterMarks::kGroups;
  static constexpr std::uint64_t kBytes = kEntries * sizeof(EventCounter);
  /// Nobody acts on the counter.
  static constexpr std::uint64_t kUnarmed = UINT64_MAX;

  EventCounters(EventCounter* counters, CounterMarks* marks, Doorbell* bell) : counters_(counters), marks_(marks), bell_(bell) {}

  /// Both halves are 0. Freed counters are reused as late as possible. Status::exhausted. The program's are numbered from 0; the library's own from the end.
  Result<CounterId> create(bool own = false);
  Status destroy(CounterId id, Env& env);

  [[nodiscard]] bool exists(CounterId id) const {
    if (id.value >= kEntries) return false;
    const std::uint64_t group = marks_->exist[id.value / 64].load(std::memory_order_acquire);  // acquire: partner is create()'s release
    return (group >> (id.value % 64) & 1) != 0;
  }
  /// Of an existing id (< kEntries).
  [[nodiscard]] EventCounter& at(CounterId id) const { return counters_[id.value]; }

  /// Fetches the counter's line for writing, early: who increments it behind a copy need not wait for the one line after the other.
  void prefetch(CounterId id) const { prefetch_for_write(&counters_[id.value % kEntries]); }
  Status increment(CounterId id, std::uint64_t by, Env& env) {
    if (!exists(id)) [[unlikely]]
      return Status::counter_range;
    EventCounter& counter = at(id);
    const std::uint64_t now = counter.ok.fetch_add(by) + by;  // partners: the waiter's acquire load, and arm-and-look (invariant 5)
    announce(counter, env);
    if (now >= counter.armed.load()) [[unlikely]]
      mark_and_ring(id, env);
    return Status::ok;
  }
  /// An event that should have come and never will: waiters wake with an error.
  Status increment_error(CounterId id, Env& env) {
    if (!exists(id)) return Status::counter_range;
    EventCounter& counter = at(id);
    counter.error.fetch_add(1);  // partners: as above
    announce(counter, env);
    if (counter.armed.load() != kUnarmed) mark_and_ring(id, env);
    return Status::ok;
  }
  /// The error half of every existing counter.
  void increment_all_errors(Env& env);

  // ---- marks
  void mark(CounterId id);
  /// Makes somebody of the owner's look at the marks: a sleeping event task, or else whoever the doorbell wakes.
  void ring(Env& env);
  [[nodiscard]] bool any_marked() const { return marks_->groups.load() != 0; }
  [[nodiscard]] WaitWord& tasks() { return marks_->tasks; }
  /// Takes all marks and calls visit(id) for each, in the order of the ids.
  template <class Visit>
  void take_marks(Visit&& visit) {
    if (marks_->groups.load(std::memory_order_relaxed) == 0) return;  // relaxed: a hint; who is about to park looks again (any_marked)
    for (std::uint64_t groups = marks_->groups.exchange(0); groups != 0; groups &= groups - 1) {
      const auto group = static_cast<std::uint32_t>(std::countr_zero(groups));
      for (std::uint64_t bits = marks_->counters[group].exchange(0); bits != 0; bits &= bits - 1) {
        visit(CounterId{group * 64 + static_cast<std::uint32_t>(std::countr_zero(bits))});
      }
    }
  }

 private:
  /// After a seq_cst addition to one of its halves. Costs a load if nobody waits: who waits registers, then re-checks by seq_cst loads, so in the
  /// single order of the four either this look comes after the registration, or the re-check after the addition.
  static void announce(EventCounter& counter, Env& env) {
    if (counter.waiters.has_waiters()) counter.waiters.announce(env);
  }
  void mark_and_ring(CounterId id, Env& env) {
    mark(id);
    ring(env);
  }

  EventCounter* counters_;
  CounterMarks* marks_;
  Doorbell* bell_;
  bool try_create(std::uint32_t index);

  std::uint32_t next_ = 0;      // of the program's
  std::uint32_t next_own_ = 0;  // of the library's, from the end
};

}  // namespace netvm::nic
