// Calls of the C library that a pthreads program makes on a shared stack, or that hand it memory: in front of the C library's own.
//
// Invariants
//  1. What the kernel is given lies in private memory, or the call is made again after the faults that it needs have been taken.
#include <dlfcn.h>
#include <poll.h>
#include <sys/select.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <string>

#include "apps/kit/heap.hpp"
#include "apps/kit/malloc.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/stdio_calls.hpp"
#include "apps/kit/thread_state.hpp"
#include "runtime/check.hpp"

namespace netvm::kit {

namespace {

NETVM_REAL(exit);
NETVM_REAL(getenv);
NETVM_REAL(nanosleep);
NETVM_REAL(clock_nanosleep);
NETVM_REAL(sysconf);
NETVM_REAL(system);
NETVM_REAL(getdelim);
NETVM_REAL(vasprintf);
NETVM_REAL(realpath);

char* copy_for_program(const char* text, std::size_t length) {
  auto* const copy = static_cast<char*>(allocate_for_program(length + 1));
  if (copy == nullptr) return nullptr;
  std::memcpy(copy, text, length);
  copy[length] = '\0';
  return copy;
}

/// The one copy of that text in shared memory. in_runtime().
char* shared_copy_of(const char* text) {
  static std::mutex mutex;
  static auto* const copies = new std::map<std::string, char*>;
  const std::lock_guard guard(mutex);
  char*& copy = (*copies)[text];
  if (copy == nullptr) {
    const std::size_t bytes = std::strlen(text) + 1;
    copy = static_cast<char*>(Heap::allocate(bytes, 16, false));
    if (copy != nullptr) std::memcpy(copy, text, bytes);
  }
  return copy;
}

}  // namespace

}  // namespace netvm::kit

namespace kit = netvm::kit;

extern "C" {

// The first to call it ends the job; others of the node wait for that.
void exit(int status) {
  static std::atomic<bool> begun{false};
  if (kit::Pthreads::find() != nullptr && begun.exchange(true)) {
    for (;;) ::pause();
  }
  kit::real_exit(status);
  __builtin_unreachable();
}

int nanosleep(const timespec* time, timespec* left) {
  if (!kit::program_calls()) return kit::real_nanosleep(time, left);
  const timespec wanted = *time;
  timespec rest{};
  const int result = kit::privately([&] {
    const timespec mine = wanted;
    timespec remains{};
    const int slept = kit::real_nanosleep(&mine, &remains);
    rest = remains;
    return slept;
  });
  if (result != 0 && left != nullptr) *left = rest;
  return result;
}
int clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* left) {
  if (!kit::program_calls()) return kit::real_clock_nanosleep(clock, flags, time, left);
  const timespec wanted = *time;
  timespec rest{};
  const int error = kit::privately([&] {
    const timespec mine = wanted;
    timespec remains{};
    const int slept = kit::real_clock_nanosleep(clock, flags, &mine, &remains);
    rest = remains;
    return slept;
  });
  if (error == EINTR && left != nullptr) *left = rest;
  return error;
}
unsigned sleep(unsigned seconds) {
  timespec time{static_cast<time_t>(seconds), 0};
  return nanosleep(&time, &time) == 0 ? 0 : static_cast<unsigned>(time.tv_sec);
}
int usleep(useconds_t microseconds) {
  const timespec time{static_cast<time_t>(microseconds / 1'000'000), static_cast<long>(microseconds % 1'000'000) * 1000};
  return nanosleep(&time, nullptr);
}
int thrd_sleep(const timespec* time, timespec* left) {
  const int result = nanosleep(time, left);
  return result == 0 ? 0 : errno == EINTR ? -1 : -2;
}
// Reads files of the kernel's into buffers on the stack.
long sysconf(int name) noexcept {
  if (!kit::program_calls()) return kit::real_sysconf(name);
  return kit::privately([name] { return kit::real_sysconf(name); });
}
int system(const char* command) {
  if (!kit::program_calls() || command == nullptr) return kit::real_system(command);
  std::string* copy = nullptr;
  const std::size_t length = std::strlen(command);  // takes the faults
  return kit::privately([=]() mutable {
    copy = new std::string(command, length);
    const int status = kit::real_system(copy->c_str());
    delete copy;
    return status;
  });
}

// The thread has a larger one already.
int sigaltstack(const stack_t* stack, stack_t* old) noexcept {
  if (!kit::program_calls()) return kit::real_sigaltstack(stack, old);
  if (old != nullptr) {
    *old = {};
    old->ss_flags = SS_DISABLE;
  }
  return 0;
}

// Each node has an environment of its own, in private memory: what is handed out is a copy. There is one for each name and value.
char* getenv(const char* name) noexcept {
  char* const value = kit::real_getenv(name);
  if (value == nullptr || !kit::program_calls()) return value;
  return kit::in_runtime([value] { return kit::shared_copy_of(value); });
}

// What the C library allocates for the program.
char* strdup(const char* text) noexcept { return kit::copy_for_program(text, std::strlen(text)); }
char* strndup(const char* text, std::size_t most) noexcept { return kit::copy_for_program(text, ::strnlen(text, most)); }
char* __strdup(const char* text) noexcept { return kit::copy_for_program(text, std::strlen(text)); }

int vasprintf(char** to, const char* format, va_list arguments) noexcept {
  if (!kit::program_calls()) return kit::real_vasprintf(to, format, arguments);
  char* text = nullptr;
  const int length = kit::real_vasprintf(&text, format, arguments);
  if (length < 0) return length;
  *to = kit::copy_for_program(text, static_cast<std::size_t>(length));
  std::free(text);
  return *to != nullptr ? length : -1;
}
int asprintf(char** to, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  const int length = vasprintf(to, format, arguments);
  va_end(arguments);
  return length;
}
char* realpath(const char* path, char* to) noexcept {
  if (to != nullptr || !kit::program_calls()) return kit::real_realpath(path, to);
  char* const found = kit::real_realpath(path, nullptr);
  if (found == nullptr) return nullptr;
  char* const copy = kit::copy_for_program(found, std::strlen(found));
  std::free(found);
  return copy;
}
// What the line grows in is the caller's, so it stays where it is: shared if it begins so.
ssize_t getdelim(char** line, std::size_t* bytes, int end, FILE* file) {
  constexpr std::size_t kFirst = 120;
  kit::require_own_file("getdelim()", file, __builtin_return_address(0));
  if (kit::program_calls() && *line == nullptr) {
    *line = static_cast<char*>(kit::allocate_for_program(kFirst));
    *bytes = *line != nullptr ? kFirst : 0;
  }
  return kit::real_getdelim(line, bytes, end, file);
}
// Under these names the C library's headers have functions of their own, which programs get instead where they are optimised.
ssize_t netvm_kit_getline(char** line, std::size_t* bytes, FILE* file) __asm__("getline");
ssize_t netvm_kit_getline(char** line, std::size_t* bytes, FILE* file) { return getdelim(line, bytes, '\n', file); }
ssize_t netvm_kit_getdelim(char** line, std::size_t* bytes, int end, FILE* file) __asm__("__getdelim");
ssize_t netvm_kit_getdelim(char** line, std::size_t* bytes, int end, FILE* file) { return getdelim(line, bytes, end, file); }

}  // extern "C"
