// The C library's calls on file descriptors, in front of its own: what opens one gives it a number of this node's, and what uses one of another node's brings
// it here first (descriptors.hpp). Those with buffers are in system_calls.cpp and more_system_calls.cpp.
//
// Each is defined under a name of ours and known to the linker by the C library's.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>

#include "apps/kit/descriptors.hpp"
#include "apps/kit/real.hpp"

namespace {

using netvm::kit::Descriptors;

}  // namespace

/// What uses the descriptor `fd` among its parameters and returns -1 for an error.
#define NETVM_FD_CALL(R, name, parameters, fd, ...)                              \
  R netvm_fd_##name parameters __asm__(#name);                                   \
  R netvm_fd_##name parameters {                                                 \
    static constinit auto real = netvm::kit::make_real(&netvm_fd_##name, #name); \
    return Descriptors::here(fd) ? real(__VA_ARGS__) : R{-1};                    \
  }
/// What opens one.
#define NETVM_FD_OPENING(name, parameters, ...)                                  \
  int netvm_fd_##name parameters __asm__(#name);                                 \
  int netvm_fd_##name parameters {                                               \
    static constinit auto real = netvm::kit::make_real(&netvm_fd_##name, #name); \
    return Descriptors::adopt(real(__VA_ARGS__));                                \
  }
/// What opens one out of another.
#define NETVM_FD_MAKING(name, parameters, fd, ...)                               \
  int netvm_fd_##name parameters __asm__(#name);                                 \
  int netvm_fd_##name parameters {                                               \
    static constinit auto real = netvm::kit::make_real(&netvm_fd_##name, #name); \
    return Descriptors::here(fd) ? Descriptors::adopt(real(__VA_ARGS__)) : -1;   \
  }

extern "C" {

int close(int fd) { return Descriptors::close(fd); }

// Files.
NETVM_FD_CALL(off_t, lseek, (int fd, off_t to, int from), fd, fd, to, from)
NETVM_FD_CALL(off_t, lseek64, (int fd, off_t to, int from), fd, fd, to, from)
NETVM_FD_CALL(int, fsync, (int fd), fd, fd)
NETVM_FD_CALL(int, fdatasync, (int fd), fd, fd)
NETVM_FD_CALL(int, ftruncate, (int fd, off_t bytes), fd, fd, bytes)
NETVM_FD_CALL(int, ftruncate64, (int fd, off_t bytes), fd, fd, bytes)
NETVM_FD_CALL(int, fallocate, (int fd, int mode, off_t at, off_t bytes), fd, fd, mode, at, bytes)
NETVM_FD_CALL(int, fchmod, (int fd, mode_t mode), fd, fd, mode)
NETVM_FD_CALL(int, flock, (int fd, int how), fd, fd, how)
NETVM_FD_CALL(int, lockf, (int fd, int how, off_t bytes), fd, fd, how, bytes)
NETVM_FD_CALL(int, tcgetattr, (int fd, termios* to), fd, fd, to)
NETVM_FD_MAKING(dup, (int fd), fd, fd)
NETVM_FD_OPENING(creat, (const char* path, mode_t mode), path, mode)
NETVM_FD_OPENING(creat64, (const char* path, mode_t mode), path, mode)
NETVM_FD_OPENING(mkstemp, (char* name), name)
NETVM_FD_OPENING(mkstemp64, (char* name), name)
NETVM_FD_OPENING(mkostemp, (char* name, int flags), name, flags)
NETVM_FD_OPENING(mkostemp64, (char* name, int flags), name, flags)
NETVM_FD_OPENING(memfd_create, (const char* name, unsigned flags), name, flags)

// Sockets.
NETVM_FD_OPENING(socket, (int domain, int type, int protocol), domain, type, protocol)
NETVM_FD_MAKING(accept, (int fd, sockaddr* from, socklen_t* bytes), fd, fd, from, bytes)
NETVM_FD_MAKING(accept4, (int fd, sockaddr* from, socklen_t* bytes, int flags), fd, fd, from, bytes, flags)
NETVM_FD_CALL(int, bind, (int fd, const sockaddr* name, socklen_t bytes), fd, fd, name, bytes)
NETVM_FD_CALL(int, connect, (int fd, const sockaddr* name, socklen_t bytes), fd, fd, name, bytes)
NETVM_FD_CALL(int, listen, (int fd, int most), fd, fd, most)
NETVM_FD_CALL(int, shutdown, (int fd, int how), fd, fd, how)
NETVM_FD_CALL(int, getsockname, (int fd, sockaddr* name, socklen_t* bytes), fd, fd, name, bytes)
NETVM_FD_CALL(int, getpeername, (int fd, sockaddr* name, socklen_t* bytes), fd, fd, name, bytes)
NETVM_FD_CALL(int, getsockopt, (int fd, int level, int name, void* to, socklen_t* bytes), fd, fd, level, name, to, bytes)
NETVM_FD_CALL(int, setsockopt, (int fd, int level, int name, const void* from, socklen_t bytes), fd, fd, level, name, from, bytes)

// Events and timers.
NETVM_FD_OPENING(eventfd, (unsigned begin, int flags), begin, flags)
NETVM_FD_OPENING(timerfd_create, (clockid_t clock, int flags), clock, flags)
NETVM_FD_CALL(int, timerfd_settime, (int fd, int flags, const itimerspec* wanted, itimerspec* old), fd, fd, flags, wanted, old)
NETVM_FD_OPENING(epoll_create, (int most), most)
NETVM_FD_OPENING(epoll_create1, (int flags), flags)
NETVM_FD_CALL(int, epoll_wait, (int fd, epoll_event* to, int most, int timeout), fd, fd, to, most, timeout)

int netvm_fd_epoll_ctl(int set, int what, int fd, epoll_event* event) __asm__("epoll_ctl");
int netvm_fd_epoll_ctl(int set, int what, int fd, epoll_event* event) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_epoll_ctl, "epoll_ctl");
  return Descriptors::here(set) && Descriptors::here(fd) ? real(set, what, fd, event) : -1;
}

int netvm_fd_select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* time) __asm__("select");
int netvm_fd_select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* time) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_select, "select");
  for (int fd = 0; fd < count; ++fd) {
    for (const fd_set* set : {read, write, except}) {
      if (set != nullptr && FD_ISSET(fd, set) && !Descriptors::here(fd)) return -1;
    }
  }
  return real(count, read, write, except, time);
}

int netvm_fd_dup2(int fd, int to) __asm__("dup2");
int netvm_fd_dup2(int fd, int to) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_dup2, "dup2");
  if (!Descriptors::here(fd)) return -1;
  Descriptors::require_target("dup2()", to);
  if (fd != to) Descriptors::recall(to);
  return real(fd, to);
}
int netvm_fd_dup3(int fd, int to, int flags) __asm__("dup3");
int netvm_fd_dup3(int fd, int to, int flags) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_dup3, "dup3");
  if (!Descriptors::here(fd)) return -1;
  Descriptors::require_target("dup3()", to);
  if (fd != to) Descriptors::recall(to);
  return real(fd, to, flags);
}

int netvm_fd_fcntl(int fd, int what, long argument) __asm__("fcntl");  // called with "...": the one argument comes in the same register
int netvm_fd_fcntl(int fd, int what, long argument) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_fcntl, "fcntl");
  if (!Descriptors::here(fd)) return -1;
  const int result = real(fd, what, argument);
  return what == F_DUPFD || what == F_DUPFD_CLOEXEC ? Descriptors::adopt(result) : result;
}
int netvm_fd_fcntl64(int fd, int what, long argument) __asm__("fcntl64");
int netvm_fd_fcntl64(int fd, int what, long argument) { return netvm_fd_fcntl(fd, what, argument); }

int netvm_fd_ioctl(int fd, unsigned long what, void* argument) __asm__("ioctl");
int netvm_fd_ioctl(int fd, unsigned long what, void* argument) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_ioctl, "ioctl");
  return Descriptors::here(fd) ? real(fd, what, argument) : -1;
}
int netvm_fd_isatty(int fd) __asm__("isatty");
int netvm_fd_isatty(int fd) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_isatty, "isatty");
  return Descriptors::here(fd) ? real(fd) : 0;
}
int netvm_fd_openat(int folder, const char* path, int flags, mode_t mode) __asm__("openat");
int netvm_fd_openat(int folder, const char* path, int flags, mode_t mode) {
  static constinit auto real = netvm::kit::make_real(&netvm_fd_openat, "openat");
  return folder == AT_FDCWD || Descriptors::here(folder) ? Descriptors::adopt(real(folder, path, flags, mode)) : -1;
}
int netvm_fd_openat64(int folder, const char* path, int flags, mode_t mode) __asm__("openat64");
int netvm_fd_openat64(int folder, const char* path, int flags, mode_t mode) { return netvm_fd_openat(folder, path, flags, mode); }

}  // extern "C"
