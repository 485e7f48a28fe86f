#include "runtime/task_group.hpp"

#include <mutex>
#include <utility>

namespace netvm {

bool TaskGroup::spawn(std::function<void()> task) {
  {
    const std::scoped_lock guard(lock_);
    if (closed_) return false;
    ++running_;
  }
  env_.spawn([this, task = std::move(task)] {
    task();
    const std::scoped_lock guard(lock_);
    --running_;
    ended_.announce(env_);
  });
  return true;
}

void TaskGroup::wait(bool closes) {
  for (;;) {
    const ParkOn ended = ended_.on(ended_.prepare());
    bool over = false;
    {
      const std::scoped_lock guard(lock_);  // taken with running_ == 0: the last task is out of its announcement
      closed_ = closed_ || closes;
      over = running_ == 0;
    }
    if (!over) env_.park({&ended, 1}, kForever);
    ended_.finish();
    if (over) return;
  }
}

}  // namespace netvm
