// Who waits for something of the NIC's: Nic::waits(). A wait is in the list from when it is told, which is when it is about to be long; short ones cost nothing.
// Threads: each object is its thread's; the list is under Impl::waiting_lock.
#pragma once

#include "nic/nic_impl.hpp"

namespace netvm::nic {

class Nic::Impl::Waiting {
 public:
  /// Of an operation: the completion says whose answer is missing.
  Waiting(Impl& impl, const NicWait& wait, const Completion* completion = nullptr) : impl_(impl), wait_(wait), completion_(completion) {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting();

  /// Before a wait that may be long. The first time counts.
  void tell() {
    if (!told_) tell_first();
  }

 private:
  friend class Nic;
  void tell_first();

  Impl& impl_;
  NicWait wait_;
  const Completion* completion_;
  bool told_ = false;
  Waiting* before_ = nullptr;
  Waiting* next_ = nullptr;
};

}  // namespace netvm::nic
