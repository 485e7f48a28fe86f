// Names of the program's global variables and functions, from the symbol table of its executable (which is there unless it was stripped).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace netvm::kit {

/// Writes the name of the variable that lies at the address, "done" or "table+0x18". False: none is known. Async-signal-safe.
bool name_of_global(std::uintptr_t address, std::span<char> name);
/// The same of a function.
bool name_of_function(std::uintptr_t address, std::span<char> name);

}  // namespace netvm::kit
