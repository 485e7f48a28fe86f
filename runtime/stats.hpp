// Counters that a node keeps about itself; cheap enough to be always on.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "runtime/thread_slot.hpp"

namespace netvm {

/// What is counted. One list; names come from stat_name(). Times are in nanoseconds.
enum class Stat : std::uint8_t {
  read_faults,
  write_faults,
  remote_faults,  // application faults; those of them that needed another node
  read_faults_away,
  write_faults_away,  // of pages whose home is another node
  twins,
  diffs,
  diff_bytes,
  invalidations,
  notices_sent,
  notices_received,
  pages_fetched,
  home_moves,  // this node became the home of a page that had another one
  read_ahead_pages,
  read_ahead_hits,
  read_ahead_wasted,  // pages fetched before anybody asked; those of them that were used then; that were given up unused
  data_bytes,
  protocol_bytes,
  sync_bytes,  // what travelled: contents of pages; messages and payloads of protocols; messages of locks and barriers without those payloads
  messages_sent,
  message_bytes,  // two-sided: packets handed to a handler
  one_sided_ops,
  one_sided_bytes,  // writes, reads and atomics on other nodes' memory
  lock_acquires,
  lock_remote,
  lock_wait_ns,
  barriers,
  barrier_wait_ns,
  barrier_imbalance_ns,  // of barrier_wait_ns: what the last one to arrive did not wait
  thread_ns,             // of application threads, while they run the program's code
  fault_ns,
  protocol_ns,
  handler_ns,  // in releases and acquires, of locks and barriers; in handlers of protocols' messages
  engine_wakeups,
  page_ins,
  evictions,
  write_backs,
  dropped_pages,
  second_chances,  // pager: pages read from the backing store; given up; written to it; given up unsaved; used again just before being given up
  nic_minor_faults,  // NIC requests that met a page which is not resident: resolved at once
  nic_major_faults,  // faults that the host resolved in a task of its own
  redirects,         // writes that went through a system buffer
  redirected_bytes,
  redirect_drains,    // pages whose waiting data was copied in
  retransmissions,    // packets sent again, over a fabric that loses some
  duplicate_packets,  // that had arrived before
  credit_stalls,      // times that requests towards a node began to wait for credits
  credit_stall_ns,    // how long they did
  kCount,
};
inline constexpr std::size_t kStatCount = static_cast<std::size_t>(Stat::kCount);
[[nodiscard]] std::string_view stat_name(Stat stat);

/// One set of counters: a node's, a region's. Written by several threads: a count is not an ordering. Of the first threads each has a column
/// to itself, so that an addition is a plain load and store; the others share the last one.
class Stats {
 public:
  void add(Stat stat, std::uint64_t by = 1) { add_to(std::min(ThreadSlot::mine(), kShared), stat, by); }
  /// An operation on another node's memory: for the hot path, which looks its column up once.
  void add_one_sided(std::uint64_t bytes) {
    const std::uint8_t column = ThreadSlot::if_own();
    if (column >= kShared) [[unlikely]]
      return add_one_sided_shared(bytes);
    add_own(column, Stat::one_sided_ops, 1);
    add_own(column, Stat::one_sided_bytes, bytes);
  }
  [[nodiscard]] std::uint64_t get(Stat stat) const {
    std::uint64_t sum = 0;
    for (const Column& column : columns_) {
      sum += column.values[static_cast<std::size_t>(stat)].load(std::memory_order_relaxed);  // relaxed: statistics order nothing
    }
    return sum;
  }

 private:
  void add_own(std::uint8_t column, Stat stat, std::uint64_t by) {
    std::atomic<std::uint64_t>& value = columns_[column].values[static_cast<std::size_t>(stat)];
    value.store(value.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);  // relaxed, both: only this thread writes it
  }
  void add_to(std::uint8_t column, Stat stat, std::uint64_t by) {
    if (column != kShared) [[likely]]
      return add_own(column, stat, by);
    columns_[kShared].values[static_cast<std::size_t>(stat)].fetch_add(by, std::memory_order_relaxed);  // relaxed: statistics order nothing
  }
  [[gnu::noinline]] void add_one_sided_shared(std::uint64_t bytes) {
    add(Stat::one_sided_ops, 1);
    add(Stat::one_sided_bytes, bytes);
  }

  static constexpr std::uint8_t kColumns = 16;
  static constexpr std::uint8_t kShared = kColumns - 1;
  struct alignas(64) Column {
    std::array<std::atomic<std::uint64_t>, kStatCount> values{};
  };
  std::array<Column, kColumns> columns_{};
};

}  // namespace netvm
