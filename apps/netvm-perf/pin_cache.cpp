#include "apps/netvm-perf/pin_cache.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "runtime/settings.hpp"

namespace netvm::perf {

PinCache::PinCache(std::size_t capacity, std::size_t block_bytes)
    : block_bytes_(block_bytes), entries_(capacity), table_(std::bit_ceil(4 * capacity), kNone), mask_(table_.size() - 1) {
  shift_ = 64U - static_cast<unsigned>(std::countr_zero(table_.size()));
}

PinCache::~PinCache() {
  for (std::size_t i = 0; i < used_; ++i) ::munlock(reinterpret_cast<void*>(entries_[i].block * block_bytes_), block_bytes_);
}

void PinCache::miss(std::uintptr_t block) {
  ++misses_;
  auto entry = static_cast<std::uint32_t>(used_);
  if (used_ < entries_.size()) {
    ++used_;
  } else {
    entry = oldest_;
    ::munlock(reinterpret_cast<void*>(entries_[entry].block * block_bytes_), block_bytes_);
    erase_slot(find(entries_[entry].block));
    unlink(entry);
  }
  if (::mlock(reinterpret_cast<void*>(block * block_bytes_), block_bytes_) != 0)
    throw std::runtime_error(fmt::format("netvm-perf: mlock of {} bytes failed: {}", block_bytes_, std::strerror(errno)));
  entries_[entry].block = block;
  std::size_t slot = home_of(block);
  while (table_[slot] != kNone) slot = (slot + 1) & mask_;
  table_[slot] = entry;
  link_newest(entry);
}

void PinCache::erase_slot(std::size_t slot) {
  // What follows in the run moves up unless that would bring it before its home.
  for (std::size_t next = (slot + 1) & mask_; table_[next] != kNone; next = (next + 1) & mask_) {
    const std::size_t home = home_of(entries_[table_[next]].block);
    if (((next - home) & mask_) < ((next - slot) & mask_)) continue;
    table_[slot] = table_[next];
    slot = next;
  }
  table_[slot] = kNone;
}

void PinCache::unlink(std::uint32_t entry) {
  const Entry& e = entries_[entry];
  (e.newer != kNone ? entries_[e.newer].older : newest_) = e.older;
  (e.older != kNone ? entries_[e.older].newer : oldest_) = e.newer;
}

void PinCache::link_newest(std::uint32_t entry) {
  entries_[entry].newer = kNone;
  entries_[entry].older = newest_;
  if (newest_ != kNone) entries_[newest_].newer = entry;
  newest_ = entry;
  if (oldest_ == kNone) oldest_ = entry;
}

std::string cannot_pin(std::size_t bytes) {
  void* trial = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (trial == MAP_FAILED) return fmt::format("no memory for {} to pin", format_bytes(bytes));
  const int failed = ::mlock(trial, bytes) != 0 ? errno : 0;
  ::munmap(trial, bytes);
  if (failed == 0) return {};
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string allowed = limit.rlim_cur == RLIM_INFINITY ? "unlimited" : format_bytes(limit.rlim_cur);
  return fmt::format("{} cannot be pinned ({}; the limit is {}): raise it with ulimit -l {}", format_bytes(bytes), std::strerror(failed),
                     allowed, (bytes + (1U << 20)) >> 10);
}

}  // namespace netvm::perf
