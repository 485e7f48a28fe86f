// mmap() in programs with threads: anonymous memory is shared memory; of a file the contents are copied into it. The kernel's own mappings would be one
// process's.
//
// Invariants
//  1. The kernel hears nothing of shared memory from the program: its protections and its pages are NetVM's.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <string>

#include "apps/kit/descriptors.hpp"
#include "apps/kit/heap.hpp"
#include "apps/kit/malloc.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/thread_state.hpp"

namespace netvm::kit {

namespace {

NETVM_REAL(mmap);
NETVM_REAL(munmap);
NETVM_REAL(mprotect);
NETVM_REAL(madvise);
NETVM_REAL(msync);
NETVM_REAL(mlock);
NETVM_REAL(munlock);

void* fail(int error) {
  errno = error;
  return MAP_FAILED;
}

std::byte* allocate(std::size_t bytes) {
  return in_runtime([=]() -> std::byte* {
    detail::Runtime& rt = Kit::find()->runtime();
    std::string why;
    const auto offset = rt.dsm->allocate(bytes, {.alignment = kPageSize}, &why);
    return offset ? static_cast<std::byte*>(rt.address_of(*offset)) : nullptr;
  });
}

/// Reads the file's bytes from `at` on; what lies behind its end stays zero. Returns errno.
int read_file(std::byte* to, std::size_t bytes, int fd, off_t at) {
  return in_runtime([=]() -> int {
    std::array<char, 64 * 1024> stage;
    for (std::size_t done = 0; done < bytes;) {
      const ssize_t got = ::pread(fd, stage.data(), std::min(stage.size(), bytes - done), at + static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno;
      if (got == 0) break;
      std::memcpy(to + done, stage.data(), static_cast<std::size_t>(got));
      done += static_cast<std::size_t>(got);
    }
    return 0;
  });
}

void* map(void* address, std::size_t bytes, int protection, int flags, int fd, off_t at) {
  if (bytes == 0 || at % static_cast<off_t>(kPageSize) != 0) return fail(EINVAL);
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0) {
    if (!Heap::is_shared(address)) return real_mmap(address, bytes, protection, flags, fd, at);
    misuse("mmap()", "MAP_FIXED cannot replace shared memory: let the system choose the address");
  }
  const bool file = (flags & MAP_ANONYMOUS) == 0;
  if (file && (flags & MAP_TYPE) != MAP_PRIVATE && (protection & PROT_WRITE) != 0) {
    misuse("mmap()",
           "a writable MAP_SHARED mapping of a file would be one node's only: map it with MAP_PRIVATE (its contents are then shared by all "
           "threads), and "
           "write what changes with pwrite()");
  }
  if (file && !Descriptors::here(fd)) return MAP_FAILED;
  std::byte* const memory = allocate(bytes);
  if (memory == nullptr) return fail(ENOMEM);
  if (!file) return memory;
  const int error = read_file(memory, bytes, fd, at);
  if (error == 0) return memory;
  ::munmap(memory, bytes);
  return fail(error);
}

}  // namespace

}  // namespace netvm::kit

namespace kit = netvm::kit;

extern "C" {

void* mmap(void* address, std::size_t bytes, int protection, int flags, int fd, off_t at) noexcept {
  return kit::program_calls() ? kit::map(address, bytes, protection, flags, fd, at)
                              : kit::real_mmap(address, bytes, protection, flags, fd, at);
}
void* mmap64(void* address, std::size_t bytes, int protection, int flags, int fd, off_t at) noexcept {
  return mmap(address, bytes, protection, flags, fd, at);
}
// A part of a mapping stays: only the whole goes back.
int munmap(void* address, std::size_t bytes) noexcept {
  if (!kit::program_calls() || !kit::Heap::is_shared(address)) return kit::real_munmap(address, bytes);
  kit::in_runtime([=] {
    auto& rt = kit::Kit::find()->runtime();
    std::uint64_t offset = 0;
    if (!rt.offset_of(address, &offset)) return;
    const auto whole = rt.dsm->size_of(offset);
    const std::size_t pages = (bytes + netvm::kPageSize - 1) / netvm::kPageSize * netvm::kPageSize;
    if (whole && *whole <= pages) static_cast<void>(rt.dsm->free(offset));
  });
  return 0;
}
int mprotect(void* address, std::size_t bytes, int protection) noexcept {
  return kit::program_calls() && kit::Heap::is_shared(address) ? 0 : kit::real_mprotect(address, bytes, protection);
}
int madvise(void* address, std::size_t bytes, int advice) noexcept {
  if (!kit::program_calls() || !kit::Heap::is_shared(address)) return kit::real_madvise(address, bytes, advice);
  if (advice == MADV_DONTNEED) std::memset(address, 0, bytes);
  return 0;
}
int posix_madvise(void* address, std::size_t bytes, int advice) noexcept {
  if (advice == POSIX_MADV_DONTNEED) return 0;
  return madvise(address, bytes, advice) == 0 ? 0 : errno;
}
int msync(void* address, std::size_t bytes, int flags) {
  return kit::program_calls() && kit::Heap::is_shared(address) ? 0 : kit::real_msync(address, bytes, flags);
}
int mlock(const void* address, std::size_t bytes) noexcept {
  return kit::program_calls() && kit::Heap::is_shared(address) ? 0 : kit::real_mlock(address, bytes);
}
int munlock(const void* address, std::size_t bytes) noexcept {
  return kit::program_calls() && kit::Heap::is_shared(address) ? 0 : kit::real_munlock(address, bytes);
}
void* mremap(void* address, std::size_t now, std::size_t bytes, int flags, ...) noexcept {
  va_list rest;
  va_start(rest, flags);
  void* const wanted = (flags & MREMAP_FIXED) != 0 ? va_arg(rest, void*) : nullptr;
  va_end(rest);
  if (!kit::program_calls() || !kit::Heap::is_shared(address)) {
    using Function = void* (*)(void*, std::size_t, std::size_t, int, ...);
    static const auto function = reinterpret_cast<Function>(kit::find_real("mremap"));
    return function(address, now, bytes, flags, wanted);
  }
  if (bytes <= now) return address;
  if ((flags & MREMAP_MAYMOVE) == 0 || wanted != nullptr) return kit::fail(ENOMEM);
  std::byte* const larger = kit::allocate(bytes);
  if (larger == nullptr) return kit::fail(ENOMEM);
  std::memcpy(larger, address, now);
  munmap(address, now);
  return larger;
}

}  // extern "C"
