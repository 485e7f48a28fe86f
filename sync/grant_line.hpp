// Grant lines: where the token of a mutex comes that brings nothing along. A node that asks for the token names one of its event counters; the predecessor
// adds the fencing token there instead of sending a grant, if it reaches that node directly: one cache line moves, which the asking thread looks at
// (Mellor-Crummey and Scott 1991: each spins on its own memory).
//
// Invariants
//  1. A line is lent for one request at a time, and granted at most once for it: by who was asked, or after a recovery by who was asked anew; whoever was asked
//     before has died, or has forgotten it. So who has been answered otherwise may give the line back.
//  2. A counter never wraps: a line that has come far is given up, and its counter, which nobody knows any more, destroyed.
// Threads: any; may be used under a lock's guard, but for take() and retire().
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "nic/nic.hpp"
#include "runtime/env.hpp"

namespace netvm::sync {

struct GrantLine {
  nic::RemoteCounter counter;
  std::uint64_t before = 0;  ///< what it said when it was lent; of the lock that has it, under its guard
  bool retired = false;      ///< the counter is nobody's any more, or another's
};

class GrantLines {
 public:
  /// Larger fencing tokens come as messages.
  static constexpr std::uint64_t kMostEpoch = std::uint64_t{1} << 48;

  explicit GrantLines(nic::Nic& nic) : nic_(nic) {}
  GrantLines(const GrantLines&) = delete;
  GrantLines& operator=(const GrantLines&) = delete;
  /// Nobody takes any more. Ends all handlers; blocks while one runs.
  void close() {
    for (GrantLine& line : all_) retire(&line);
  }

  /// Null: there are no counters left.
  GrantLine* take() {
    {
      const std::lock_guard guard(guard_);
      if (!free_.empty()) {
        GrantLine* const line = free_.back();
        free_.pop_back();
        return line;
      }
    }
    const Result<nic::RemoteCounter> counter = nic_.counter_create(nic::CounterUse::library);
    if (!counter) return nullptr;
    const std::lock_guard guard(guard_);
    return &all_.emplace_back(GrantLine{*counter});
  }
  /// False: it has come too far; retire it.
  [[nodiscard]] bool give_back(GrantLine* line) {
    if (nic_.counter_value(line->counter) > kFarthest) return false;
    const std::lock_guard guard(guard_);
    free_.push_back(line);
    return true;
  }
  /// Ends its handler, too. Blocks while that runs, unless called from inside it.
  void retire(GrantLine* line) {
    {
      const std::lock_guard guard(guard_);
      if (std::exchange(line->retired, true)) return;
    }
    (void)nic_.counter_destroy(line->counter);
  }

  /// What has been granted since it said `before`: a fencing token, or 0.
  [[nodiscard]] std::uint64_t granted(const GrantLine& line, std::uint64_t before) const {
    return nic_.counter_value(line.counter) - before;
  }

 private:
  static constexpr std::uint64_t kFarthest = std::uint64_t{1} << 62;

  nic::Nic& nic_;
  SpinLock guard_;
  std::deque<GrantLine> all_;  // those that are retired, too
  std::vector<GrantLine*> free_;
};

}  // namespace netvm::sync
