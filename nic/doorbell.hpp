// Doorbell: how a sender tells a node that something lies in one of its inbound rings. One cache line at the start of the node's
// device memory, shared by all processes of a host; all zeros is the valid start.
//
// Invariants
//  1. A source's bit is set after its record is committed, and cleared by the consumer before it looks at that ring: a record whose
//     bit is clear has been seen. Or the consumer leaves the bit set and looks at that ring again and again, so that ringing and
//     answering move no line but the ring's own.
//  2. A sleeper announces itself, then looks at the bits, then parks on its sequence; a ringer sets the bit, then looks for sleepers.
//     Both sides have a seq_cst fence between the two steps, so that at least one sees the other: no wake-up is lost.
//  3. Ringing costs no system call when nobody sleeps, or while somebody polls. Of several sleepers one is woken: a thread of the
//     application rather than the engine. Whoever is woken polls, and passes the bell on (wake_one) if it leaves work behind.
//  4. A poller announces itself, and after it has withdrawn looks at the bits and passes on what it leaves; a ringer sets the bit, then looks for
//     pollers. So either the ringer wakes a sleeper, or the poller finds the bit. Without this each packet to a node that spins for it would
//     wake its engine, too, which then competes for the driver's role and, on a small machine, for the very processor.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm::nic {

/// One class of threads that may sleep until the bell rings. See WaitWord for the discipline; this one wakes one thread, not all.
struct SleepWord {
  std::atomic<std::uint32_t> sequence;
  std::atomic<std::uint32_t> sleepers;
};

struct alignas(kCacheLine) Doorbell {
  static constexpr std::uint32_t kMaxNodes = 256;
  static constexpr std::uint32_t kWords = kMaxNodes / 64;

  std::array<std::atomic<std::uint64_t>, kWords> sources;  ///< bit i: look at the ring from node i, and at what is queued for node i
  SleepWord application;
  SleepWord engine;
  std::atomic<std::uint32_t> pollers;  ///< threads that look at the bell again and again

  /// Sets the source's bit and wakes a sleeper if there is one and nobody polls. The record must be committed (released) before.
  void ring(NodeId source, Env& env);
  /// Wakes one sleeper, if any and if nobody polls: application first.
  void wake_one(Env& env);
  /// The bits of word `index` that are set. A hint: one that is missed now is seen by the next look.
  [[nodiscard]] std::uint64_t look(std::uint32_t index) const {
    return sources[index].load(std::memory_order_relaxed);  // relaxed: see above; who clears a bit looks at the ring afterwards
  }
  /// Clears bits of word `index`; the rings are looked at afterwards.
  void clear(std::uint32_t index, std::uint64_t bits) { sources[index].fetch_and(~bits, std::memory_order_seq_cst); }
};

static_assert(sizeof(Doorbell) == kCacheLine && std::is_trivially_destructible_v<Doorbell>);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free,
              "words shared between processes must be lock-free");

}  // namespace netvm::nic
