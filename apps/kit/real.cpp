#include "apps/kit/real.hpp"

#include <sys/syscall.h>
#include <unistd.h>
#include <cstring>

#include "runtime/check.hpp"

namespace netvm::kit {

void* find_real(const char* name) {
  void* found = nullptr;
#if defined(__x86_64__)
  // Condition variables have an older version, which is what a search without a version may give.
  if (std::strncmp(name, "pthread_cond_", 13) == 0) found = ::dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
#endif
  if (found == nullptr) found = ::dlsym(RTLD_NEXT, name);
  NETVM_CHECK(found != nullptr, "the C library has no %s", name);
  return found;
}

int real_sigaltstack(const stack_t* stack, stack_t* old) { return static_cast<int>(::syscall(SYS_sigaltstack, stack, old)); }

}  // namespace netvm::kit
