// malloc() and its kin, for the whole process: what a pthreads program allocates comes from shared memory; what the C library allocates for itself (the
// buffer of a FILE) and what NetVM does stays private, for the kernel and other threads use it without asking for rights.
//
// Invariants
//  1. Memory goes back where it came from: the address tells.
//  2. The C library's allocator runs on private stacks only: a page fault inside it would come back to it.
#include <dlfcn.h>
#include <link.h>
#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "apps/kit/file_area.hpp"
#include "apps/kit/heap.hpp"
#include "apps/kit/malloc.hpp"
#include "apps/kit/memory.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/thread_state.hpp"

// The C library's own, under names that nobody else has.
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void __libc_free(void* memory);
}

namespace netvm::kit {

namespace {

constexpr std::size_t kNoted =
    std::size_t{256} * 1024;  // blocks from here on have no header near most of their bytes: a table knows where they are

/// The machine code of a library.
struct Code {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  [[nodiscard]] bool contains(const void* at) const { return reinterpret_cast<std::uintptr_t>(at) - begin < end - begin; }
};
Code g_library;  // the C library
Code g_loader;
Code g_openmp;

struct Search {
  const void* inside;
  Code* found;
};

int look(dl_phdr_info* info, std::size_t, void* data) {
  const auto& search = *static_cast<Search*>(data);
  Code code{UINTPTR_MAX, 0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    code.begin = std::min<std::uintptr_t>(code.begin, info->dlpi_addr + header.p_vaddr);
    code.end = std::max<std::uintptr_t>(code.end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
  }
  if (!code.contains(search.inside)) return 0;
  *search.found = code;
  return 1;
}

bool for_program(const void* caller) {
  return t_state.program && program_calls() && !g_library.contains(caller) && !g_loader.contains(caller);
}

void* shared(std::size_t bytes, std::size_t alignment, bool zeroed, const void* code) {
  void* const memory = in_runtime([=] {
    void* const got = Heap::allocate(bytes, alignment, zeroed, code);
    if (got != nullptr && bytes >= kNoted) AllocationSites::note(got, bytes, code);
    return got;
  });
  if (memory == nullptr) errno = ENOMEM;
  return memory;
}

bool free_shared(void* memory) {
  if (Heap::usable(memory) >= kNoted) AllocationSites::forget(memory);
  return Heap::free(memory);
}

[[noreturn]] void bad_pointer(const char* call, const void* memory) {
  misuse(call, fmt::format("no block of malloc() begins at {} (freed twice, or a pointer into the middle?)", fmt::ptr(memory)));
}

void* resize_shared(void* memory, std::size_t bytes, const void* code) {
  const std::size_t now = in_runtime([=] { return Heap::usable(memory); });
  if (now == 0) bad_pointer("realloc()", memory);
  if (bytes <= now && bytes >= now / 2) return memory;
  void* const bigger = shared(bytes, 16, false, code);
  if (bigger == nullptr) return nullptr;
  std::memcpy(bigger, memory, std::min(now, bytes));
  if (!in_runtime([=] { return free_shared(memory); })) bad_pointer("realloc()", memory);
  return bigger;
}

bool is_power_of_two(std::size_t n) { return n != 0 && (n & (n - 1)) == 0; }

}  // namespace

void find_private_callers() {
  Search library{reinterpret_cast<const void*>(&__libc_malloc), &g_library};
  ::dl_iterate_phdr(&look, &library);
  Search loader{::dlsym(RTLD_DEFAULT, "_r_debug"), &g_loader};
  if (loader.inside != nullptr) ::dl_iterate_phdr(&look, &loader);
  Search openmp{::dlsym(RTLD_DEFAULT, "GOMP_parallel"), &g_openmp};
  if (openmp.inside != nullptr) ::dl_iterate_phdr(&look, &openmp);
}

bool is_openmp(const void* caller) { return g_openmp.contains(caller); }

void* allocate_for_program(std::size_t bytes) {
  return t_state.program && program_calls() ? shared(bytes, 16, false, __builtin_return_address(0))
                                            : privately([=] { return __libc_malloc(bytes); });
}

}  // namespace netvm::kit

using netvm::kit::FileArea;
using netvm::kit::for_program;
using netvm::kit::Heap;
using netvm::kit::in_runtime;
using netvm::kit::privately;

extern "C" {

void* malloc(std::size_t bytes) noexcept {
  const void* const code = __builtin_return_address(0);
  if (for_program(code)) return netvm::kit::shared(bytes, 16, false, code);
  if (netvm::kit::t_state.opening != 0) [[unlikely]] {
    if (void* const file = privately([=] { return FileArea::take(bytes); }); file != nullptr) return file;
  }
  return privately([=] { return __libc_malloc(bytes); });
}

void* calloc(std::size_t count, std::size_t bytes) noexcept {
  if (!for_program(__builtin_return_address(0))) return privately([=] { return __libc_calloc(count, bytes); });
  if (bytes != 0 && count > SIZE_MAX / 2 / bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  return netvm::kit::shared(count * bytes, 16, true, __builtin_return_address(0));
}

void free(void* memory) noexcept {
  if (memory == nullptr) return;
  if (Heap::is_shared(memory)) {
    if (!in_runtime([=] { return netvm::kit::free_shared(memory); })) netvm::kit::bad_pointer("free()", memory);
    return;
  }
  static_cast<void>(privately([=] {
    if (!FileArea::give_back(memory)) __libc_free(memory);
    return 0;
  }));
}

void* realloc(void* memory, std::size_t bytes) noexcept {
  const bool ours = memory == nullptr ? for_program(__builtin_return_address(0)) : Heap::is_shared(memory);
  if (!ours && FileArea::contains(memory)) {  // something small that the C library made while it opened a file
    void* const other = malloc(bytes);
    if (other != nullptr) std::memcpy(other, memory, std::min(bytes, FileArea::kCell));
    if (other != nullptr) free(memory);
    return other;
  }
  if (!ours) return privately([=] { return __libc_realloc(memory, bytes); });
  if (memory == nullptr) return netvm::kit::shared(bytes, 16, false, __builtin_return_address(0));
  if (bytes != 0) return netvm::kit::resize_shared(memory, bytes, __builtin_return_address(0));
  free(memory);
  return nullptr;
}

void* reallocarray(void* memory, std::size_t count, std::size_t bytes) noexcept {
  if (bytes == 0 || count <= SIZE_MAX / 2 / bytes) return realloc(memory, count * bytes);
  errno = ENOMEM;
  return nullptr;
}

void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  if (!for_program(__builtin_return_address(0))) return privately([=] { return __libc_memalign(alignment, bytes); });
  if (netvm::kit::is_power_of_two(alignment)) return netvm::kit::shared(bytes, alignment, false, __builtin_return_address(0));
  errno = EINVAL;
  return nullptr;
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept { return memalign(alignment, bytes); }
void* valloc(std::size_t bytes) noexcept { return memalign(netvm::kPageSize, bytes); }
void* pvalloc(std::size_t bytes) noexcept {
  return memalign(netvm::kPageSize, (bytes + netvm::kPageSize - 1) / netvm::kPageSize * netvm::kPageSize);
}
int posix_memalign(void** to, std::size_t alignment, std::size_t bytes) noexcept {
  if (!netvm::kit::is_power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int error = errno;
  void* const memory = memalign(alignment, bytes);
  errno = error;
  if (memory == nullptr) return ENOMEM;
  *to = memory;
  return 0;
}

std::size_t malloc_usable_size(void* memory) noexcept {
  if (Heap::is_shared(memory)) return in_runtime([=] { return Heap::usable(memory); });
  static auto* const theirs = reinterpret_cast<std::size_t (*)(void*)>(::dlsym(RTLD_NEXT, "malloc_usable_size"));
  return theirs(memory);
}

}  // extern "C"
