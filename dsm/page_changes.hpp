// PageChanges: the diffs that this node made of one page, kept until everybody who may ask for them has them (lazy release consistency).
//
// A change is one diff. It covers one interval of this node or several: as long as nobody asks for it, the page keeps its twin and what is written meanwhile
// joins in (lazy diff creation: Keleher, Dwarkadas, Cox, Zwaenepoel 1994, section 4).
//
// Invariants
//  1. Changes are numbered in the order in which they were made (ordinal: 1, 2, ...); first and last ascend with them.
//  2. A byte belongs to the newest change that has it; older ones lose it. So the changes of a page hold at most a page of bytes, however often it was
//     written. A race-free reader that asks before it knows of the newer change is not going to look at that byte before it does.
//  3. A change that no release has covered yet is open: it is told to nobody and never collected.
// Wire: a count, then for each change: ordinal, order, length of the diff (varints), the diff as encode_packed_diff() makes it (the format is encode_diff()'s).
// Threads: not synchronised; the page's latch guards it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "dsm/diff.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

/// Which of this node's intervals something was written in, and how that compares with what others wrote.
struct ChangeTime {
  std::uint64_t order = 0;  ///< a linear extension of happens-before: see Lrc::order_now()
  std::uint64_t first = 0;  ///< 0: no release has covered it yet
  std::uint64_t last = 0;
  bool open = false;  ///< some of it was written since the last release

  /// A release covers it, as (at least) this interval.
  void close(std::uint64_t interval) {
    if (first == 0) first = interval;
    last = interval;
    open = false;
  }
};

/// A change in a wire buffer.
struct ChangeView {
  NodeId node{};
  std::uint64_t ordinal = 0;
  std::uint64_t order = 0;
  std::span<const std::byte> diff;
};

class PageChanges {
 public:
  /// Takes the runs' bytes from the page. Nothing happens without runs.
  void add(const ChangeTime& time, std::span<const DiffRun> runs, const std::byte* page);
  /// A release covers those that are open.
  void close_open(std::uint64_t interval);

  /// The newest change's number; 0 if there was none.
  [[nodiscard]] std::uint64_t newest() const { return newest_; }
  /// Appends, in order, those with a number above `after` that began at `up_to` at the latest. Returns the number of the newest of these (`after`: none).
  std::uint64_t encode_told(std::uint64_t after, std::uint64_t up_to, std::vector<std::byte>& out) const;
  /// Appends all with a number above `after`.
  void encode_all(std::uint64_t after, std::vector<std::byte>& out) const;

  /// Drops those that ended at that interval at the latest.
  void drop_through(std::uint64_t interval);
  /// Memory for them.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  struct Change {
    std::uint64_t ordinal;
    ChangeTime time;
    std::vector<DiffRun> runs;
    std::vector<std::byte> data;  // of all runs, one after the other
  };
  static std::size_t size_of(const Change& change) { return sizeof(Change) + change.runs.size() * sizeof(DiffRun) + change.data.size(); }
  static void subtract(Change& change, const std::vector<std::uint64_t>& mask);
  template <class Taken>
  std::uint64_t encode(std::uint64_t after, Taken&& taken, std::vector<std::byte>& out) const;

  std::deque<Change> changes_;
  std::uint64_t newest_ = 0;
  std::size_t bytes_ = 0;
};

/// Splits a buffer of changes, all of `node`; consumes them from the front of `wire`. False if malformed (the diffs themselves are checked when applied).
[[nodiscard]] bool decode_changes(std::span<const std::byte>& wire, NodeId node, std::vector<ChangeView>& out);

}  // namespace netvm::dsm
