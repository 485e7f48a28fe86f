// AllocationSites: where in the program each piece of shared memory was allocated, for messages about crashes.
//
// Each node notes its own allocations in its symmetric memory, which the others read with a get: noting costs a few stores, and asking needs nobody's help.
// When the table is full the oldest are forgotten.
// Threads: any; find() also in a signal handler.
#pragma once

#include <cstdint>
#include <optional>

#include "dsm/api/job_runtime.hpp"

namespace netvm::kit {

struct AllocationSite {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  ///< 0: freed, or no entry
  std::int32_t line = 0;
  std::int32_t node = 0;   ///< that allocated it
  std::uint32_t code = 0;  ///< of malloc(): where it was called, and no file
  char file[36] = {};
};
static_assert(sizeof(AllocationSite) == 64);

class AllocationSites {
 public:
  /// Collective.
  static void open(detail::Runtime& runtime);
  static void note(std::uint64_t offset, std::uint64_t bytes, const char* file, int line);
  static void forget(std::uint64_t offset);
  /// The same for blocks of malloc(); `code` is what called it.
  static void note(const void* memory, std::uint64_t bytes, const void* code);
  static void forget(const void* memory);
  /// The allocation that holds the byte, or else the one that ends before it next. Asks all nodes.
  static std::optional<AllocationSite> find(detail::Runtime& runtime, std::uint64_t offset);
};

}  // namespace netvm::kit
