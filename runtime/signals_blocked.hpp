// SignalsBlocked: the application's signals belong to the application's threads. While one lives, the calling thread takes none, and a thread that it starts
// never does. Faults stay deliverable: to block them would end the process at the first page that is away.
#pragma once

#include <pthread.h>

#include <csignal>
#include <initializer_list>

namespace netvm {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace netvm
