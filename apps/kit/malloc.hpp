// Who gets which memory from malloc(): malloc.cpp.
#pragma once

#include <cstddef>

namespace netvm::kit {

/// Learns which code is the C library's. Before the first thread of a pthreads program.
void find_private_callers();

/// Whether that code is the OpenMP library's. Its threads wait with system calls of their own, so they stay on the node of who needs them.
bool is_openmp(const void* caller);

/// malloc() for memory that the C library hands to the program: shared where the program asks.
void* allocate_for_program(std::size_t bytes);

}  // namespace netvm::kit
