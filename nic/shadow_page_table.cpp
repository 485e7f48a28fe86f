#include "nic/shadow_page_table.hpp"

#include <sched.h>

#include "runtime/check.hpp"
#include "runtime/cpu.hpp"

namespace netvm::nic {

namespace {

/// Waiting for a page lock to go: its holder copies at most a page, unless it has been preempted.
class Backoff {
 public:
  void wait() {
    if (++rounds_ % 64 == 0) {
      sched_yield();
    } else {
      cpu_pause();
    }
  }

 private:
  unsigned rounds_ = 0;
};

constexpr std::uint64_t kGenerationOne = std::uint64_t{1} << ShadowEntry::kGenerationShift;

}  // namespace

ShadowPageTable::ShadowPageTable(std::atomic<std::uint64_t>* entries, std::uint64_t pages)
    : entries_(entries), pages_(pages), mapped_once_(new std::atomic<bool>[pages / kChunk + 1]()) {}

std::uint64_t ShadowPageTable::yield_and_reload(const std::atomic<std::uint64_t>& entry) {
  sched_yield();
  return entry.load(std::memory_order_relaxed);  // relaxed: the caller's exchange decides
}

void ShadowPageTable::drain(PageRange pages) {
  NETVM_CHECK(pages.end() <= pages_, "pages %llu + %llu of a table of %llu", static_cast<unsigned long long>(pages.first.value),
              static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages_));
  for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) {
    if (!mapped_once_[page / kChunk].load(std::memory_order_relaxed)) {  // relaxed: set before the first lock in the chunk was possible
      page |= kChunk - 1;                                                // to the chunk's last page
      continue;
    }
    Backoff backoff;
    while ((entries_[page].load() & ShadowEntry::kLockMask) != 0) backoff.wait();  // seq_cst: invariant 5
  }
}

void ShadowPageTable::map(PageRange pages, bool writable) noexcept {
  NETVM_CHECK(pages.end() <= pages_, "pages %llu + %llu of a table of %llu", static_cast<unsigned long long>(pages.first.value),
              static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages_));
  const PageState state = writable ? PageState::read_write : PageState::read_only;
  for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) {
    mapped_once_[page / kChunk].store(true, std::memory_order_relaxed);  // relaxed: published by the entry's release below
    ShadowEntry next = ShadowEntry::decode(entries_[page].load());
    NETVM_CHECK(next.locks == 0 || next.state == PageState::read_only || next.state == PageState::read_write,
                "page %llu is mapped in state %u with %u locks", static_cast<unsigned long long>(page), static_cast<unsigned>(next.state),
                static_cast<unsigned>(next.locks));
    if (next.state == state) continue;  // was there already
    NETVM_CHECK(next.locks == 0, "rights of page %llu change under %u locks", static_cast<unsigned long long>(page),
                static_cast<unsigned>(next.locks));
    next.state = state;
    next.frame = static_cast<std::uint32_t>(page);                   // the page's number is its frame's: host_vm.hpp, invariant 1
    entries_[page].store(next.encode(), std::memory_order_release);  // release: the filled frame, before try_lock()'s exchange sees it
  }
}

void ShadowPageTable::on_unmap(PageRange pages) noexcept {
  NETVM_CHECK(pages.end() <= pages_, "pages %llu + %llu of a table of %llu", static_cast<unsigned long long>(pages.first.value),
              static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages_));
  // First all pages refuse new locks, then each drains: the waits overlap.
  for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) {
    if (!mapped_once_[page / kChunk].load(std::memory_order_relaxed)) {  // relaxed: written by this same host
      page |= kChunk - 1;
      continue;
    }
    std::uint64_t word = entries_[page].load();
    while (ShadowEntry::state_of(word) != PageState::invalid &&
           !entries_[page].compare_exchange_weak(word, (word & ~ShadowEntry::kStateMask) | ShadowEntry::state_bits(PageState::evicting))) {
    }
  }
  for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) {
    if (!mapped_once_[page / kChunk].load(std::memory_order_relaxed)) {  // relaxed: written by this same host
      page |= kChunk - 1;
      continue;
    }
    Backoff backoff;
    std::uint64_t word = entries_[page].load();
    if (ShadowEntry::state_of(word) == PageState::invalid) continue;
    while ((word & ShadowEntry::kLockMask) != 0) {
      backoff.wait();
      word = entries_[page].load();
    }
    // Nobody changes an EVICTING entry without locks but its host. The generation wraps in the top bits.
    entries_[page].store((word & ~ShadowEntry::kStateMask) + kGenerationOne);
  }
}

}  // namespace netvm::nic
