// Strong identifiers: a NodeId is never taken for a PageId.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace netvm {

/// An integer with a meaning. Explicit to make, free to compare, no arithmetic.
template <class Tag, class Rep>
struct StrongId {
  using rep = Rep;
  Rep value{};

  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep v) : value(v) {}
  friend constexpr auto operator<=>(StrongId, StrongId) = default;
};

/// A node of the job: 0 .. nodes-1.
using NodeId = StrongId<struct NodeTag, std::uint32_t>;
/// A page of the global range: (address - base) / kPageSize. The same number is the page's frame in every node's memory.
using PageId = StrongId<struct PageTag, std::uint64_t>;
/// For %llu.
constexpr unsigned long long number(PageId page) { return page.value; }
/// An index into a node's NIC region table.
using RegionId = StrongId<struct RegionTag, std::uint32_t>;
/// An index into a node's event counter table.
using CounterId = StrongId<struct CounterTag, std::uint32_t>;

/// Pages are 4 KiB: the unit of translation, protection and coherence.
inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::size_t kPageShift = 12;
/// Nothing that two processors write shares a cache line.
inline constexpr std::size_t kCacheLine = 64;

/// Contiguous pages [first, first + count).
struct PageRange {
  PageId first{};
  std::uint64_t count = 0;
  [[nodiscard]] constexpr bool contains(PageId p) const { return p.value - first.value < count; }
  [[nodiscard]] constexpr std::uint64_t end() const { return first.value + count; }
  friend constexpr bool operator==(const PageRange&, const PageRange&) = default;
};

}  // namespace netvm
