// What locks, semaphores and wait queues do when one thread uses them: models for linearizability.hpp. The result of an operation is part of it.
// Who does not want to wait is refused for a reason only; who waited for some time may have spent it on the way to the object.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace netvm::test {

/// Exclusive or shared; a mutex is one that nobody shares.
struct LockModel {
  struct State {
    std::uint64_t writer = 0;
    std::vector<std::uint64_t> readers;  // in order
    friend auto operator<=>(const State&, const State&) = default;
  };
  enum class Kind : std::uint8_t { lock, unlock, lock_shared, unlock_shared };
  struct Op {
    Kind kind{};
    std::uint64_t who = 0;
    bool timed = false;  ///< it waits for some time, neither for ever nor not at all
    bool result = true;  ///< false: a timeout
  };
  static bool apply(State& state, const Op& op) {
    if (op.timed && !op.result) return true;
    const bool free = state.writer == 0 && state.readers.empty();
    const auto mine = std::ranges::find(state.readers, op.who);
    switch (op.kind) {
      case Kind::lock:
        if (op.result && free) state.writer = op.who;
        return op.result == free;
      case Kind::unlock:
        if (state.writer != op.who) return false;
        state.writer = 0;
        return true;
      case Kind::lock_shared:
        if (!op.result) return !free;  // a writer that waits keeps readers out, too: then others read
        if (state.writer != 0) return false;
        state.readers.insert(std::ranges::lower_bound(state.readers, op.who), op.who);
        return true;
      case Kind::unlock_shared:
        if (mine == state.readers.end()) return false;
        state.readers.erase(mine);
        return true;
    }
    return false;
  }
  static std::string describe(const Op& op) {
    const char* const names[] = {"lock", "unlock", "lock_shared", "unlock_shared"};
    return std::to_string(op.who) + " " + names[static_cast<int>(op.kind)] + (op.result ? "" : ": timeout");
  }
};

struct SemaphoreModel {
  using State = std::uint64_t;  // permits
  struct Op {
    std::uint64_t who = 0;
    std::uint64_t released = 0;  ///< 0: an acquire
    bool timed = false;          ///< as above
    bool result = true;          ///< false: a timeout
  };
  static bool apply(State& permits, const Op& op) {
    if (op.released != 0) {
      permits += op.released;
      return true;
    }
    if (op.timed && !op.result) return true;
    if (op.result != (permits != 0)) return false;
    permits -= op.result ? 1 : 0;
    return true;
  }
  static std::string describe(const Op& op) {
    return std::to_string(op.who) + (op.released != 0 ? " releases " + std::to_string(op.released)
                                     : op.result      ? " acquires"
                                                      : " times out");
  }
};

/// First in, first woken.
struct WaitQueueModel {
  struct State {
    std::vector<std::uint64_t> waiting;  // in the order of coming
    std::vector<std::uint64_t> woken;    // that have not noticed it, in order
    friend auto operator<=>(const State&, const State&) = default;
  };
  enum class Kind : std::uint8_t { enqueue, wait, wake };
  struct Op {
    Kind kind{};
    std::uint64_t who = 0;     ///< enqueue, wait
    std::uint64_t most = 0;    ///< wake
    std::uint64_t result = 0;  ///< wait: 1 if woken, 0 after a timeout; wake: how many
  };
  static bool apply(State& state, const Op& op) {
    switch (op.kind) {
      case Kind::enqueue:
        state.waiting.push_back(op.who);
        return true;
      case Kind::wait: {
        std::vector<std::uint64_t>& from = op.result != 0 ? state.woken : state.waiting;
        const auto at = std::ranges::find(from, op.who);
        if (at == from.end()) return false;
        from.erase(at);
        return true;
      }
      case Kind::wake: {
        const std::uint64_t count = std::min<std::uint64_t>(op.most, state.waiting.size());
        if (op.result != count) return false;
        const auto end = state.waiting.begin() + static_cast<std::ptrdiff_t>(count);
        state.woken.insert(state.woken.end(), state.waiting.begin(), end);
        std::ranges::sort(state.woken);
        state.waiting.erase(state.waiting.begin(), end);
        return true;
      }
    }
    return false;
  }
  static std::string describe(const Op& op) {
    if (op.kind == Kind::wake) return "wake " + std::to_string(op.most) + ": " + std::to_string(op.result);
    return std::to_string(op.who) + (op.kind == Kind::enqueue ? " enqueues" : op.result != 0 ? " is woken" : " times out");
  }
};

}  // namespace netvm::test
