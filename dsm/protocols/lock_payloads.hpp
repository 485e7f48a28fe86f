// What entry, scope and lease let locks (and entry a barrier) carry, as it is read from the wire: accepted whole or not at all. (lrc and hlrc: dsm/interval_log.hpp; self: one byte.)
// Integers are varints. What is written lies with the protocols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "dsm/bindings.hpp"
#include "runtime/ids.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::dsm {

/// Bound bytes that changed under a lock; they lie within one block.
struct BoundRun {
  BoundRange where;
  std::uint64_t serial = 0;  ///< of the allocation (extent.hpp)
  std::uint64_t version = 0;
  bool early = false;                ///< of the epoch after the grant's
  const std::byte* bytes = nullptr;  ///< in the wire
};
/// entry: epoch, version, newest early version, then for each run: distance of its offset from the end of the run before, length, difference of its allocation's serial
/// number from that of the run before, twice the version and 1 if it is early, the bytes.
struct BoundGrant {
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  std::uint64_t early_version = 0;
  std::vector<BoundRun> runs;
};
[[nodiscard]] bool decode_bound_grant(std::span<const std::byte> wire, PageRange shared, BoundGrant* grant);

/// entry, with a barrier: 1 if some thread runs on while its node waits; how many locks, and of each: its id with the top bit moved to the bottom, and the version up to
/// which the barrier tells what was early; then BarrierNotices.
struct BoundBarrier {
  bool some_run_on = false;
  std::map<sync::SyncId, std::uint64_t> told;
  std::span<const std::byte> notices;  ///< in the wire
};
[[nodiscard]] bool decode_bound_barrier(std::span<const std::byte> wire, BoundBarrier* barrier);

/// scope: epoch, version, newest early version, then groups: twice the version and 1 if it is early, length of the pages, the pages (interval_log.hpp).
struct ScopeGrant {
  struct Group {
    std::uint64_t version = 0;
    bool early = false;  ///< of the epoch after the grant's
    std::vector<PageRange> pages;
  };
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  std::uint64_t early_version = 0;
  std::vector<Group> groups;
};
[[nodiscard]] bool decode_scope_grant(std::span<const std::byte> wire, PageRange shared, ScopeGrant* grant);

/// entry, scope: what an acquirer has seen. Nothing: it knows nothing.
struct SeenVersion {
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
};
[[nodiscard]] bool decode_seen_version(std::span<const std::byte> wire, SeenVersion* seen);

/// lease: a time. No job gets to the end of time (each lease and each write adds 2^20 at most).
inline constexpr std::uint64_t kEndOfLeaseTime = std::uint64_t{1} << 62;
[[nodiscard]] bool decode_lease_time(std::span<const std::byte> wire, std::uint64_t* time);

}  // namespace netvm::dsm
