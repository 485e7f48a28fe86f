// Waits: what the threads of this node wait for now. Whoever is about to block on a synchronisation object says so with a Waits::Scope, for the watchdog and
// for people. Costs two short critical sections a wait, nothing where nobody blocks.
// Threads: any.
#pragma once

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::sync {

/// What a node waits for whose threads have all come to a collective.
inline constexpr SyncId kEverybody{~SyncId::kObjectBit};

/// An event counter of the NIC, of the node whose threads wait for it. Nobody holds one.
inline constexpr std::uint64_t kCountersFrom = std::uint64_t{1} << 62;
[[nodiscard]] constexpr SyncId counter_object(std::uint32_t counter) { return {kCountersFrom + counter}; }
[[nodiscard]] constexpr bool is_counter(SyncId id) {
  return id.offset >= kCountersFrom && id.offset < kCountersFrom + (std::uint64_t{1} << 32);
}

/// What a node has to answer to the NIC of another one, whose threads wait for it. Nobody holds it.
inline constexpr std::uint64_t kAnswersFrom = kCountersFrom + (std::uint64_t{1} << 32);
[[nodiscard]] constexpr SyncId answer_object(NodeId node) { return {kAnswersFrom + node.value}; }
[[nodiscard]] constexpr bool is_answer(SyncId id) {
  return id.offset >= kAnswersFrom && id.offset < kAnswersFrom + (std::uint64_t{1} << 32);
}

/// A page of shared memory that its protocol has to bring, or to give a right to. Nobody holds it.
inline constexpr std::uint64_t kPagesFrom = kAnswersFrom + (std::uint64_t{1} << 32);
[[nodiscard]] constexpr SyncId page_object(PageId page) { return {kPagesFrom + page.value * kPageSize}; }
[[nodiscard]] constexpr bool is_page(SyncId id) { return id.offset >= kPagesFrom && id.offset < kPagesFrom + (std::uint64_t{1} << 48); }

/// Who waits or holds and is no thread of the program, but a task of the runtime's, has a number of at least this.
inline constexpr std::uint64_t kFirstTask = std::uint64_t{1} << 63;

struct Wait {
  const char* what = "";  ///< "mutex", "semaphore", ...: a literal of at most 15 characters; empty: it may last, and is not told
  SyncId object;
  std::uint64_t who = 0;  ///< the thread, as mutexes know it: its number in the program, which counts from 0, plus 1; 0: no single thread
  Nanos since = 0;
  std::uint64_t value = 0;    ///< of an event counter, now
  std::uint64_t awaited = 0;  ///< and when the wait ends
};

/// Something that a thread of this node has, and others wait for.
struct Held {
  static constexpr std::uint64_t kState = UINT64_MAX;
  SyncId object;
  std::uint64_t who = 0;      ///< kState: nobody; the object's state is here, and others wait for it to change
  std::uint64_t value = 0;    ///< of a state: its count
  std::uint64_t awaited = 0;  ///< of a state: its limit; of one without, how many wait
};

class Waits {
 public:
  /// Lives while the thread waits. One inside another of the same thread and object is part of that, and what the outer one calls it is what it is called.
  class Scope {
   public:
    Scope(Waits& waits, const Wait& wait) : waits_(waits), wait_(wait) {
      const std::lock_guard guard(waits_.lock_);
      next_ = waits_.first_;
      if (next_ != nullptr) next_->before_ = this;
      waits_.first_ = this;
    }
    ~Scope() {
      const std::lock_guard guard(waits_.lock_);
      (before_ == nullptr ? waits_.first_ : before_->next_) = next_;
      if (next_ != nullptr) next_->before_ = before_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    friend class Waits;
    Waits& waits_;
    const Wait wait_;
    Scope* before_ = nullptr;
    Scope* next_ = nullptr;
  };

  /// Those that are told, the longest first.
  [[nodiscard]] std::vector<Wait> all() const {
    std::vector<Wait> waits;
    {
      const std::lock_guard guard(lock_);
      for (const Scope* scope = first_; scope != nullptr; scope = scope->next_) waits.push_back(scope->wait_);
    }
    std::reverse(waits.begin(), waits.end());
    std::vector<Wait> told;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      const Wait& wait = waits[i];
      const auto outer = [&wait](const Wait& other) { return wait.who != 0 && other.who == wait.who && other.object == wait.object; };
      if (*wait.what != '\0' && std::none_of(waits.begin(), waits.begin() + static_cast<std::ptrdiff_t>(i), outer)) told.push_back(wait);
    }
    return told;
  }

 private:
  mutable SpinLock lock_;
  Scope* first_ = nullptr;
};

}  // namespace netvm::sync
