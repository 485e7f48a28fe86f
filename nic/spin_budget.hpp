// How long a wait spins before it parks: Env::spin_budget(), counted without asking the clock each time, which costs more than a look at
// the rings.
#pragma once

#include <cstdint>

#include "runtime/env.hpp"

namespace netvm::nic {

class SpinBudget {
 public:
  explicit SpinBudget(Env& env) : env_(env), left_(env.spin_budget()) {}

  [[nodiscard]] bool any() const { return left_ > 0; }
  /// Nothing has happened. True: look again. False: look at the clock first.
  bool turn() {
    if (left_ <= 0) return false;
    env_.relax();
    return ++turns_ % kTurns != 0;
  }
  /// Something has happened: somebody is at work, and the next thing is probably near. Where anything is spun at all, all of it again.
  void renew() {
    if (looked_at_ == 0) return;
    left_ = env_.spin_budget();
    looked_at_ = 0;
  }
  /// Whether to go on spinning. Once false, false until renew().
  bool lasts(Nanos now) {
    if (left_ <= 0) return false;
    if (looked_at_ != 0) left_ -= now - looked_at_;
    looked_at_ = now;
    return left_ > 0;
  }

 private:
  static constexpr std::uint32_t kTurns = 16;

  Env& env_;
  Nanos left_;
  Nanos looked_at_ = 0;  // 0: not yet
  std::uint32_t turns_ = 0;
};

}  // namespace netvm::nic
