#include "apps/kit/symbols.hpp"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "runtime/unique_fd.hpp"

namespace netvm::kit {

namespace {

/// The executable's file, mapped.
class Executable {
 public:
  Executable() {
    const UniqueFd fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    struct stat facts {};
    if (!fd || ::fstat(fd.get(), &facts) != 0) return;
    void* const at = ::mmap(nullptr, static_cast<std::size_t>(facts.st_size), PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (at == MAP_FAILED) return;
    base_ = static_cast<const std::byte*>(at);
    bytes_ = static_cast<std::size_t>(facts.st_size);
  }
  ~Executable() {
    if (base_ != nullptr) ::munmap(const_cast<std::byte*>(base_), bytes_);
  }
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  /// Null unless that many things lie inside the file.
  template <class T>
  [[nodiscard]] const T* at(std::uint64_t offset, std::uint64_t count = 1) const {
    if (base_ == nullptr || offset > bytes_ || count > (bytes_ - offset) / sizeof(T)) return nullptr;
    return reinterpret_cast<const T*>(base_ + offset);
  }

 private:
  const std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
};

bool name_of(std::uintptr_t address, unsigned type, std::span<char> name) {
  const Executable file;
  const auto* const header = file.at<ElfW(Ehdr)>(0);
  const auto* const sections = header != nullptr ? file.at<ElfW(Shdr)>(header->e_shoff, header->e_shnum) : nullptr;
  if (sections == nullptr) return false;
  for (std::size_t i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_link >= header->e_shnum) continue;
    const std::uint64_t count = sections[i].sh_size / sizeof(ElfW(Sym));
    const auto* const symbols = file.at<ElfW(Sym)>(sections[i].sh_offset, count);
    const ElfW(Shdr)& strings = sections[sections[i].sh_link];
    if (symbols == nullptr || file.at<char>(strings.sh_offset, strings.sh_size) == nullptr) return false;
    for (std::uint64_t s = 0; s < count; ++s) {
      const ElfW(Sym)& symbol = symbols[s];
      if (ELF64_ST_TYPE(symbol.st_info) != type || address - symbol.st_value >= symbol.st_size || symbol.st_name >= strings.sh_size)
        continue;
      const char* const text = file.at<char>(strings.sh_offset + symbol.st_name);
      const std::uintptr_t into = address - symbol.st_value;
      const char* const format = into == 0 ? "%s" : "%s+0x%llx";
      (void)std::snprintf(name.data(), name.size(), format, text, static_cast<unsigned long long>(into));
      return true;
    }
  }
  return false;
}

}  // namespace

bool name_of_global(std::uintptr_t address, std::span<char> name) { return name_of(address, STT_OBJECT, name); }
bool name_of_function(std::uintptr_t address, std::span<char> name) { return name_of(address, STT_FUNC, name); }

}  // namespace netvm::kit
