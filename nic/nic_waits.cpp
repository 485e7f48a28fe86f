#include "nic/nic_waits.hpp"

#include <algorithm>
#include <mutex>
#include <optional>

namespace netvm::nic {

Nic::Impl::Waiting::~Waiting() {
  if (!told_) return;
  const std::lock_guard guard(impl_.waiting_lock);
  (before_ == nullptr ? impl_.waiting : before_->next_) = next_;
  if (next_ != nullptr) next_->before_ = before_;
}

void Nic::Impl::Waiting::tell_first() {
  told_ = true;
  wait_.since = impl_.env.now();
  const std::lock_guard guard(impl_.waiting_lock);
  next_ = impl_.waiting;
  if (next_ != nullptr) next_->before_ = this;
  impl_.waiting = this;
}

std::vector<NicWait> Nic::waits() const {
  std::vector<NicWait> waits;
  {
    const std::lock_guard guard(impl_->waiting_lock);
    for (const Impl::Waiting* waiting = impl_->waiting; waiting != nullptr; waiting = waiting->next_) {
      NicWait& wait = waits.emplace_back(waiting->wait_);
      if (wait.what != NicWait::What::operation) continue;
      // Its thread cannot leave meanwhile, so the completion is still this one. It may end: then it waits for nothing, and goes soon.
      const std::optional<NodeId> target = impl_->requests.target_of(waiting->completion_);
      if (target) {
        wait.target = *target;
      } else if (waiting->completion_->done()) {
        waits.pop_back();
      } else {
        wait.what = NicWait::What::trigger;
      }
    }
  }
  for (NicWait& wait : waits) {
    if (wait.what == NicWait::What::counter) wait.value = counter_value({config_.node, wait.counter});
  }
  std::reverse(waits.begin(), waits.end());
  return waits;
}

}  // namespace netvm::nic
