#include "dsm/interval_log.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "dsm/extent.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

// ---- page sets -----------------------------------------------------------------------------------------------------------

namespace {

constexpr unsigned kStrideBits = 3;  // in the number that also holds a run's count

// log2 of the distance between two pages of a run; kMaxUnitShift + 1 if no run has that distance.
unsigned stride_shift(PageId from, PageId to) {
  const std::uint64_t distance = to.value - from.value;
  const bool regular = std::has_single_bit(distance) && distance <= std::uint64_t{1} << kMaxUnitShift;
  return regular ? static_cast<unsigned>(std::countr_zero(distance)) : kMaxUnitShift + 1U;
}

}  // namespace

void encode_pages(std::span<const PageId> pages, std::vector<std::byte>& out) {
  std::uint64_t end = 0;  // of the run before: behind its last page
  for (std::size_t i = 0; i < pages.size();) {
    std::size_t j = i + 1;
    unsigned shift = 0;
    if (j < pages.size() && stride_shift(pages[i], pages[j]) <= kMaxUnitShift) {
      shift = stride_shift(pages[i], pages[j]);
      while (j < pages.size() && stride_shift(pages[j - 1], pages[j]) == shift) ++j;
    }
    put_varint(out, pages[i].value - end);
    put_varint(out, std::uint64_t{j - i} << kStrideBits | shift);
    end = pages[j - 1].value + 1;
    i = j;
  }
}

bool decode_pages(std::span<const std::byte> encoded, PageRange within, std::vector<PageRange>& out) {
  const std::size_t before = out.size();
  WireReader reader(encoded);
  std::uint64_t end = 0;
  while (!reader.at_end()) {
    const std::uint64_t distance = reader.varint();
    const std::uint64_t packed = reader.varint();
    const std::uint64_t count = packed >> kStrideBits;
    const auto shift = static_cast<unsigned>(packed & ((1U << kStrideBits) - 1));
    const std::uint64_t first = end + distance;
    const bool inside = first >= end && first >= within.first.value && first < within.end() && count != 0 && shift <= kMaxUnitShift &&
                        count - 1 <= (within.end() - 1 - first) >> shift;
    if (!reader.ok() || !inside) {
      out.resize(before);
      return false;
    }
    end = first + ((count - 1) << shift) + 1;
    if (shift == 0) {
      out.push_back({PageId{first}, count});
    } else {
      for (std::uint64_t i = 0; i < count; ++i) out.push_back({PageId{first + (i << shift)}, 1});
    }
  }
  return true;
}

// ---- sets of intervals ---------------------------------------------------------------------------------------------------

void append_interval(const IntervalView& interval, std::vector<std::byte>& out) {
  put_varint(out, interval.node.value);
  put_varint(out, interval.index);
  put_varint(out, interval.index - interval.first);
  put_varint(out, interval.pages.size());
  out.insert(out.end(), interval.pages.begin(), interval.pages.end());
}

bool decode_intervals(std::span<const std::byte> wire, std::uint32_t nodes, PageRange within, std::vector<IntervalView>& out) {
  if (wire.empty()) return true;
  WireReader reader(wire);
  const std::uint64_t count = reader.varint();
  std::vector<PageRange> scratch;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t node = reader.varint();
    const std::uint64_t index = reader.varint();
    const std::uint64_t more = reader.varint();
    const std::uint64_t bytes = reader.varint();
    const std::span<const std::byte> pages = reader.bytes(bytes);
    if (!reader.ok() || node >= nodes || more >= index) return false;
    scratch.clear();
    if (!decode_pages(pages, within, scratch)) return false;
    out.push_back({NodeId{static_cast<std::uint32_t>(node)}, index, pages, index - more});
  }
  return reader.ok() && reader.at_end();
}

void merge_interval_sets(std::vector<std::byte>& sum, std::span<const std::byte> other) {
  WireReader mine(sum);
  WireReader theirs(other);
  const std::uint64_t count = (sum.empty() ? 0 : mine.varint()) + (other.empty() ? 0 : theirs.varint());
  std::vector<std::byte> merged;
  merged.reserve(sum.size() + other.size() + 2);
  put_varint(merged, count);
  merged.insert(merged.end(), mine.rest().begin(), mine.rest().end());
  merged.insert(merged.end(), theirs.rest().begin(), theirs.rest().end());
  sum = std::move(merged);
}

// ---- the log -----------------------------------------------------------------------------------------------------------------

IntervalLog::IntervalLog(NodeId self, std::uint32_t nodes)
    : self_(self), clock_(nodes, 0), last_barrier_(nodes, 0), histories_(nodes), pass_on_after_(nodes, kNothing) {}

void IntervalLog::close(std::span<const PageId> pages) {
  if (pages.empty()) return;
  if (told_) {
    growing_.clear();
    sorted_ = 0;
    History& own = histories_[self_.value];
    own.join_old();
    own.spans.push_back({++clock_[self_.value], {}});
    told_ = false;
  }
  for (const PageId page : pages) {
    if (!std::binary_search(growing_.begin(), growing_.begin() + static_cast<std::ptrdiff_t>(sorted_), page)) growing_.push_back(page);
  }
  constexpr std::size_t kSlack = 1024;
  if (growing_.size() > 2 * sorted_ + kSlack) compact_growing();
}

void IntervalLog::compact_growing() {
  std::sort(growing_.begin(), growing_.end());
  growing_.erase(std::unique(growing_.begin(), growing_.end()), growing_.end());
  sorted_ = growing_.size();
}

void IntervalLog::tell() {
  if (told_) return;
  compact_growing();
  encode_pages(growing_, histories_[self_.value].spans.back().pages);
  told_ = true;
}

namespace {
// So sets merged in any order are taken in sequence.
std::vector<IntervalView> in_sequence(std::span<const IntervalView> intervals) {
  std::vector<IntervalView> sorted(intervals.begin(), intervals.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const IntervalView& a, const IntervalView& b) { return a.node != b.node ? a.node < b.node : a.index < b.index; });
  return sorted;
}
}  // namespace

std::vector<IntervalView> IntervalLog::unknown(std::span<const IntervalView> intervals, std::uint64_t* count) const {
  std::vector<IntervalView> news;
  VectorClock next = clock_;
  *count = 0;
  for (const IntervalView& interval : in_sequence(intervals)) {
    std::uint64_t& known = next[interval.node.value];
    if (interval.index <= known) continue;
    *count += interval.index - std::max(known, interval.first - 1);
    known = interval.index;
    news.push_back(interval);
  }
  return news;
}

bool IntervalLog::add(std::span<const IntervalView> intervals, bool pass_on) {
  const std::vector<IntervalView> sorted = in_sequence(intervals);
  // Gaps are looked for before anything changes.
  VectorClock next = clock_;
  for (const IntervalView& interval : sorted) {
    std::uint64_t& known = next[interval.node.value];
    if (interval.index <= known) continue;
    if (interval.first > known + 1 || interval.node == self_) return false;
    known = interval.index;
  }
  for (const IntervalView& interval : sorted) {
    if (covers(interval.node, interval.index)) continue;
    std::uint64_t& known = clock_[interval.node.value];
    if (pass_on) pass_on_after_[interval.node.value] = std::min(pass_on_after_[interval.node.value], known);
    History& history = histories_[interval.node.value];
    history.join_old();
    history.spans.push_back({interval.index, {interval.pages.begin(), interval.pages.end()}});
    known = interval.index;
  }
  return true;
}

void IntervalLog::encode_clock(std::vector<std::byte>& out) const {
  for (const std::uint64_t known : clock_) put_varint(out, known);
}

bool IntervalLog::is_known_by(std::span<const std::byte> wire) const {
  WireReader reader(wire);
  return std::ranges::all_of(clock_, [&reader](std::uint64_t known) { return reader.varint() >= known && reader.ok(); }) && reader.at_end();
}

bool IntervalLog::decode_clock(std::span<const std::byte> wire, VectorClock* clock) const {
  VectorClock decoded(clock_.size(), 0);
  if (!wire.empty()) {
    WireReader reader(wire);
    for (std::uint64_t& known : decoded) known = reader.varint();
    if (!reader.ok() || !reader.at_end()) return false;
  }
  *clock = std::move(decoded);
  return true;
}

std::size_t IntervalLog::History::lacking(std::uint64_t after) const {
  const auto first = std::partition_point(spans.begin(), spans.end(), [after](const Span& span) { return span.last <= after; });
  return static_cast<std::size_t>(spans.end() - first);
}

namespace {
std::vector<std::byte> join_pages(std::span<const std::byte> a, std::span<const std::byte> b) {
  constexpr PageRange kAnywhere{PageId{0}, UINT64_MAX};
  std::vector<PageRange> ranges;
  NETVM_CHECK(decode_pages(a, kAnywhere, ranges) && decode_pages(b, kAnywhere, ranges), "write notices cannot be read back");
  std::vector<PageId> pages;
  for (const PageRange& range : ranges) {
    for (std::uint64_t p = range.first.value; p != range.end(); ++p) pages.push_back(PageId{p});
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  std::vector<std::byte> joined;
  encode_pages(pages, joined);
  return joined;
}
}  // namespace

// Makes room for one more by joining the older half in pairs. The newest spans stay as they are: they are the ones that are asked for.
void IntervalLog::History::join_old() {
  if (spans.size() < kMostSpans) return;
  std::deque<Span> kept;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (i + 1 < kMostSpans / 2) {
      kept.push_back({spans[i + 1].last, join_pages(spans[i].pages, spans[i + 1].pages)});
      ++i;
    } else {
      kept.push_back(std::move(spans[i]));
    }
  }
  spans = std::move(kept);
}

void IntervalLog::append_range(NodeId node, std::uint64_t after, std::vector<std::byte>& out) const {
  const History& history = histories_[node.value];
  for (std::size_t i = history.spans.size() - history.lacking(after); i < history.spans.size(); ++i) {
    const Span& span = history.spans[i];
    const std::uint64_t before = i == 0 ? history.base : history.spans[i - 1].last;
    append_interval({node, span.last, span.pages, before + 1}, out);
  }
}

std::size_t IntervalLog::encode_lacking(const VectorClock& theirs, std::vector<std::byte>& out) {
  std::size_t count = 0;
  // A clock older than what was dropped is that of a request which waited across barriers: the requester has passed them since.
  const auto after = [&](std::size_t node) { return std::max(theirs[node], histories_[node].base); };
  for (std::size_t node = 0; node < clock_.size(); ++node) count += histories_[node].lacking(after(node));
  if (count == 0) return 0;
  if (clock_[self_.value] > after(self_.value)) tell();
  put_varint(out, count);
  for (std::size_t node = 0; node < clock_.size(); ++node) append_range(NodeId{static_cast<std::uint32_t>(node)}, after(node), out);
  return count;
}

std::size_t IntervalLog::encode_grant(const VectorClock& theirs, std::uint64_t barriers_left, std::vector<std::byte>& out) {
  const std::size_t mark = out.size();
  out.push_back(static_cast<std::byte>(barriers_left == arrived_at_ && clock_ != arrived_ ? 1 : 0));
  const std::size_t count = encode_lacking(theirs, out);
  if (count == 0) out.resize(mark);
  return count;
}

bool IntervalLog::take_grant_mark(std::span<const std::byte>& grant) {
  const bool runs_ahead = grant.front() != std::byte{0};
  grant = grant.subspan(1);
  return runs_ahead;
}

bool IntervalLog::has_nothing_to_pass_on() const {
  for (std::size_t node = 0; node < clock_.size(); ++node) {
    const std::uint64_t after = node == self_.value ? 0 : pass_on_after_[node];
    if (after != kNothing && histories_[node].lacking(std::max(after, last_barrier_[node])) != 0) return false;
  }
  return true;
}

std::size_t IntervalLog::arrive(std::uint64_t barriers_left, std::vector<std::byte>& out) {
  arrived_ = clock_;
  arrived_at_ = barriers_left;
  if (has_nothing_to_pass_on()) {
    std::ranges::fill(pass_on_after_, kNothing);
    return 0;
  }
  VectorClock after = std::exchange(pass_on_after_, VectorClock(clock_.size(), kNothing));
  after[self_.value] = 0;
  std::size_t count = 0;
  for (std::size_t node = 0; node < after.size(); ++node) {
    if (after[node] == kNothing) continue;
    after[node] = std::max(after[node], last_barrier_[node]);
    count += histories_[node].lacking(after[node]);
  }
  if (count == 0) return 0;
  if (clock_[self_.value] > after[self_.value]) tell();
  put_varint(out, count);
  for (std::size_t node = 0; node < after.size(); ++node) {
    if (after[node] != kNothing) append_range(NodeId{static_cast<std::uint32_t>(node)}, after[node], out);
  }
  return count;
}

void IntervalLog::pass_barrier(std::span<const IntervalView> announced) {
  arrived_at_ = kNothing;
  for (std::size_t node = 0; node < histories_.size(); ++node) {
    History& history = histories_[node];
    while (!history.spans.empty() && history.spans.front().last <= last_barrier_[node]) {
      history.base = history.spans.front().last;
      history.spans.pop_front();
    }
  }
  for (const IntervalView& interval : announced) {
    std::uint64_t& known = last_barrier_[interval.node.value];
    known = std::max(known, interval.index);
  }
}

std::size_t IntervalLog::size() const {
  std::size_t count = 0;
  for (const History& history : histories_) count += history.spans.size();
  return count;
}

std::size_t IntervalLog::bytes() const {
  std::size_t bytes = 0;
  for (const History& history : histories_) {
    for (const Span& span : history.spans) bytes += span.pages.size();
  }
  return bytes;
}

}  // namespace netvm::dsm
