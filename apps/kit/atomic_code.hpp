// Looks whether the program's machine code has atomic instructions: some protocols make them atomic between nodes, and some do not.
#pragma once

#include <cstdint>
#include <string>

namespace netvm::kit {

/// The address of the first that is found in the program itself (not in its libraries); 0: there is none. It walks from instruction to
/// instruction, so data among the code may be taken for one: good for a warning.
std::uintptr_t find_atomic_instruction();

/// What to tell the user under a protocol that is not sequentially consistent; empty: nothing.
std::string warning_about_atomics(const std::string& protocol);

}  // namespace netvm::kit
