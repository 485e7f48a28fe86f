// PageTable: what one node knows of each shared page. Sparse: entries of pages that nobody met cost no memory and read as zeros.
//
// Of a coherence unit of several pages (extent.hpp) the entry of the head counts: lock, latch, access, home, twin and the protocol's words. The entries
// of the others say only, once attached, whose they are and where their head is.
//
// Invariants
//  1. An entry of zeros is a page of nobody: no protocol, home unknown, no access, no twin, protocol state 0.
//  2. `lock` (long) is held by the faulting thread from the fault until the right is given, by a release while it flushes and by an
//     acquire while it invalidates. Its holder may block. Message handlers never take it. Several are taken in ascending order.
//  3. `latch` (short) guards what message handlers change as well; its holder never blocks. Order: lock, then latch.
//  4. access() of a page changes only through ProtocolEnv::set_access(), calls for one page serialised: by the long lock in protocols
//     whose handlers leave rights alone, else by the latch.
//  5. The protocol's words (state, data) and home may be used by message handlers before the page is attached here: another node may
//     meet an allocation first. attach() leaves them alone; detach() makes the entry zeros.
// Threads: any. Fields say who may touch them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "runtime/check.hpp"
#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"

namespace netvm::dsm {

/// A mutex in four bytes, for holders that block on the network. Not recursive. Spins for env.spin_budget(), then parks.
class PageLock {
 public:
  void lock(Env& env) {
    std::uint32_t free = 0;
    if (!state_.compare_exchange_strong(free, 1, std::memory_order_acquire)) lock_slow(env);  // acquire: partner is unlock()'s exchange
  }
  [[nodiscard]] bool try_lock() {
    std::uint32_t free = 0;
    return state_.compare_exchange_strong(free, 1, std::memory_order_acquire);  // acquire: partner is unlock()'s exchange
  }
  void unlock(Env& env) {
    if (state_.exchange(0, std::memory_order_release) == 2) env.wake(state_, 1);  // release: partner is lock()'s acquire
  }

 private:
  void lock_slow(Env& env);
  std::atomic<std::uint32_t> state_{0};  // 0 free, 1 held, 2 held and somebody may be parked
};

/// One page, as this node sees it.
class PageEntry {
 public:
  PageLock lock;   ///< long: invariant 2
  SpinLock latch;  ///< short: invariant 3

 private:
  std::atomic<std::uint8_t> access_{0};
  std::atomic<std::uint8_t> protocol_{0};  // number + 1
  std::atomic<std::uint8_t> unit_shift_{0};

 public:
  /// For the protocol; 0 at first. Values belong to the protocol alone.
  std::atomic<std::uint64_t> state{0};
  /// `state` as flags, where the protocol keeps such; under the lock that it says.
  [[nodiscard]] bool has_flag(std::uint64_t flags) const {
    return (state.load(std::memory_order_relaxed) & flags) != 0;  // relaxed: that lock orders it
  }
  void set_flag(std::uint64_t flags) { state.fetch_or(flags, std::memory_order_relaxed); }      // relaxed: that lock orders it
  void clear_flag(std::uint64_t flags) { state.fetch_and(~flags, std::memory_order_relaxed); }  // relaxed: that lock orders it
  /// Of protocols with twins: written since the last release (or the last diff), and on a list of such (dirty_pages.hpp). Of other protocols' pages
  /// the bit is part of a word of theirs.
  static constexpr std::uint64_t kDirty = 1;
  [[nodiscard]] bool is_dirty() const { return has_flag(kDirty); }

  /// For the protocol; 0 at first. Guarded as the protocol likes.
  std::uint64_t data = 0;
  /// Copy of the coherence unit as it was before this node wrote; null if there is none. Made and dropped by ProtocolEnv, under the long lock.
  std::byte* twin = nullptr;

  /// The application's right to the page.
  [[nodiscard]] Access access() const {
    return static_cast<Access>(access_.load(std::memory_order_relaxed));  // relaxed: the lock or latch of invariant 4 orders it
  }
  /// Whether an allocation owns the page and this node has met it.
  [[nodiscard]] bool attached() const { return protocol_.load(std::memory_order_acquire) != 0; }  // acquire: partner is attach()'s release
  /// Whether nothing is noted here: no allocation, no home, no word of a protocol.
  [[nodiscard]] bool untouched() const;
  /// Index into protocols(). Requires attached().
  [[nodiscard]] unsigned protocol() const {
    return protocol_.load(std::memory_order_acquire) - 1U;  // acquire: partner is attach()'s release
  }
  /// Which allocation region: index for ProtocolEnv::count(). Requires attached().
  [[nodiscard]] std::uint32_t region() const { return region_; }
  /// log2 of the pages of the coherence unit that the page lies in; 0 until attached() was seen true. A message handler may ask before that.
  [[nodiscard]] std::uint8_t unit_shift() const {
    return unit_shift_.load(std::memory_order_relaxed);  // relaxed: attached() has acquired it, else any value does
  }
  [[nodiscard]] std::uint64_t unit_pages() const { return std::uint64_t{1} << unit_shift(); }

  [[nodiscard]] bool home_known() const { return home_.load(std::memory_order_relaxed) != 0; }  // relaxed: the value alone matters
  /// Requires home_known().
  [[nodiscard]] NodeId home() const { return NodeId{home_.load(std::memory_order_relaxed) - 1}; }  // relaxed: the value alone matters
  void learn_home(NodeId home) { home_.store(home.value + 1, std::memory_order_relaxed); }         // relaxed: the value alone matters

 private:
  friend class PageTable;
  friend class ProtocolEnv;
  void clear();  // under both locks, which stay

  std::uint32_t region_ = 0;
  std::atomic<std::uint32_t> home_{0};  // node + 1
};

/// How many latches a release or an acquire holds at once.
inline constexpr std::size_t kMostLatches = 64;

/// Holds a page's long lock for a scope.
class PageGuard {
 public:
  PageGuard(Env& env, PageEntry& entry) : env_(env), entry_(entry) { entry_.lock.lock(env_); }
  ~PageGuard() { entry_.lock.unlock(env_); }
  PageGuard(const PageGuard&) = delete;
  PageGuard& operator=(const PageGuard&) = delete;

 private:
  Env& env_;
  PageEntry& entry_;
};

class PageTable {
 public:
  /// Holds the latches of pages, which ascend, for a scope. `page_of`: which page an item means.
  template <class Items, class PageOf = std::identity>
  class Latched {
   public:
    Latched(PageTable& table, const Items& items, PageOf page_of = {}) : table_(table), items_(items), page_of_(page_of) {
      for (const auto& item : items_) table_[std::invoke(page_of_, item)].latch.lock();
    }
    ~Latched() {
      for (const auto& item : items_) table_[std::invoke(page_of_, item)].latch.unlock();
    }
    Latched(const Latched&) = delete;
    Latched& operator=(const Latched&) = delete;

   private:
    PageTable& table_;
    const Items& items_;
    PageOf page_of_;
  };

  explicit PageTable(PageRange pages);
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  [[nodiscard]] PageRange range() const { return pages_; }
  [[nodiscard]] bool contains(PageId page) const { return pages_.contains(page); }

  /// Requires contains(page).
  [[nodiscard]] PageEntry& operator[](PageId page) {
    NETVM_CHECK(contains(page), "page %llu is no shared page", static_cast<unsigned long long>(page.value));
    return entries_[page.value - pages_.first.value];
  }

  /// The pages belong to a protocol and a region from now on. Idempotent. The caller tells the protocol (Protocol::on_attach).
  void attach(PageRange pages, unsigned protocol, std::uint32_t region, std::uint8_t unit_shift = 0);
  /// The pages belong to nobody: their entries become zeros, but for the locks. Access must be none, twins dropped. Blocks while somebody holds the long
  /// lock of one of them: who follows an old note (a list of pages to look at again) takes it to find that the page is no longer his.
  void detach(Env& env, PageRange pages);

 private:
  PageRange pages_;
  SparseArray<PageEntry> entries_;
};

}  // namespace netvm::dsm
