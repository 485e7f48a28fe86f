// What sc-fixed, sc-dynamic and sc-directory share beside their messages: the state word, the hold-off, the way bytes travel, and where the
// records of pages come from.
//
// The hold-off is what makes every access run in the end. A right that was just given may be wanted elsewhere before the access that faulted has run
// once. So a right is kept for a while; the more often it was lost early, the longer (64 us at most), and by a random part of that, so
// that two nodes that each want two pages do not keep in step. (The time window of Mirage: Fleisch, Popek, SOSP 1989.)
// Threads: a page's latch guards its state word's changes and its record.
#pragma once

#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "dsm/protocol_env.hpp"
#include "dsm/protocols/sc_messages.hpp"

namespace netvm::dsm::sc {

inline constexpr NodeId kNobody{UINT32_MAX};

/// For messages of checks.
[[nodiscard]] inline unsigned long long number(PageId page) { return page.value; }

inline Copy load(const PageEntry& entry) {
  return Copy::unpack(entry.state.load(std::memory_order_acquire));  // acquire: partner is store()'s release, for the waiting thread
}
inline void store(PageEntry& entry, const Copy& copy) {
  entry.state.store(copy.pack(), std::memory_order_release);  // release: partner is load()'s acquire
}

/// A right that lasted less may not have been used once: the way back from a signal handler takes 1 to 2 us.
inline constexpr Nanos kQuick = 4'000;

/// Until when the copy's right is to be kept (for at least a random time up to `least`); 0 if it may be taken away now.
[[nodiscard]] Nanos kept_until(const Copy& copy, Nanos least, Env& env);
/// The right is being taken away.
void note_loss(Copy& copy, Nanos now);

/// Writes this node's frame of the page over the one at `to` and then sends the message, which arrives when the bytes are there (nic.hpp, invariant 2).
/// Returns at once. The frame must stay as it is until the message has arrived, unless the receiver makes no use
/// of it (ivy.cpp, invariant 8). If the page was evicted, a task brings it in first.
void push_page(ProtocolEnv& env, PageId page, NodeId to, const Message& message, std::span<const std::byte> more = {});

/// Records of pages; they keep their places.
template <class Record>
class Pool {
 public:
  [[nodiscard]] Record& take() {
    const std::scoped_lock lock(lock_);
    if (unused_.empty()) return all_.emplace_back();
    Record& record = *unused_.back();
    unused_.pop_back();
    return record;
  }
  void give(Record& record) {
    record = Record{};
    const std::scoped_lock lock(lock_);
    unused_.push_back(&record);
  }

 private:
  SpinLock lock_;
  std::deque<Record> all_;
  std::vector<Record*> unused_;
};

}  // namespace netvm::dsm::sc
