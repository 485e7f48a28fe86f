// The userfaultfd trap: the application view is registered for missing, minor and write-protect faults, and SIGBUS tells of them.
//
// Invariants
//  1. none: no page table entry. read: an entry with the write-protect mark. write: an entry without it.
//  2. MISSING is registered beside MINOR|WP: without it an access to a frame that does not exist silently reads zeros.
//  3. The view is never populated by the kernel on its own: every entry comes from UFFDIO_CONTINUE.
//
// No mapping is ever split, so the number of pages with different rights is not limited by vm.max_map_count.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "runtime/check.hpp"
#include "runtime/trap.hpp"
#include "runtime/userfaultfd.hpp"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace netvm {
namespace {

uffdio_range range_of(const std::byte* base, std::uint64_t bytes) { return {reinterpret_cast<std::uintptr_t>(base), bytes}; }

class UserfaultfdTrap final : public TrapMechanism {
 public:
  UserfaultfdTrap(const AppView& view, UniqueFd fd) : TrapMechanism(view), fd_(std::move(fd)) {}

  bool cover(const AppWindow& window, std::string* why) override {
    return register_with_userfaultfd(fd_.get(), window.page(window.pages.first), window.bytes(), kTrapModes, why);
  }

  void restore(PageId page, Access have) override { map({page, 1}, have); }

  [[nodiscard]] bool reports_fault(const TrapSignal& signal) const override { return signal.number == SIGBUS && signal.code == BUS_ADRERR; }

  // Registered pages raise SIGBUS, which debuggers and users do not read as a wild pointer; a protected page raises SIGSEGV.
  bool expose(PageId page) override { return ::mprotect(view().page(page), kPageSize, PROT_NONE) == 0; }
  void conceal(PageId page) override { (void)::mprotect(view().page(page), kPageSize, PROT_READ | PROT_WRITE); }

 private:
  void apply_to_piece(PageRange pages, Access from, Access to) override {
    if (to == Access::none) {
      drop(pages);
    } else if (from == Access::none) {
      map(pages, to);
    } else {
      write_protect(pages, to == Access::read);
    }
  }

  // Enters frames into the page table. A page that is mapped already (EEXIST) only gets its write-protect mark set right.
  void map(PageRange pages, Access to) {
    PageId next = pages.first;
    while (next.value < pages.end()) {
      uffdio_continue request{};
      request.range = range_of(view().page(next), (pages.end() - next.value) * kPageSize);
      request.mode = to == Access::read ? kContinueWriteProtected : 0;
      if (::ioctl(fd_.get(), UFFDIO_CONTINUE, &request) == 0) return;
      if (request.mapped > 0) {
        next.value += static_cast<std::uint64_t>(request.mapped) / kPageSize;  // part of the range is done
      } else if (errno == EEXIST) {
        write_protect({next, 1}, to == Access::read);
        ++next.value;
      } else {
        NETVM_CHECK(errno == EAGAIN || errno == EINTR, "UFFDIO_CONTINUE of page %llu (%llu pages wanted): %s",
                    static_cast<unsigned long long>(next.value), static_cast<unsigned long long>(pages.end() - next.value),
                    strerrordesc_np(errno));
      }
    }
  }

  void write_protect(PageRange pages, bool on) {
    uffdio_writeprotect request{};
    request.range = range_of(view().page(pages.first), pages.count * kPageSize);
    request.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
    while (::ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) != 0) {
      NETVM_CHECK(errno == EAGAIN || errno == EINTR, "UFFDIO_WRITEPROTECT of %llu pages at page %llu: %s",
                  static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages.first.value), strerrordesc_np(errno));
    }
  }

  void drop(PageRange pages) {
    while (::madvise(view().page(pages.first), pages.count * kPageSize, MADV_DONTNEED) != 0) {
      NETVM_CHECK(errno == EAGAIN || errno == EINTR,
                  "madvise(MADV_DONTNEED) of %llu pages at page %llu: %s (shared memory cannot be locked with mlock or mlockall)",
                  static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages.first.value), strerrordesc_np(errno));
    }
  }

  UniqueFd fd_;
};

std::string refusal(const char* step) {
  return std::string("userfaultfd: ") + step + " failed: " + std::strerror(errno) + "; this is " + kernel_release();
}

}  // namespace

UniqueFd open_sigbus_userfaultfd(std::uint64_t features, std::string* why) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  if (!fd) {
    const int error = errno;
    *why = refusal("opening it");
    if (error == EPERM) *why += " (a seccomp profile or container forbids the system call)";
    if (error == ENOSYS) *why += " (built without CONFIG_USERFAULTFD)";
    return {};
  }
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  if (::ioctl(fd.get(), UFFDIO_API, &api) == 0) return fd;
  *why = features == kTrapFeatures
             ? "userfaultfd lacks SIGBUS mode, or minor or write-protect faults on shared memory; NetVM needs Linux 6.4, this is "
             : "userfaultfd lacks SIGBUS mode for shared memory; this is ";
  *why += kernel_release();
  return {};
}

bool register_with_userfaultfd(int fd, std::byte* base, std::uint64_t bytes, std::uint64_t modes, std::string* why) {
  uffdio_register request{};
  request.range = range_of(base, bytes);
  request.mode = modes;
  if (::ioctl(fd, UFFDIO_REGISTER, &request) == 0) return true;
  *why = refusal("registering shared memory");
  return false;
}

std::unique_ptr<TrapMechanism> make_userfaultfd_trap(const AppView& view, std::string* why) {
  UniqueFd fd = open_sigbus_userfaultfd(kTrapFeatures, why);
  if (!fd || !register_with_userfaultfd(fd.get(), view.base, view.bytes, kTrapModes, why)) return nullptr;
  return std::make_unique<UserfaultfdTrap>(view, std::move(fd));
}

TrapProbe probe_userfaultfd() {
  TrialMemory memory(2 * kPageSize, PROT_READ | PROT_WRITE);
  if (!memory.valid()) return {false, refusal("mapping two pages of a memfd")};
  std::string why;
  const UniqueFd fd = open_sigbus_userfaultfd(kTrapFeatures, &why);
  if (!fd) return {false, why};
  TrapProbe probe;
  if (register_with_userfaultfd(fd.get(), memory.app, memory.bytes, kTrapModes, &probe.reason)) {
    memory.frames[0] = std::byte{0x5a};  // both frames exist before they are entered
    memory.frames[kPageSize] = std::byte{0xa5};
    uffdio_continue request{};
    request.range = range_of(memory.app, memory.bytes);
    request.mode = kContinueWriteProtected;
    uffdio_writeprotect unprotect{};
    unprotect.range = range_of(memory.app, kPageSize);
    if (::ioctl(fd.get(), UFFDIO_CONTINUE, &request) != 0) {
      probe.reason = "userfaultfd needs Linux 6.4 for UFFDIO_CONTINUE_MODE_WP; this is " + kernel_release();
    } else if (::ioctl(fd.get(), UFFDIO_WRITEPROTECT, &unprotect) != 0) {
      probe.reason = refusal("lifting a write protection");
    } else {
      memory.app[0] = std::byte{0x77};  // needs the right just given, or the process would die: the ioctls promised it
      probe.usable = memory.frames[0] == std::byte{0x77} && memory.app[kPageSize] == std::byte{0xa5};
      probe.reason = probe.usable ? "userfaultfd in SIGBUS mode on " + kernel_release()
                                  : "userfaultfd gave access to other memory than was written; this is " + kernel_release();
    }
  }
  return probe;
}

}  // namespace netvm
