// Event counters: how a node learns that something has landed. 64 bits of successes, 64 of errors, and a place to wait.
//
// Invariants
//  1. Both halves only grow while a counter exists, and never overflow a queue: there is none.
//  2. An increment is a release of everything that its notification covers; seeing it is an acquire.
//  3. An increment announces to the waiters of the counter; a waiter arms, re-checks, then sleeps (WaitWord).
//  4. An increment of a counter that does not exist changes nothing (E_COUNTER_RANGE).
// Threads: increment(), value(), errors(): any, of any process that maps the device. create(), destroy(): the owner's, serialised by the caller.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

/// In device memory. 0 everywhere: free.
struct alignas(kCacheLine) EventCounter {
  std::atomic<std::uint64_t> ok;
  std::atomic<std::uint64_t> error;
  std::atomic<std::uint32_t> in_use;
  WaitWord waiters;
};
static_assert(sizeof(EventCounter) == kCacheLine);

class EventCounters final {
 public:
  static constexpr std::uint32_t kEntries = 4096;
  static constexpr std::uint64_t kBytes = kEntries * sizeof(EventCounter);

  explicit EventCounters(EventCounter* counters) : counters_(counters) {}

  /// Both halves are 0. Freed counters are reused as late as possible. Status::exhausted.
  Result<CounterId> create();
  Status destroy(CounterId id, Env& env);

  [[nodiscard]] bool exists(CounterId id) const {
    return id.value < kEntries &&
           counters_[id.value].in_use.load(std::memory_order_acquire) != 0;  // acquire: partner is create()'s release
  }
  /// Of an existing id (< kEntries).
  [[nodiscard]] EventCounter& at(CounterId id) const { return counters_[id.value]; }

  Status increment(CounterId id, std::uint64_t by, Env& env) {
    return exists(id) ? add(at(id).ok, at(id), by, env) : Status::counter_range;
  }
  /// An event that should have come and never will: waiters wake with an error.
  Status increment_error(CounterId id, Env& env) { return exists(id) ? add(at(id).error, at(id), 1, env) : Status::counter_range; }
  /// The error half of every existing counter.
  void increment_all_errors(Env& env);

 private:
  static Status add(std::atomic<std::uint64_t>& half, EventCounter& counter, std::uint64_t by, Env& env) {
    half.fetch_add(by, std::memory_order_release);  // release: partner is the waiter's acquire load of the half
    counter.waiters.announce(env);
    return Status::ok;
  }

  EventCounter* counters_;
  std::uint32_t next_ = 0;
};

}  // namespace netvm::nic
