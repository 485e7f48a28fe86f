// The C library's own functions, behind those that the kit puts in front of them: for memory and objects that are not shared, and for NetVM itself.
//
// Usage, at file scope:  NETVM_REAL(pthread_mutex_lock);   then  real_pthread_mutex_lock(m)
#pragma once

#include <dlfcn.h>

#include <csignal>

#include <atomic>

namespace netvm::kit {

/// The function of that name in the libraries that come after this one. Ends the process if there is none.
void* find_real(const char* name);

template <class R, class... A>
class Real {
 public:
  constexpr explicit Real(const char* name) : name_(name) {}
  R operator()(A... arguments) {
    Function function = function_.load(std::memory_order_relaxed);  // relaxed: whoever stores it stores the same
    if (function == nullptr) {
      function = reinterpret_cast<Function>(find_real(name_));
      function_.store(function, std::memory_order_relaxed);  // relaxed: see above
    }
    return function(arguments...);
  }

 private:
  using Function = R (*)(A...);
  const char* name_;
  std::atomic<Function> function_{nullptr};
};

template <class R, class... A>
constexpr Real<R, A...> make_real(R (*)(A...), const char* name) {
  return Real<R, A...>(name);
}

#define NETVM_REAL(name) static constinit auto real_##name = ::netvm::kit::make_real(&::name, #name)

int real_sigaltstack(const stack_t* stack, stack_t* old);

}  // namespace netvm::kit
