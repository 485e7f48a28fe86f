// What sc-fixed, sc-dynamic and sc-directory share beside their messages: the state word, the hold-off, the way bytes travel, and where the
// records of pages come from.
//
// The hold-off is what makes every access run in the end. A right that was just given may be wanted elsewhere before the access that faulted has run
// once. So a right is kept for a while; the more often it was lost early, the longer (64 us at most), and by a random part of that, so
// that two nodes that each want two pages do not keep in step. (The time window of Mirage: Fleisch, Popek, SOSP 1989.)
// Threads: a page's latch guards its state word's changes and its record.
#pragma once

#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "dsm/protocol_env.hpp"
#include "dsm/protocols/sc_messages.hpp"
#include "dsm/record_pool.hpp"

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
/// The right of a page that was in S, E or M has been lowered for another node's sake: the page is in S or I. Latch held.
void note_lowered(ProtocolEnv& env, PageId page, Access to);

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
  void add(Outgoing outgoing) {
    if (first_) {
      others_.push_back(std::move(outgoing));
    } else {
      first_.emplace(std::move(outgoing));
    }
  }
  /// Sends them, and is empty.
  void leave(ProtocolEnv& env);

 private:
  std::optional<Outgoing> first_;  // mostly there is one: it takes no memory from the heap
  std::vector<Outgoing> others_;
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

/// Of a run that another node wants to read: what this node alone may write, and may give up now, becomes readable with one change of rights, and the requests
/// that follow find it done. `may_give_up(entry)`: as far as the page's record goes. `least`: see kept_until(). Latches held. Returns what was given up.
template <class MayGiveUp, class Lower>
std::vector<PageId> share_together(ProtocolEnv& env, const Message& run, Nanos least, MayGiveUp&& may_give_up, Lower&& lower) {
  std::vector<PageId> given_up;
  for (std::uint32_t i = 0; i <= run.more; ++i) {
    const PageId page{run.at(i).page};
    PageEntry& entry = env.entry(page);
    const bool alone = entry.data != 0 && load(entry).phase == Phase::M && may_give_up(entry);
    if (alone && kept_until(load(entry), least, env.env()) == 0) given_up.push_back(page);
  }
  if (given_up.empty()) return given_up;
  lower(std::span<const PageId>(given_up));
  for (const PageId page : given_up) note_lowered(env, page, Access::read);
  return given_up;
}

/// Pages cease to be the protocol's: no right, no word, no record.
template <class Record>
void forget(ProtocolEnv& env, PageRange pages, RecordPool<Record>& records) {
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
