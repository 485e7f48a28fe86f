// Waiting for something that takes at most one copy of some pages, unless its holder has been preempted.
#pragma once

#include <sched.h>

#include "runtime/cpu.hpp"

namespace netvm::nic {

class Backoff {
 public:
  void wait() {
    if (++rounds_ % 64 == 0) {
      sched_yield();
    } else {
      cpu_pause();
    }
  }

 private:
  unsigned rounds_ = 0;
};

}  // namespace netvm::nic
