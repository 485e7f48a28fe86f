// The mprotect trap: rights are the protection of the application's mapping, and SIGSEGV tells of a missing one. Runs on any Linux.
//
// Invariants
//  1. The protection of each page is its right. Frames exist before protection is raised, so the kernel's own faults never fail.
//  2. Neighbours with equal rights share one mapping; alternating rights need one mapping a page, which vm.max_map_count limits.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "runtime/check.hpp"
#include "runtime/trap.hpp"

namespace netvm {
namespace {

int protection_of(Access access) {
  switch (access) {
    case Access::none:
      return PROT_NONE;
    case Access::read:
      return PROT_READ;
    case Access::write:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

// May run in a signal handler: nothing but open and read. 0 if unknown.
long map_limit() {
  const int fd = ::open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[32] = {};
  const ssize_t got = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  return got > 0 ? std::strtol(text, nullptr, 10) : 0;
}

class MprotectTrap final : public TrapMechanism {
 public:
  using TrapMechanism::TrapMechanism;

  bool cover(const AppWindow&, std::string*) override { return true; }

  // The kernel never drops protection: another thread gave the right meanwhile, or somebody took it away to see who comes.
  void restore(PageId page, Access have) override { (void)::mprotect(view().page(page), kPageSize, protection_of(have)); }

  [[nodiscard]] bool reports_fault(const TrapSignal& signal) const override {
    return signal.number == SIGSEGV && signal.code == SEGV_ACCERR;
  }

  bool expose(PageId) override { return false; }
  void conceal(PageId) override {}

 private:
  void apply_to_piece(PageRange pages, Access, Access to) override {
    if (::mprotect(view().page(pages.first), pages.count * kPageSize, protection_of(to)) == 0) return;
    const int error = errno;
    NETVM_CHECK(error != ENOMEM,
                "mprotect of page %llu needs one more memory mapping than vm.max_map_count allows (it is %ld): too many neighbouring "
                "pages have different rights. Raise it (sysctl -w vm.max_map_count=4194304) or use NETVM_TRAP=userfaultfd, which has "
                "no such limit (Linux 6.4 or later)",
                static_cast<unsigned long long>(pages.first.value), map_limit());
    NETVM_CHECK(false, "mprotect of %llu pages at page %llu: %s", static_cast<unsigned long long>(pages.count),
                static_cast<unsigned long long>(pages.first.value), strerrordesc_np(error));
  }
};

}  // namespace

std::unique_ptr<TrapMechanism> make_mprotect_trap(const AppView& view, std::string*) { return std::make_unique<MprotectTrap>(view); }

TrapProbe probe_mprotect() {
  TrialMemory memory(2 * kPageSize, PROT_NONE);
  if (!memory.valid() || ::mprotect(memory.app, kPageSize, PROT_READ | PROT_WRITE) != 0) {
    return {false, std::string("mprotect: mapping two pages of a memfd failed: ") + std::strerror(errno) + "; this is " + kernel_release()};
  }
  memory.frames[0] = std::byte{0x5a};
  if (memory.app[0] != std::byte{0x5a}) return {false, "mprotect: two mappings of one memfd differ; this is " + kernel_release()};
  return {true, "mprotect and SIGSEGV on " + kernel_release()};
}

}  // namespace netvm
