#include "apps/kit/atomic_code.hpp"

#include <link.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include "apps/kit/symbols.hpp"
#include "apps/kit/x86_instruction.hpp"

namespace netvm::kit {

namespace {

using Code = std::span<const std::uint8_t>;

struct Step {
  std::size_t length = 0;
  bool atomic = false;
};

#if defined(__x86_64__)
Step look_at(Code code) {
  const X86Instruction instruction = decode_x86(code);
  return {instruction.length, instruction.atomic};
}
#elif defined(__aarch64__)
// Store exclusive; compare and swap; the other atomics of Armv8.1.
Step look_at(Code code) {
  std::uint32_t word = 0;
  if (code.size() < sizeof word) return {code.size(), false};
  std::memcpy(&word, code.data(), sizeof word);
  return {sizeof word, (word & 0x3fe0'0000) == 0x0800'0000 || (word & 0x3fa0'7c00) == 0x08a0'7c00 || (word & 0x3b20'0c00) == 0x3820'0000};
}
#endif

int search(dl_phdr_info* info, std::size_t, void* data) {
  auto& found = *static_cast<std::uintptr_t*>(data);
  for (int i = 0; i < info->dlpi_phnum && found == 0; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(info->dlpi_addr + header.p_vaddr);
    for (Code code(begin, header.p_filesz); !code.empty() && found == 0;) {
      const Step step = look_at(code);
      if (step.atomic) found = reinterpret_cast<std::uintptr_t>(code.data());
      code = code.subspan(std::min(step.length, code.size()));
    }
  }
  return 1;  // the program itself comes first
}

}  // namespace

std::uintptr_t find_atomic_instruction() {
  std::uintptr_t found = 0;
  ::dl_iterate_phdr(&search, &found);
  return found;
}

std::string warning_about_atomics(const std::string& protocol) {
  const std::uintptr_t at = find_atomic_instruction();
  if (at == 0) return {};
  std::array<char, 128> name{};
  const std::string where = name_of_function(at, name) ? fmt::format("in {}", name.data()) : fmt::format("at {:#x}", at);
  return fmt::format(
      "the program has atomic instructions ({}). Under protocol {} they are atomic between threads of one node only, and others may never "
      "see what they "
      "write. If threads of different nodes use them together, leave --protocol out, or choose sc-directory",
      where, protocol);
}

}  // namespace netvm::kit
