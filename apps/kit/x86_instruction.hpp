// How long an x86-64 instruction is, and whether it is atomic: enough to walk through machine code. Intel's manual, volume 2, appendix A.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace netvm::kit {

struct X86Instruction {
  std::size_t length = 1;  ///< 1, too, for what is no instruction
  bool atomic = false;     ///< with a lock prefix, or an exchange with memory
};

/// The instruction at the start of the bytes; at the end of the bytes it may be cut.
X86Instruction decode_x86(std::span<const std::uint8_t> bytes);

}  // namespace netvm::kit
