// dsm/protocols/lock_payloads: what a lock brings under entry, scope and lease, and a barrier under entry, is accepted whole or not at all; bound bytes lie where blocks lie. And how
// the payloads of all protocols are told apart (dsm/payload).
#include <vector>

#include "dsm/bindings.hpp"
#include "dsm/payload.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocols/lock_payloads.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

constexpr PageRange kShared{PageId{100}, 5000};

void bound_data(std::span<const std::byte> wire) {
  BoundGrant grant;
  if (!decode_bound_grant(wire, kShared, &grant)) {
    FUZZ_REQUIRE(grant.runs.empty() && grant.epoch == 0);
    return;
  }
  // As protocol entry does: bindings travel with the lock.
  BoundData known;
  for (const BoundRun& run : grant.runs) {
    FUZZ_REQUIRE(run.where.bytes > 0 && kShared.contains(PageId{run.where.offset / kPageSize}));
    FUZZ_REQUIRE(run.where.offset / kPageSize == (run.where.offset + run.where.bytes - 1) / kPageSize);
    FUZZ_REQUIRE(run.version <= grant.version && run.bytes >= wire.data() && run.bytes + run.where.bytes <= wire.data() + wire.size());
    known.bind(run.where);
    FUZZ_REQUIRE(!run.early || run.version <= grant.early_version);
    known.note(run.where, run.bytes, run.version, run.early);
  }
  std::uint64_t bytes = 0;
  for (const BoundRange& range : known.ranges()) bytes += range.bytes;
  FUZZ_REQUIRE(bytes <= wire.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto wire = fuzz_bytes(data, size);
  bound_data(wire);

  ScopeGrant scope;
  if (decode_scope_grant(wire, kShared, &scope)) {
    for (const ScopeGrant::Group& group : scope.groups) {
      FUZZ_REQUIRE(group.version <= (group.early ? scope.early_version : scope.version) && scope.early_version <= scope.version);
      for (const PageRange& range : group.pages) FUZZ_REQUIRE(kShared.contains(range.first) && range.end() <= kShared.end());
    }
  } else {
    FUZZ_REQUIRE(scope.groups.empty());
  }

  BoundBarrier barrier;
  if (decode_bound_barrier(wire, &barrier)) {
    FUZZ_REQUIRE(barrier.told.size() + barrier.notices.size() < wire.size());
  } else {
    FUZZ_REQUIRE(barrier.told.empty() && barrier.notices.empty());
  }

  SeenVersion seen;
  static_cast<void>(decode_seen_version(wire, &seen));
  std::uint64_t time = 0;
  FUZZ_REQUIRE(!decode_lease_time(wire, &time) || time < kEndOfLeaseTime);

  std::vector<PayloadSection> sections;
  if (!split_payload(wire, sections)) return 0;
  for (const PayloadSection& section : sections) FUZZ_REQUIRE(section.protocol < protocols().size() && section.bytes.size() <= wire.size());
  return 0;
}
