// ProgramImage: what of this process is the program's own data, and whether it can be shared between nodes.
//
// A program's globals lie in .data and .bss at the end of its writable segment. They can become shared memory if they fill whole pages of their own
// (the linker's read-only-after-relocation part ends on a page: -z relro -z now) and hold nothing that belongs to another library of the process:
// copy relocations put libc's stdout or environ there (-fPIC and -z nocopyreloc keep them out). netvm-cc sees to all of it.
#pragma once

#include <cstdint>
#include <string>

namespace netvm::kit {

struct ProgramImage {
  std::uintptr_t data_begin = 0;  ///< whole pages; equal to data_end: there is none
  std::uintptr_t data_end = 0;
  std::uint64_t libraries = 0;      ///< a digest of where the other libraries lie
  std::string obstacle = {};        ///< why the data cannot be shared; empty: it can
  std::string foreign_symbol = {};  ///< something of another library that initialised data points to; empty: nothing

  [[nodiscard]] std::size_t bytes() const { return data_end - data_begin; }
  [[nodiscard]] bool contains(const void* at) const {
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    return address >= data_begin && address < data_end;
  }
  static ProgramImage of_this_process();
  /// Whether the program itself calls what creates threads (pthread_create, thrd_create, std::thread), and no CREATE of the macros.
  static bool creates_threads();
};

}  // namespace netvm::kit
