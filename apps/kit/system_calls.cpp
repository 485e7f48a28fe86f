// System calls whose buffers lie in shared memory. The kernel does not take the faults that a missing right needs: it fails with EFAULT. So netvm-cc links
// the program's calls to these, which take the faults first, and try again if a page went away meanwhile.
//
// fread() and fwrite() hand large buffers to the kernel from inside the C library: these copy through private memory instead.
//
// Invariants
//  1. Faults are taken on the private stack: of programs with threads the caller's stack lies in shared memory itself.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "apps/kit/descriptors.hpp"
#include "apps/kit/file_area.hpp"
#include "apps/kit/kit.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/thread_state.hpp"
#include "apps/kit/with_rights.hpp"

namespace netvm::kit {

bool touch(void* buffer, std::size_t bytes, bool write) {
  Kit* const kit = Kit::find();
  std::uint64_t offset = 0;
  if (kit == nullptr || bytes == 0 || !kit->runtime().offset_of(buffer, &offset)) return false;
  return in_runtime([=] { return kit->runtime().dsm->touch(offset, bytes, write); });
}

namespace {

bool is_shared(const void* buffer) {
  Kit* const kit = Kit::find();
  std::uint64_t offset = 0;
  return kit != nullptr && kit->runtime().offset_of(buffer, &offset);
}

constexpr std::size_t kStage = 16 * 1024;

/// Moves `bytes` bytes in pieces: f(piece, wanted) of each says how many it got. Off the shared stack, errno as it leaves it.
template <class F>
std::size_t in_pieces(std::size_t bytes, F&& f) {
  int error = errno;
  const std::size_t all = in_runtime([&] {
    std::array<char, kStage> stage;
    std::size_t done = 0;
    while (done < bytes) {
      const std::size_t wanted = std::min(stage.size(), bytes - done);
      const std::size_t got = f(stage.data(), done, wanted);
      done += got;
      if (got < wanted) break;
    }
    error = errno;
    return done;
  });
  errno = error;
  return all;
}

NETVM_REAL(read);
NETVM_REAL(write);
NETVM_REAL(pread);
NETVM_REAL(pwrite);
NETVM_REAL(readv);
NETVM_REAL(writev);
NETVM_REAL(fopen);

int real_open(const char* path, int flags, mode_t mode) {
  using Function = int (*)(const char*, int, ...);
  static const auto function = reinterpret_cast<Function>(find_real("open"));
  return function(path, flags, mode);
}

}  // namespace

}  // namespace netvm::kit

using netvm::kit::Descriptors;
using netvm::kit::with_rights;
using netvm::kit::with_segments;
using netvm::kit::with_string;

extern "C" {

ssize_t __wrap_read(int fd, void* buffer, std::size_t bytes) {
  if (!Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, true, [&] { return netvm::kit::real_read(fd, buffer, bytes); });
}
ssize_t __wrap_write(int fd, const void* buffer, std::size_t bytes) {
  if (!Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, false, [&] { return netvm::kit::real_write(fd, buffer, bytes); });
}
ssize_t __wrap_pread(int fd, void* buffer, std::size_t bytes, off_t at) {
  if (!Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, true, [&] { return netvm::kit::real_pread(fd, buffer, bytes, at); });
}
ssize_t __wrap_pwrite(int fd, const void* buffer, std::size_t bytes, off_t at) {
  if (!Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, false, [&] { return netvm::kit::real_pwrite(fd, buffer, bytes, at); });
}
ssize_t __wrap_readv(int fd, const iovec* segments, int count) {
  if (!Descriptors::here(fd)) return -1;
  return with_segments(segments, static_cast<std::size_t>(count), true, [&] { return netvm::kit::real_readv(fd, segments, count); });
}
ssize_t __wrap_writev(int fd, const iovec* segments, int count) {
  if (!Descriptors::here(fd)) return -1;
  return with_segments(segments, static_cast<std::size_t>(count), false, [&] { return netvm::kit::real_writev(fd, segments, count); });
}

std::size_t __wrap_fread(void* to, std::size_t size, std::size_t count, FILE* file) {
  if (!netvm::kit::is_shared(to)) return std::fread(to, size, count, file);
  const std::size_t done = netvm::kit::in_pieces(size * count, [=](char* stage, std::size_t at, std::size_t wanted) {
    const std::size_t got = std::fread(stage, 1, wanted, file);
    std::memcpy(static_cast<char*>(to) + at, stage, got);
    return got;
  });
  return size != 0 ? done / size : 0;
}
std::size_t __wrap_fwrite(const void* from, std::size_t size, std::size_t count, FILE* file) {
  if (!netvm::kit::is_shared(from)) return std::fwrite(from, size, count, file);
  const std::size_t done = netvm::kit::in_pieces(size * count, [=](char* stage, std::size_t at, std::size_t wanted) {
    std::memcpy(stage, static_cast<const char*>(from) + at, wanted);
    return std::fwrite(stage, 1, wanted, file);
  });
  return size != 0 ? done / size : 0;
}

int __wrap_open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return Descriptors::adopt(with_string(path, [&] { return netvm::kit::real_open(path, flags, mode); }));
}
FILE* __wrap_fopen(const char* path, const char* mode) {
  const netvm::kit::FileArea::Opening opening;
  FILE* file = nullptr;
  (void)with_string(path, [&] { return (file = netvm::kit::real_fopen(path, mode)) != nullptr ? 0 : -1; });
  return Descriptors::adopt(file);
}
// The names that -D_FILE_OFFSET_BITS=64 calls; on 64-bit machines they are the same.
ssize_t __wrap_pread64(int fd, void* buffer, std::size_t bytes, off_t at) { return __wrap_pread(fd, buffer, bytes, at); }
ssize_t __wrap_pwrite64(int fd, const void* buffer, std::size_t bytes, off_t at) { return __wrap_pwrite(fd, buffer, bytes, at); }
int __wrap_open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return __wrap_open(path, flags, mode);
}
FILE* __wrap_fopen64(const char* path, const char* mode) { return __wrap_fopen(path, mode); }
// For calls of libraries, such as those of libstdc++'s streams.
FILE* fopen(const char* path, const char* mode) {
  if (netvm::kit::program_calls()) return __wrap_fopen(path, mode);
  const netvm::kit::FileArea::Opening opening;
  return netvm::kit::real_fopen(path, mode);
}
FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }
int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return netvm::kit::program_calls() ? __wrap_open(path, flags, mode) : netvm::kit::real_open(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open(path, flags, mode);
}
ssize_t read(int fd, void* buffer, std::size_t bytes) {
  return netvm::kit::program_calls() ? __wrap_read(fd, buffer, bytes) : netvm::kit::real_read(fd, buffer, bytes);
}
ssize_t write(int fd, const void* buffer, std::size_t bytes) {
  return netvm::kit::program_calls() ? __wrap_write(fd, buffer, bytes) : netvm::kit::real_write(fd, buffer, bytes);
}
ssize_t readv(int fd, const iovec* segments, int count) {
  return netvm::kit::program_calls() ? __wrap_readv(fd, segments, count) : netvm::kit::real_readv(fd, segments, count);
}
ssize_t writev(int fd, const iovec* segments, int count) {
  return netvm::kit::program_calls() ? __wrap_writev(fd, segments, count) : netvm::kit::real_writev(fd, segments, count);
}

int __wrap_stat(const char* path, struct stat* to) {
  return with_rights(to, sizeof *to, true, [&] { return with_string(path, [&] { return ::stat(path, to); }); });
}
int __wrap_fstat(int fd, struct stat* to) {
  if (!Descriptors::here(fd)) return -1;
  return with_rights(to, sizeof *to, true, [&] { return ::fstat(fd, to); });
}
clock_t __wrap_times(tms* to) {
  return with_rights(to, sizeof *to, true, [&] { return ::times(to); });
}
int __wrap_getrusage(int who, rusage* to) {
  return with_rights(to, sizeof *to, true, [&] { return ::getrusage(static_cast<__rusage_who>(who), to); });
}

}  // extern "C"
