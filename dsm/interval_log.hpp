// IntervalLog: who wrote which pages when, as lazy release consistency needs it (Keleher, Cox, Zwaenepoel 1992; intervals and write notices).
//
// A node's execution is cut into intervals, each ended by a release in which something was written. Interval i of node c says which pages c
// wrote in it. A vector clock says for each node how many of its intervals are known, that is: have been acted upon.
//
// Invariants
//  1. For each node the log holds the intervals (base, clock] without gaps. What was dropped (up to base) everybody has acted upon.
//  2. An interval that nobody has been told of may still grow; one that was told never changes. So releases that nobody acquires from cost no memory.
//  3. Garbage goes at barriers, one barrier late: when a node passes barrier k everybody has passed k-1, and with it everything k-1 announced.
//  4. Input from the wire is checked before anything changes.
//  5. Where there are no barriers, neighbouring old intervals of a node are joined into a span when there are more than kMostSpans: whoever lacks only some of
//     a span's intervals is told all of its pages. So a log holds at most kMostSpans sets of pages for each node.
//  6. Who passes a barrier knows all that happened before anybody's arrival there. Nodes announce their own intervals; but where threads run on between
//     a node's arrival and the barrier's end (split barriers, threads beside the section), what they do may reach, by a lock, a node that has yet to arrive. It
//     passes on what it learnt so. The granter runs ahead if it knows more than when it arrived: of that all are told by this barrier.
// Wire. A set of spans: count, then for each: node, index of its last interval, how many more it has, bytes of its pages, its pages. Pages: runs of pages
// that are `1 << s` apart (s <= 4, so that neighbouring coherence units of any size are one run), each as distance from the end of the run before, and
// count * 8 + s. A clock: one varint a node. A grant: nothing, or one byte (1: the granter runs ahead, invariant 6) and a set. All integers are varints.
// Threads: not synchronised; the owner guards it with a lock that it never holds while it blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::dsm {

using VectorClock = std::vector<std::uint64_t>;

/// One interval, or a span of several, as it lies in a wire buffer.
struct IntervalView {
  NodeId node{};
  std::uint64_t index = 0;           ///< of the last: 1, 2, ... for each node
  std::span<const std::byte> pages;  ///< encoded; decode_pages() has checked it
  std::uint64_t first = 0;           ///< index of the first
};

/// Sorted page numbers (heads of coherence units) without duplicates -> encoded runs.
void encode_pages(std::span<const PageId> pages, std::vector<std::byte>& out);
/// Appends the pages as ranges to `out`: one range a run of neighbouring pages, one range for each page of any other run. False, and nothing appended, if
/// malformed or not inside `within`.
[[nodiscard]] bool decode_pages(std::span<const std::byte> encoded, PageRange within, std::vector<PageRange>& out);
/// Appends one interval or span to a set, after the set's count.
void append_interval(const IntervalView& interval, std::vector<std::byte>& out);
/// Splits and checks a set of intervals (empty input: none). False if malformed: a node >= `nodes`, an index below 1, pages not inside `within`, bytes left over.
[[nodiscard]] bool decode_intervals(std::span<const std::byte> wire, std::uint32_t nodes, PageRange within, std::vector<IntervalView>& out);
/// Makes one set of two. Both must be well formed.
void merge_interval_sets(std::vector<std::byte>& sum, std::span<const std::byte> other);

class IntervalLog {
 public:
  IntervalLog(NodeId self, std::uint32_t nodes);

  [[nodiscard]] const VectorClock& clock() const { return clock_; }
  [[nodiscard]] bool covers(NodeId node, std::uint64_t index) const { return index <= clock_[node.value]; }
  /// The least index that what is closed from now on can have.
  [[nodiscard]] std::uint64_t next_own() const { return clock_[self_.value] + (told_ ? 1 : 0); }

  /// Ends this node's interval: the pages that it wrote. Nothing happens without pages.
  void close(std::span<const PageId> pages);
  /// What is new of intervals that came, in the order of their times at each node; *count: how many intervals that is, spans counted as what is new of them.
  [[nodiscard]] std::vector<IntervalView> unknown(std::span<const IntervalView> intervals, std::uint64_t* count) const;
  /// Adds intervals of other nodes that this node has acted upon; those covered already are passed over. False, and nothing was added, if that would
  /// leave a gap. `pass_on`: they came from who runs ahead (invariant 6).
  [[nodiscard]] bool add(std::span<const IntervalView> intervals, bool pass_on = false);

  void encode_clock(std::vector<std::byte>& out) const;
  /// Whether somebody with the clock in that wire format lacks nothing. False also of one that is malformed.
  [[nodiscard]] bool is_known_by(std::span<const std::byte> wire) const;
  /// Empty input: a clock of zeros. False if malformed.
  [[nodiscard]] bool decode_clock(std::span<const std::byte> wire, VectorClock* clock) const;

  /// Appends the set of all intervals that somebody with that clock lacks. Returns how many. They count as told.
  std::size_t encode_lacking(const VectorClock& theirs, std::vector<std::byte>& out);
  /// The same for a lock's grant. `barriers_left`: by this node.
  std::size_t encode_grant(const VectorClock& theirs, std::uint64_t barriers_left, std::vector<std::byte>& out);
  /// Takes the mark off the front of a grant that is not empty. Whether the granter runs ahead.
  [[nodiscard]] static bool take_grant_mark(std::span<const std::byte>& grant);
  /// This node arrives at a barrier. Appends the set of its own intervals since the last barrier that was passed, and those of others that it must pass on. They
  /// count as told.
  std::size_t arrive(std::uint64_t barriers_left, std::vector<std::byte>& out);

  /// This node passes a barrier, having acted upon everything that was announced there. Drops what invariant 3 allows.
  void pass_barrier(std::span<const IntervalView> announced);

  /// Intervals held now, and the bytes of their pages' encodings.
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::size_t bytes() const;

 private:
  // Whether arrive() would append nothing.
  [[nodiscard]] bool has_nothing_to_pass_on() const;
  static constexpr std::size_t kMostSpans = 128;
  static constexpr std::uint64_t kNothing = UINT64_MAX;
  struct Span {
    std::uint64_t last = 0;  // the first is the one after the span before
    std::vector<std::byte> pages;
  };
  struct History {
    std::uint64_t base = 0;  // index of the newest dropped interval
    std::deque<Span> spans;
    [[nodiscard]] std::size_t lacking(std::uint64_t after) const;  // how many spans end after that interval
    void join_old();
  };
  void append_range(NodeId node, std::uint64_t after, std::vector<std::byte>& out) const;
  void compact_growing();
  void tell();

  NodeId self_;
  VectorClock clock_;
  VectorClock last_barrier_;  // what had been announced at the newest barrier passed, and before
  std::vector<History> histories_;
  std::vector<std::uint64_t> pass_on_after_;  // of each node what comes after that interval is passed on at the next arrival; kNothing
  VectorClock arrived_;                       // the clock at this node's last arrival at a barrier,
  std::uint64_t arrived_at_ =
      kNothing;  // and how many it had left by then: a barrier that nobody tells anything ends without pass_barrier()
  // The newest own interval while nobody was told of it: its pages, the first sorted_ of them in order and without duplicates. Encoded when told.
  std::vector<PageId> growing_;
  std::size_t sorted_ = 0;
  bool told_ = true;
};

}  // namespace netvm::dsm
