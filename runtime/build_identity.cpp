#include "runtime/build_identity.hpp"

#include <fmt/format.h>
#include <limits.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <span>

#include "runtime/job_wire.hpp"

namespace netvm {
namespace {

/// The build id among the notes of one segment; empty if it is not there.
std::string build_id_of(std::span<const std::byte> notes) {
  const auto padded = [](std::size_t n) { return (n + 3) & ~std::size_t{3}; };
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes.data(), sizeof note);
    notes = notes.subspan(sizeof note);
    const std::size_t name = padded(note.n_namesz);
    const std::size_t description = padded(note.n_descsz);
    if (name > notes.size() || description > notes.size() - name) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(notes.data(), "GNU", 4) == 0) {
      return job::to_hex(notes.subspan(name, note.n_descsz));
    }
    notes = notes.subspan(name + description);
  }
  return {};
}

int look_at_object(dl_phdr_info* info, std::size_t, void* out) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* start = reinterpret_cast<const std::byte*>(info->dlpi_addr + segment.p_vaddr);
    const std::string id = build_id_of({start, segment.p_memsz});
    if (!id.empty()) {
      *static_cast<std::string*>(out) = id;
      break;
    }
  }
  return 1;  // the first object is the executable; the others do not matter
}

}  // namespace

std::string build_identity() {
  std::string id;
  ::dl_iterate_phdr(look_at_object, &id);
  if (!id.empty()) return id;
  struct stat file {};
  if (::stat("/proc/self/exe", &file) != 0) return "unknown";
  return fmt::format("{} bytes of {}.{:09}", file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec);
}

std::string executable_path() {
  std::array<char, PATH_MAX> path;
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "?";
}

}  // namespace netvm
