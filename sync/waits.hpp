// Waits: what the threads of this node wait for now. Whoever is about to block on a synchronisation object says so with a Waits::Scope, for the watchdog and
// for people. Costs two short critical sections a wait, nothing where nobody blocks.
// Threads: any.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "runtime/env.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::sync {

/// What a node waits for whose threads have all come to a collective.
inline constexpr SyncId kEverybody{~SyncId::kObjectBit};

struct Wait {
  const char* what = "";  ///< "mutex", "semaphore", ...: a literal of at most 15 characters
  SyncId object;
  std::uint64_t who = 0;  ///< the thread, as mutexes know it; 0: no single thread
  Nanos since = 0;
};

/// Something that a thread of this node has, and others wait for.
struct Held {
  SyncId object;
  std::uint64_t who = 0;
};

class Waits {
 public:
  /// Lives while the thread waits.
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

  /// The longest wait first.
  [[nodiscard]] std::vector<Wait> all() const {
    std::vector<Wait> waits;
    {
      const std::lock_guard guard(lock_);
      for (const Scope* scope = first_; scope != nullptr; scope = scope->next_) waits.push_back(scope->wait_);
    }
    std::reverse(waits.begin(), waits.end());
    return waits;
  }

 private:
  mutable SpinLock lock_;
  Scope* first_ = nullptr;
};

}  // namespace netvm::sync
