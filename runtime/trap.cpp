// Names, probing and choice of traps.
#include "runtime/trap.hpp"

#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>

#include "runtime/file_size.hpp"
#include "runtime/sanitizers.hpp"

namespace netvm {
namespace {

#if NETVM_TSAN
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

constexpr std::array kAllTraps{TrapKind::userfaultfd, TrapKind::mprotect, TrapKind::checked};

std::string usable_traps() {
  std::string list;
  for (const TrapKind kind : kAllTraps) {
    if (!probe_trap(kind).usable) continue;
    list += (list.empty() ? "" : ", ") + std::string(to_string(kind));
  }
  return list;
}

}  // namespace

std::string_view to_string(TrapKind kind) {
  switch (kind) {
    case TrapKind::userfaultfd:
      return "userfaultfd";
    case TrapKind::mprotect:
      return "mprotect";
    case TrapKind::checked:
      return "checked";
  }
  return "unknown";
}

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? std::string(name.sysname) + " " + name.release : std::string("an unknown kernel");
}

int initial_protection(TrapKind kind) { return kind == TrapKind::userfaultfd ? PROT_READ | PROT_WRITE : PROT_NONE; }

TrapProbe probe_trap(TrapKind kind) {
  if (kind == TrapKind::checked) return {true, "checked: accessors ask before each access; no hardware is needed"};
  if (kThreadSanitizer) {
    return {false, std::string(to_string(kind)) +
                       " cannot be used in a ThreadSanitizer build, which allows neither blocking in a signal handler nor a fixed "
                       "address range; only the checked trap can"};
  }
  return kind == TrapKind::userfaultfd ? probe_userfaultfd() : probe_mprotect();
}

ResolvedTrap resolve_trap(TrapChoice choice) {
  if (choice == TrapChoice::automatic) {
    TrapProbe first = probe_trap(TrapKind::userfaultfd);
    if (first.usable) return {TrapKind::userfaultfd, std::move(first.reason)};
    TrapProbe second = probe_trap(TrapKind::mprotect);
    if (second.usable) return {TrapKind::mprotect, second.reason + " (chosen because " + first.reason + ")"};
    return {std::nullopt, "no trap that serves raw pointers can be used here: " + first.reason + "; " + second.reason};
  }
  TrapKind kind = TrapKind::checked;
  if (choice == TrapChoice::userfaultfd) kind = TrapKind::userfaultfd;
  if (choice == TrapChoice::mprotect) kind = TrapKind::mprotect;
  TrapProbe probe = probe_trap(kind);
  if (probe.usable) return {kind, std::move(probe.reason)};
  return {std::nullopt, "trap " + std::string(to_string(kind)) + " cannot be used: " + probe.reason + ". Usable here: " + usable_traps() +
                            " (NETVM_TRAP, or auto to let NetVM choose)"};
}

TrialMemory::TrialMemory(std::uint64_t size, int app_protection) : bytes(size) {
  fd.reset(::memfd_create("netvm-trial", MFD_CLOEXEC));
  std::string limit;
  if (!fd || !fits_file_size_limit("a trial", bytes, &limit) || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return;
  void* frame_view = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (frame_view == MAP_FAILED) return;
  frames = static_cast<std::byte*>(frame_view);
  void* app_view = ::mmap(nullptr, bytes, app_protection, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (app_view != MAP_FAILED) app = static_cast<std::byte*>(app_view);
}

TrialMemory::~TrialMemory() {
  if (app != nullptr) ::munmap(app, bytes);
  if (frames != nullptr) ::munmap(frames, bytes);
}

}  // namespace netvm
