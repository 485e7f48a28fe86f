// The C library's calls that change what a process has for itself, in front of its own: the change is made on all nodes (process_state.hpp).
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include "apps/kit/descriptors.hpp"
#include "apps/kit/process_state.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/thread_state.hpp"
#include "apps/kit/with_rights.hpp"

extern "C" int __cxa_atexit(void (*handler)(void*), void* argument, void* library);

namespace netvm::kit {

namespace {

NETVM_REAL(setenv);
NETVM_REAL(unsetenv);
NETVM_REAL(putenv);
NETVM_REAL(clearenv);
NETVM_REAL(chdir);
NETVM_REAL(fchdir);
NETVM_REAL(umask);
NETVM_REAL(setlocale);
NETVM_REAL(sigaction);
NETVM_REAL(pthread_sigmask);
NETVM_REAL(sigwaitinfo);
NETVM_REAL(sigtimedwait);
NETVM_REAL(srandom);
NETVM_REAL(srand48);
NETVM_REAL(__cxa_atexit);

using What = ProcessChange::What;

/// Whether the address is the executable's own: there it is the same on all nodes.
bool is_in_program(const void* address) {
  Dl_info found{};
  Dl_info main{};
  return ::dladdr(address, &found) != 0 && ::dladdr(reinterpret_cast<const void*>(Kit::find()->program().main), &main) != 0 &&
         found.dli_fbase == main.dli_fbase;
}

/// The directory that this node has changed to, for the others.
void tell_directory() {
  std::string path(PATH_MAX, '\0');
  if (::getcwd(path.data(), path.size()) == nullptr) return;
  ProcessState::change({.what = What::directory}, path.c_str(), nullptr, [] { return true; });
}

int set_variable(const char* name, const char* value, int overwrite) {
  if (!ProcessState::concerns_others()) return real_setenv(name, value, overwrite);
  if (name == nullptr || *name == '\0' || std::strchr(name, '=') != nullptr) {
    errno = EINVAL;
    return -1;
  }
  // Read here, on the program's stack, where pages that are away come.
  const std::string own_name(name);
  const std::string own_value(value);
  int result = 0;
  ProcessState::change({.what = What::set_variable}, name, value, [&] {
    if (overwrite == 0 && std::getenv(own_name.c_str()) != nullptr) return false;
    result = real_setenv(own_name.c_str(), own_value.c_str(), 1);
    return result == 0;
  });
  return result;
}

}  // namespace

}  // namespace netvm::kit

namespace kit = netvm::kit;
using kit::ProcessState;
using What = kit::ProcessChange::What;

extern "C" {

int setenv(const char* name, const char* value, int overwrite) noexcept { return kit::set_variable(name, value, overwrite); }
int unsetenv(const char* name) noexcept {
  if (!ProcessState::concerns_others()) return kit::real_unsetenv(name);
  const std::string own(name);
  int result = 0;
  ProcessState::change({.what = What::unset_variable}, name, nullptr, [&] {
    result = kit::real_unsetenv(own.c_str());
    return result == 0;
  });
  return result;
}
// The string is copied: what the program writes into it later changes nothing.
int putenv(char* text) noexcept {
  if (!ProcessState::concerns_others()) return kit::real_putenv(text);
  const char* const equals = std::strchr(text, '=');
  return equals == nullptr ? unsetenv(text)
                           : kit::set_variable(std::string(text, static_cast<std::size_t>(equals - text)).c_str(), equals + 1, 1);
}
int clearenv() noexcept {
  if (!ProcessState::concerns_others()) return kit::real_clearenv();
  int result = 0;
  ProcessState::change({.what = What::clear_variables}, nullptr, nullptr, [&] {
    result = kit::real_clearenv();
    return result == 0;
  });
  return result;
}

int chdir(const char* path) noexcept {
  const int result = kit::with_string(path, [=] { return kit::real_chdir(path); });
  if (result == 0 && ProcessState::concerns_others()) kit::tell_directory();
  return result;
}
int fchdir(int fd) noexcept {
  if (!kit::Descriptors::here(fd)) return -1;
  const int result = kit::real_fchdir(fd);
  if (result == 0 && ProcessState::concerns_others()) kit::tell_directory();
  return result;
}
mode_t umask(mode_t mask) noexcept {
  if (!ProcessState::concerns_others()) return kit::real_umask(mask);
  mode_t before = 0;
  ProcessState::change({.what = What::file_mask, .number = static_cast<std::int64_t>(mask)}, nullptr, nullptr, [&] {
    before = kit::real_umask(mask);
    return true;
  });
  return before;
}
char* setlocale(int category, const char* name) noexcept {
  if (name == nullptr || !ProcessState::concerns_others()) return kit::real_setlocale(category, name);
  const std::string own(name);
  char* result = nullptr;
  ProcessState::change({.what = What::locale, .number = category}, name, nullptr, [&] {
    result = kit::real_setlocale(category, own.c_str());
    return result != nullptr;
  });
  return result;
}

// Handlers of the program's run on the thread's signal stack: its own may lie in shared memory, which may be away.
int sigaction(int signal, const struct sigaction* wanted, struct sigaction* old) noexcept {
  if (!kit::program_calls()) return kit::real_sigaction(signal, wanted, old);
  struct sigaction action {};
  if (wanted != nullptr) action = *wanted;
  if (wanted != nullptr && (signal == SIGSEGV || signal == SIGBUS)) {
    kit::misuse("sigaction()", "SIGSEGV and SIGBUS are NetVM's while the job runs: accesses to shared memory cause them");
  }
  action.sa_flags |= SA_ONSTACK;
  struct sigaction before {};
  int result = 0;
  const auto here = [&] {
    const struct sigaction mine = action;
    struct sigaction theirs {};
    result = kit::real_sigaction(signal, wanted != nullptr ? &mine : nullptr, &theirs);
    before = theirs;
    return result == 0;
  };
  // What lies in a library may lie elsewhere on other nodes.
  const bool same_everywhere =
      wanted != nullptr && (!kit::has_handler(action) || kit::is_in_program(reinterpret_cast<const void*>(action.sa_handler)));
  if (same_everywhere && ProcessState::concerns_others()) {
    ProcessState::change({.what = What::disposition, .number = signal, .action = action}, nullptr, nullptr, here);
  } else {
    static_cast<void>(kit::privately(here));
  }
  if (result == 0 && old != nullptr) *old = before;
  return result;
}
sighandler_t signal(int number, sighandler_t handler) noexcept {
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}
int pthread_sigmask(int how, const sigset_t* wanted, sigset_t* old) noexcept {
  if (!kit::program_calls()) return kit::real_pthread_sigmask(how, wanted, old);
  sigset_t mine{};
  if (wanted != nullptr) mine = *wanted;
  sigset_t before{};
  sigset_t after{};
  const int error = kit::privately([&] {
    const sigset_t given = mine;
    sigset_t had{};
    sigset_t has{};
    const int failed = kit::real_pthread_sigmask(how, wanted != nullptr ? &given : nullptr, &had);
    static_cast<void>(kit::real_pthread_sigmask(SIG_BLOCK, nullptr, &has));
    before = had;
    after = has;
    return failed;
  });
  if (error != 0) return error;
  if (old != nullptr) *old = before;
  if (wanted != nullptr && kit::t_state.is_main && ProcessState::concerns_others()) {
    kit::ProcessChange change{.what = What::main_blocks};
    change.action.sa_mask = after;
    ProcessState::change(change, nullptr, nullptr, [] { return true; });
  }
  return 0;
}
int sigprocmask(int how, const sigset_t* wanted, sigset_t* old) noexcept {
  const int error = pthread_sigmask(how, wanted, old);
  if (error != 0) errno = error;
  return error == 0 ? 0 : -1;
}

int sigtimedwait(const sigset_t* wanted, siginfo_t* info, const timespec* time) {
  if (!kit::program_calls()) return kit::real_sigtimedwait(wanted, info, time);
  const sigset_t set = *wanted;
  const timespec most = time != nullptr ? *time : timespec{};
  siginfo_t facts{};
  const int result = kit::privately([&] {
    const sigset_t mine = set;
    const timespec limit = most;
    siginfo_t got{};
    const int signal = time != nullptr ? kit::real_sigtimedwait(&mine, &got, &limit) : kit::real_sigwaitinfo(&mine, &got);
    facts = got;
    return signal;
  });
  if (result > 0 && info != nullptr) *info = facts;
  return result;
}
int sigwaitinfo(const sigset_t* wanted, siginfo_t* info) { return sigtimedwait(wanted, info, nullptr); }
int sigwait(const sigset_t* wanted, int* signal) {
  int got = 0;
  do {
    got = sigwaitinfo(wanted, nullptr);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno;
  *signal = got;
  return 0;
}

void srandom(unsigned seed) noexcept {
  if (!ProcessState::concerns_others()) return kit::real_srandom(seed);
  ProcessState::change({.what = What::random_seed, .number = seed}, nullptr, nullptr, [=] {
    kit::real_srandom(seed);
    return true;
  });
}
void srand(unsigned seed) noexcept { srandom(seed); }
void srand48(long seed) noexcept {
  if (!ProcessState::concerns_others()) return kit::real_srand48(seed);
  ProcessState::change({.what = What::rand48_seed, .number = seed}, nullptr, nullptr, [=] {
    kit::real_srand48(seed);
    return true;
  });
}

// atexit() comes here, too, and destructors of objects with static storage.
int __cxa_atexit(void (*handler)(void*), void* argument, void* library) {
  if (!ProcessState::concerns_others() || kit::Kit::find()->node() == 0 || !kit::is_in_program(reinterpret_cast<const void*>(handler)))
    return kit::real___cxa_atexit(handler, argument, library);
  ProcessState::change({.what = What::at_exit, .handler = handler, .argument = argument, .library = library}, nullptr, nullptr,
                       [] { return true; });
  return 0;
}

}  // extern "C"
