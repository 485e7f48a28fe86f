#include "runtime/frame_check.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "runtime/check.hpp"
#include "runtime/trap.hpp"
#include "runtime/userfaultfd.hpp"

namespace netvm {
namespace {

UniqueFd watch_missing(std::byte* view, std::uint64_t bytes, std::string* why) {
  UniqueFd fd = open_sigbus_userfaultfd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM, why);
  if (fd && !register_with_userfaultfd(fd.get(), view, bytes, UFFDIO_REGISTER_MODE_MISSING, why)) return {};
  return fd;
}

}  // namespace

FrameCheck::FrameCheck(std::byte* view, const FrameWitness& witness, UniqueFd fd)
    : begin_(reinterpret_cast<std::uintptr_t>(view)), witness_(witness), fd_(std::move(fd)) {}

FrameCheck::~FrameCheck() {
  if (attached_) detach_fault_target(this);
}

Result<std::unique_ptr<FrameCheck>> FrameCheck::watch(std::byte* view, std::uint64_t bytes, const FrameWitness& witness, std::string* why) {
  UniqueFd fd = watch_missing(view, bytes, why);
  if (!fd) {
    *why = "accesses to frames cannot be checked here: " + *why;
    return Status::invalid;
  }
  std::unique_ptr<FrameCheck> check(new FrameCheck(view, witness, std::move(fd)));
  check->attached_ = attach_fault_target(check->begin_, check->begin_ + bytes, check.get());
  if (check->attached_) return check;
  *why = "this process watches " + std::to_string(kMaxFaultTargets) + " views of memory already; it cannot watch more";
  return Status::exhausted;
}

void FrameCheck::exempt(PageRange pages) {
  uffdio_range range{begin_ + pages.first.value * kPageSize, pages.count * kPageSize};
  NETVM_CHECK(::ioctl(fd_.get(), UFFDIO_UNREGISTER, &range) == 0, "UFFDIO_UNREGISTER of %llu pages at page %llu: %s",
              static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages.first.value), strerrordesc_np(errno));
}

FaultVerdict FrameCheck::on_signal(const SignalFault& fault) noexcept {
  if (fault.signal != SIGBUS || fault.code != BUS_ADRERR) return FaultVerdict::pass_on;
  const std::uint64_t offset = fault.address - begin_;
  const PageId page{offset / kPageSize};
  std::array<char, 256> known{};
  witness_.describe_frame(page, known);
  const char* const kind = fault.kind == AccessKind::unknown ? "access to" : fault.kind == AccessKind::write ? "store to" : "load from";
  constexpr bool kFrameIsThere = false;
  NETVM_CHECK(kFrameIsThere,
              "%s page %llu through the frame view, at frame offset 0x%llx: accessed without its lock, or after its eviction; %s", kind,
              static_cast<unsigned long long>(page.value), static_cast<unsigned long long>(offset), known.data());
}

TrapProbe FrameCheck::probe() {
  TrialMemory memory(2 * kPageSize, PROT_READ | PROT_WRITE);
  if (!memory.valid()) return {false, "mapping two pages of a memory file failed: " + std::string(std::strerror(errno))};
  TrapProbe probe;
  const UniqueFd fd = watch_missing(memory.frames, memory.bytes, &probe.reason);
  if (!fd) return probe;
  // A frame made through the file can be used; nothing but the signal tells of one that is not there, and a system call says it without one.
  if (::fallocate(memory.fd.get(), 0, 0, static_cast<off_t>(kPageSize)) != 0) {
    probe.reason = "fallocate() of a memory file: " + std::string(std::strerror(errno));
    return probe;
  }
  memory.frames[0] = std::byte{0x5a};
  const bool missing_fails = ::pread(memory.fd.get(), memory.frames + kPageSize, 8, 0) < 0 && errno == EFAULT;
  probe.usable = missing_fails && memory.app[0] == std::byte{0x5a};
  probe.reason = probe.usable ? "userfaultfd for missing frames on " + kernel_release()
                              : "userfaultfd does not notice a missing frame; this is " + kernel_release();
  return probe;
}

}  // namespace netvm
