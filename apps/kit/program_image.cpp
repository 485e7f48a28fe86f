#include "apps/kit/program_image.hpp"

#include <elf.h>
#include <link.h>

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "runtime/ids.hpp"

namespace netvm::kit {

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kCopy = R_X86_64_COPY;
constexpr std::uint32_t kAbsolute = R_X86_64_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kCopy = R_AARCH64_COPY;
constexpr std::uint32_t kAbsolute = R_AARCH64_ABS64;
#else
#error "which relocations copy data, and which are addresses, is not known for this machine"
#endif

/// What the dynamic section of the program says.
struct Dynamic {
  const ElfW(Rela) * relocations = nullptr;
  std::size_t relocation_bytes = 0;
  const ElfW(Rela) * calls = nullptr;  // relocations of the table of functions
  std::size_t call_bytes = 0;
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  bool bound_at_start = false;
  bool position_independent = false;
};

Dynamic read_dynamic(const ElfW(Dyn) * entry) {
  Dynamic dynamic;
  for (; entry->d_tag != DT_NULL; ++entry) {
    switch (entry->d_tag) {
      case DT_RELA:
        dynamic.relocations = reinterpret_cast<const ElfW(Rela)*>(entry->d_un.d_ptr);
        break;
      case DT_RELASZ:
        dynamic.relocation_bytes = entry->d_un.d_val;
        break;
      case DT_JMPREL:
        dynamic.calls = reinterpret_cast<const ElfW(Rela)*>(entry->d_un.d_ptr);
        break;
      case DT_PLTRELSZ:
        dynamic.call_bytes = entry->d_un.d_val;
        break;
      case DT_SYMTAB:
        dynamic.symbols = reinterpret_cast<const ElfW(Sym)*>(entry->d_un.d_ptr);
        break;
      case DT_STRTAB:
        dynamic.strings = reinterpret_cast<const char*>(entry->d_un.d_ptr);
        break;
      case DT_BIND_NOW:
        dynamic.bound_at_start = true;
        break;
      case DT_FLAGS:
        dynamic.bound_at_start = dynamic.bound_at_start || (entry->d_un.d_val & DF_BIND_NOW) != 0;
        break;
      case DT_FLAGS_1:
        dynamic.bound_at_start = dynamic.bound_at_start || (entry->d_un.d_val & DF_1_NOW) != 0;
        dynamic.position_independent = (entry->d_un.d_val & DF_1_PIE) != 0;
        break;
      default:
        break;
    }
  }
  return dynamic;
}

void check_relocations(const Dynamic& dynamic, ProgramImage& image) {
  for (std::size_t i = 0; i < dynamic.relocation_bytes / sizeof(ElfW(Rela)); ++i) {
    const ElfW(Rela)& relocation = dynamic.relocations[i];
    if (!image.contains(reinterpret_cast<const void*>(relocation.r_offset))) continue;
    const auto type = static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info));
    const ElfW(Sym)& symbol = dynamic.symbols[ELF64_R_SYM(relocation.r_info)];
    const char* const name = dynamic.strings + symbol.st_name;
    if (type == kCopy && image.obstacle.empty()) {
      image.obstacle =
          fmt::format("\"{}\" of another library lies among the program's own data: compile every file with netvm-cc (-fPIC)", name);
    }
    if (type == kAbsolute && symbol.st_shndx == SHN_UNDEF) image.foreign_symbol = name;
  }
}

std::uintptr_t page_up(std::uintptr_t address) { return (address + kPageSize - 1) / kPageSize * kPageSize; }

void read_program(const dl_phdr_info& info, ProgramImage& image) {
  std::uintptr_t relro_end = 0;
  const ElfW(Dyn)* dynamic_section = nullptr;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info.dlpi_phdr[i];
    const std::uintptr_t begin = info.dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_GNU_RELRO) relro_end = begin + header.p_memsz;
    if (header.p_type == PT_DYNAMIC) dynamic_section = reinterpret_cast<const ElfW(Dyn)*>(begin);
    if (header.p_type != PT_LOAD || (header.p_flags & PF_W) == 0) continue;
    image.data_begin = begin;
    image.data_end = page_up(begin + header.p_memsz);
  }
  const Dynamic dynamic = dynamic_section != nullptr ? read_dynamic(dynamic_section) : Dynamic{};
  if (dynamic_section == nullptr) {
    image.obstacle = "the program is linked statically: the C library's data would be shared, too; leave -static out";
  } else if (dynamic.position_independent || info.dlpi_addr != 0) {
    image.obstacle =
        "the program is position independent (PIE), so its data may lie elsewhere on each node: link it with netvm-cc, which says -no-pie";
  } else if (!dynamic.bound_at_start || relro_end == 0 || relro_end % kPageSize != 0 || relro_end < image.data_begin) {
    image.obstacle = "its data does not fill pages of its own: link it with netvm-cc, which says -z relro -z now";
  }
  if (image.obstacle.empty()) {
    image.data_begin = relro_end;
    check_relocations(dynamic, image);
  }
}

struct Search {
  ProgramImage image;
  bool first = true;  // the program itself comes first
};

int visit(dl_phdr_info* info, std::size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  if (search.first) {
    read_program(*info, search.image);
  } else if (info->dlpi_name != nullptr && info->dlpi_name[0] == '/') {  // not the kernel's own page, which nobody points to
    search.image.libraries = (search.image.libraries ^ info->dlpi_addr) * 0x9e37'79b9'7f4a'7c15ULL;
  }
  search.first = false;
  return 0;
}

const Dynamic& dynamic_of_program() {
  static const Dynamic dynamic = [] {
    Dynamic found;
    const auto first = [](dl_phdr_info* info, std::size_t, void* data) {
      for (int i = 0; i < info->dlpi_phnum; ++i) {
        if (info->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
        *static_cast<Dynamic*>(data) = read_dynamic(reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
      }
      return 1;  // the program itself comes first
    };
    ::dl_iterate_phdr(first, &found);
    return found;
  }();
  return dynamic;
}

template <class Match>
bool any_import(const ElfW(Rela) * relocations, std::size_t bytes, Match&& matches) {
  const Dynamic& dynamic = dynamic_of_program();
  for (std::size_t i = 0; i < bytes / sizeof(ElfW(Rela)); ++i) {
    const std::uint64_t symbol = ELF64_R_SYM(relocations[i].r_info);
    if (symbol != 0 && matches(std::string_view(dynamic.strings + dynamic.symbols[symbol].st_name))) return true;
  }
  return false;
}

bool imports(std::initializer_list<std::string_view> prefixes) {
  const Dynamic& dynamic = dynamic_of_program();
  if (dynamic.symbols == nullptr || dynamic.strings == nullptr) return false;
  const auto matches = [prefixes](std::string_view name) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [name](std::string_view prefix) { return name.substr(0, prefix.size()) == prefix; });
  };
  return any_import(dynamic.relocations, dynamic.relocation_bytes, matches) || any_import(dynamic.calls, dynamic.call_bytes, matches);
}

}  // namespace

// A position independent program may have its tables anywhere: it is refused later, by its image.
bool ProgramImage::creates_threads() {
  return imports({"pthread_create", "thrd_create", "_ZNSt6thread15_M_start_thread"}) && !imports({"netvm_splash_create"});
}

ProgramImage ProgramImage::of_this_process() {
  Search search;
  ::dl_iterate_phdr(&visit, &search);
  return search.image;
}

}  // namespace netvm::kit
