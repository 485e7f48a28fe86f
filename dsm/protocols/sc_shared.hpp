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

/// Writes this node's frames of the message's units over those at `to` and then sends it; it arrives when the bytes are there (nic.hpp, invariant 2).
/// Returns at once. The frames must stay as they are until the message has arrived, unless the receiver makes no use
/// of them (ivy.cpp, invariant 8). If a page was evicted, a task brings it in first.
void push_pages(ProtocolEnv& env, NodeId to, const Message& message, std::span<const std::byte> more = {});

/// A message that leaves when no latch is held, and what goes behind it.
struct Outgoing {
  NodeId to;
  Message message;
  std::vector<std::byte> more;
};
/// In the order of adding; what says the same of neighbours is one message.
class Outbox {
 public:
  void add(ProtocolEnv& env, NodeId to, const Message& message);
  void add(Outgoing outgoing) { all_.push_back(std::move(outgoing)); }
  [[nodiscard]] bool empty() const { return all_.empty(); }
  /// Sends them, pages before those that are to bring bytes (`pushes`: kWithData means that), and is empty.
  void leave(ProtocolEnv& env, bool pushes);

 private:
  std::vector<Outgoing> all_;
};

/// The latches of a message's units.
class LatchedRun {
 public:
  LatchedRun(ProtocolEnv& env, const Message& run) : env_(env), run_(run) {
    for (std::uint32_t i = 0; i <= run_.more; ++i) entry(i).latch.lock();
  }
  ~LatchedRun() {
    for (std::uint32_t i = 0; i <= run_.more; ++i) entry(i).latch.unlock();
  }
  LatchedRun(const LatchedRun&) = delete;
  LatchedRun& operator=(const LatchedRun&) = delete;

 private:
  PageEntry& entry(std::uint32_t i) { return env_.entry(PageId{run_.at(i).page}); }
  ProtocolEnv& env_;
  const Message& run_;
};

/// How many of these units, from the first on, are neighbours of which `holds` is true. It is of the first.
template <class Holds>
[[nodiscard]] std::size_t length_of_run(ProtocolEnv& env, std::span<const PageId> units, Holds&& holds) {
  std::size_t length = 1;
  while (length < units.size() && units[length].value == env.unit(units[length - 1]).end() && holds(units[length])) ++length;
  return length;
}

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

/// Pages cease to be the protocol's: no right, no word, no record.
template <class Record>
void forget(ProtocolEnv& env, PageRange pages, Pool<Record>& records) {
  for (std::uint64_t i = pages.first.value; i < pages.end(); ++i) {
    const PageId page{i};
    PageEntry& entry = env.entry(page);
    const std::scoped_lock latch(entry.latch);
    if (entry.state.load() != 0) {
      env.set_access(page, Access::none);
      entry.state.store(0);
    }
    if (entry.data == 0) continue;
    records.give(*reinterpret_cast<Record*>(entry.data));
    entry.data = 0;
  }
}

}  // namespace netvm::dsm::sc
