#include "apps/netvm-perf/trap_floor.hpp"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "apps/netvm-perf/stats.hpp"
#include "runtime/trap.hpp"
#include "runtime/userfaultfd.hpp"

namespace netvm::perf {
namespace {

enum class Step { read, upgrade, write };

// What the signal handler works on: the measurement in progress.
struct Bench {
  std::byte* app = nullptr;
  std::byte* frames = nullptr;
  std::byte* other = nullptr;  // where pages are copied from or to
  std::uint64_t bytes = 0;
  int uffd = -1;  // -1: mprotect
  Step step = Step::read;
  bool copy = false;
  struct sigaction previous_segv = {};
  struct sigaction previous_bus = {};
};
Bench bench;

void enable(std::byte* page) {
  if (bench.uffd < 0) {
    if (::mprotect(page, kPageSize, bench.step == Step::read ? PROT_READ : PROT_READ | PROT_WRITE) != 0) ::_exit(99);
    return;
  }
  const uffdio_range range{reinterpret_cast<std::uintptr_t>(page), kPageSize};
  if (bench.step == Step::upgrade) {
    uffdio_writeprotect request{};
    request.range = range;
    if (::ioctl(bench.uffd, UFFDIO_WRITEPROTECT, &request) != 0) ::_exit(99);
    return;
  }
  uffdio_continue request{};
  request.range = range;
  request.mode = bench.step == Step::read ? kContinueWriteProtected : 0;
  if (::ioctl(bench.uffd, UFFDIO_CONTINUE, &request) != 0) ::_exit(99);
}

// Somebody else's fault while we measure goes where it would have gone.
void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = signal == SIGSEGV ? bench.previous_segv : bench.previous_bus;
  if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(signal, info, context);
  ::sigaction(signal, &previous, nullptr);  // the access runs again and meets it
}

void handle(int signal, siginfo_t* info, void* context) {
  auto* address = static_cast<std::byte*>(info->si_addr);
  if (address < bench.app || address >= bench.app + bench.bytes) return pass_on(signal, info, context);
  const std::size_t offset = static_cast<std::size_t>(address - bench.app) / kPageSize * kPageSize;
  if (bench.copy) {
    std::byte* const frame = bench.frames + offset;
    std::byte* const away = bench.other + offset;
    std::memcpy(bench.step == Step::upgrade ? away : frame, bench.step == Step::upgrade ? frame : away, kPageSize);
  }
  enable(bench.app + offset);
}

// The mechanism, ready to be measured; everything is as before when it goes.
class TrapBench {
 public:
  TrapBench(TrapKind kind, int pages)
      : pages_(static_cast<std::size_t>(pages)),
        memory_(pages_ * kPageSize, initial_protection(kind)),
        other_(pages_ * kPageSize, PROT_NONE) {
    if (!memory_.valid() || !other_.valid()) throw std::runtime_error("trap floor: mapping " + std::to_string(pages) + " pages failed");
    std::memset(memory_.frames, 1, memory_.bytes);
    std::memset(other_.frames, 2, other_.bytes);
    bench = {.app = memory_.app, .frames = memory_.frames, .other = other_.frames, .bytes = memory_.bytes};
    if (kind == TrapKind::userfaultfd) {
      std::string why;
      uffd_ = open_sigbus_userfaultfd(kTrapFeatures, &why);
      if (!uffd_ || !register_with_userfaultfd(uffd_.get(), memory_.app, memory_.bytes, kTrapModes, &why))
        throw std::runtime_error("trap floor: " + why);
      bench.uffd = uffd_.get();
    }
    struct sigaction action = {};
    action.sa_sigaction = &handle;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGSEGV, &action, &bench.previous_segv);
    ::sigaction(SIGBUS, &action, &bench.previous_bus);
    order_.resize(pages_);
    std::iota(order_.begin(), order_.end(), std::size_t{0});
  }
  ~TrapBench() {
    ::sigaction(SIGSEGV, &bench.previous_segv, nullptr);
    ::sigaction(SIGBUS, &bench.previous_bus, nullptr);
  }
  TrapBench(const TrapBench&) = delete;
  TrapBench& operator=(const TrapBench&) = delete;

  double fault_all(Step step, bool copy = false) {
    bench.step = step;
    bench.copy = copy;
    std::shuffle(order_.begin(), order_.end(), random_);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the handler reads what was stored above
    const auto* order = order_.data();
    return time_batch(static_cast<int>(pages_), [&](int i) {
      auto* word = reinterpret_cast<volatile std::uint64_t*>(bench.app + order[i] * kPageSize);
      if (step == Step::read) {
        (void)*word;
      } else {
        *word = 1;
      }
    });
  }

  double revoke_all() {
    std::shuffle(order_.begin(), order_.end(), random_);
    return time_batch(static_cast<int>(pages_), [&](int i) {
      std::byte* page = bench.app + order_[static_cast<std::size_t>(i)] * kPageSize;
      const int result = bench.uffd >= 0 ? ::madvise(page, kPageSize, MADV_DONTNEED) : ::mprotect(page, kPageSize, PROT_NONE);
      if (result != 0) throw std::runtime_error("trap floor: taking the rights to a page away failed");
    });
  }

  /// Of pages that may be written.
  double protect_all() {
    std::shuffle(order_.begin(), order_.end(), random_);
    return time_batch(static_cast<int>(pages_), [&](int i) {
      std::byte* page = bench.app + order_[static_cast<std::size_t>(i)] * kPageSize;
      int result = 0;
      if (bench.uffd >= 0) {
        uffdio_writeprotect request{};
        request.range = {reinterpret_cast<std::uintptr_t>(page), kPageSize};
        request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
        result = ::ioctl(bench.uffd, UFFDIO_WRITEPROTECT, &request);
      } else {
        result = ::mprotect(page, kPageSize, PROT_READ);
      }
      if (result != 0) throw std::runtime_error("trap floor: taking the right to write a page away failed");
    });
  }

 private:
  std::size_t pages_;
  TrialMemory memory_;
  TrialMemory other_;
  UniqueFd uffd_;
  std::vector<std::size_t> order_;
  std::minstd_rand random_{42};
};

}  // namespace

double time_bare_revoke(TrapKind kind, std::byte* first, std::size_t pages) {
  const std::size_t bytes = pages * kPageSize;
  const double ns = time_batch(1, [&](int) {
    const int result = kind == TrapKind::userfaultfd ? ::madvise(first, bytes, MADV_DONTNEED) : ::mprotect(first, bytes, PROT_NONE);
    if (result != 0) throw std::runtime_error("trap floor: taking the rights to a range away failed");
  });
  return ns / static_cast<double>(pages);
}

TrapFloor measure_trap_floor(TrapKind kind, int pages, int rounds) {
  TrapFloor floor;
  if (kind == TrapKind::checked) return floor;
  TrapBench session(kind, std::clamp(pages, 1, 16384));
  Series read, upgrade, write, protect, revoke, read_copy, upgrade_copy;
  // The first faults of a mapping make its page tables, and its first stores are noticed by the kernel besides.
  session.fault_all(Step::read);
  session.fault_all(Step::upgrade);
  session.revoke_all();
  for (int round = 0; round < rounds; ++round) {
    read.add(session.fault_all(Step::read));
    upgrade.add(session.fault_all(Step::upgrade));
    revoke.add(session.revoke_all());
    write.add(session.fault_all(Step::write));
    protect.add(session.protect_all());
    session.revoke_all();
    read_copy.add(session.fault_all(Step::read, true));
    upgrade_copy.add(session.fault_all(Step::upgrade, true));
    session.revoke_all();
  }
  floor.read_fault_ns = read.median();
  floor.upgrade_ns = upgrade.median();
  floor.write_fault_ns = write.median();
  floor.protect_ns = protect.median();
  floor.revoke_ns = revoke.median();
  floor.read_fault_with_copy_ns = read_copy.median();
  floor.upgrade_with_copy_ns = upgrade_copy.median();
  return floor;
}

}  // namespace netvm::perf
