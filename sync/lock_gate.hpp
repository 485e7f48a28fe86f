// Lock gate: what is said to other nodes about locks goes through it, so that it can be closed. While it is closed (recovery.hpp) locks that are here
// work on; nothing is asked for and nothing handed to another node.
//
// Invariants
//  1. close() takes effect at once; when wait_until_quiet() returns, nobody is inside and no message of a node that was named dead before is being handled.
//  2. Nobody waits inside but for what a node answers by itself (an atomic at the lock's home, the acknowledgement of a placement), or until that node is
//     declared dead.
//  3. While a node places some memory's objects (mutex_place.cpp), nobody enters for what lies in there.
// Threads: any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "nic/nic.hpp"
#include "runtime/env.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/home_rules.hpp"

namespace netvm::sync {

class LockGate {
 public:
  explicit LockGate(nic::Nic& nic) : nic_(nic), dead_(nic.nodes(), false) {}

  /// Whether the caller may go on; then it calls leave(). Does not block.
  [[nodiscard]] bool enter() {
    const std::lock_guard guard(lock_);
    if (closed_) return false;
    ++inside_;
    return true;
  }
  /// The same, for what lies at the offset.
  [[nodiscard]] bool enter_for(std::uint64_t offset) {
    const std::lock_guard guard(lock_);
    if (closed_ || is_held(offset)) return false;
    ++inside_;
    return true;
  }
  /// The same, if so many had been named dead.
  [[nodiscard]] bool enter_after(std::uint32_t deaths) {
    const std::lock_guard guard(lock_);
    if (closed_ || deaths_ != deaths) return false;
    ++inside_;
    return true;
  }
  void leave() {
    const std::lock_guard guard(lock_);
    if (--inside_ == 0 && closed_) changed_.announce(nic_.env());
  }
  /// For a message of that node: false if it has been declared dead. Else the caller calls leave() when it has handled it.
  [[nodiscard]] bool hear(NodeId from) {
    const std::lock_guard guard(lock_);
    if (dead_[from.value]) return false;
    ++inside_;
    return true;
  }

  [[nodiscard]] bool is_dead(NodeId node) const {
    const std::lock_guard guard(lock_);
    return dead_[node.value];
  }
  /// Whether what the death meant to the locks has been dealt with.
  [[nodiscard]] bool is_long_dead(NodeId node) const {
    const std::lock_guard guard(lock_);
    return dead_[node.value] && !closed_;
  }
  /// Names a node dead and closes the gate. False: it was named before.
  bool close(NodeId dead) {
    const std::lock_guard guard(lock_);
    if (dead_[dead.value]) return false;
    dead_[dead.value] = true;
    ++deaths_;
    closed_ = true;
    return true;
  }
  /// Opens it if nobody has been named dead since there were `deaths` of them.
  bool open(std::uint32_t deaths) {
    const std::lock_guard guard(lock_);
    if (deaths_ != deaths) return false;
    closed_ = false;
    changed_.announce(nic_.env());
    return true;
  }
  /// `placer` places this memory's objects. False: so does another node, of some of it.
  [[nodiscard]] bool hold(NodeId placer, const MemoryRange& memory) {
    const std::lock_guard guard(lock_);
    for (const auto& [node, held] : held_) {
      if (held.overlaps(memory)) return false;
    }
    held_.emplace_back(placer, memory);
    return true;
  }
  /// It has placed them, or not.
  void let_go(NodeId placer) {
    const std::lock_guard guard(lock_);
    std::erase_if(held_, [placer](const auto& held) { return held.first == placer; });
    changed_.announce(nic_.env());
  }

  [[nodiscard]] std::uint32_t deaths() const {
    const std::lock_guard guard(lock_);
    return deaths_;
  }
  [[nodiscard]] std::optional<std::uint32_t> deaths_if_open() const {
    const std::lock_guard guard(lock_);
    if (closed_) return std::nullopt;
    return deaths_;
  }
  /// All that have been named dead, in order.
  [[nodiscard]] std::vector<NodeId> dead() const {
    std::vector<NodeId> nodes;
    const std::lock_guard guard(lock_);
    for (std::uint32_t i = 0; i < dead_.size(); ++i) {
      if (dead_[i]) nodes.push_back(NodeId{i});
    }
    return nodes;
  }

  /// Blocks until nobody is inside. Call while it is closed. E_CANCELLED: the job ends.
  Status wait_until_quiet() {
    return nic_.wait_until(changed_, [this] {
      const std::lock_guard guard(lock_);
      return inside_ == 0;
    });
  }
  /// Blocks until it is open, for what lies at the offset. E_TIMEOUT, E_CANCELLED.
  Status wait_until_open(std::uint64_t offset, Nanos deadline) {
    return nic_.wait_until(
        changed_,
        [this, offset] {
          const std::lock_guard guard(lock_);
          return !closed_ && !is_held(offset);
        },
        deadline);
  }

 private:
  // Under lock_.
  [[nodiscard]] bool is_held(std::uint64_t offset) const {
    const std::uint64_t at = SyncId{offset}.address();
    return std::any_of(held_.begin(), held_.end(), [at](const auto& held) { return held.second.contains(at); });
  }

  nic::Nic& nic_;
  mutable SpinLock lock_;
  std::uint32_t inside_ = 0;  // all under lock_
  std::uint32_t deaths_ = 0;
  bool closed_ = false;
  std::vector<bool> dead_;
  std::vector<std::pair<NodeId, MemoryRange>> held_;  // by whom
  WaitWord changed_;
};

}  // namespace netvm::sync
