// Firmware: the step that a work request takes at its target. One function, three processors: the initiator (through the mapped device),
// the engine, or a thread that waits and drives inline.
//
//   key -> range (overflow-safe) -> rights -> alignment -> for each page: lock, check the key again, touch, unlock
//
// Invariants
//  1. A frame is touched between try_lock() and unlock() of its page only, at most one page at a time, and nothing in between blocks.
//  2. Nothing in a request is taken on trust: it may be hostile, and another process's table may change under it.
//  3. "Not resident" is an outcome of its own: the bytes before that page may have been touched, no completion is due, and the whole
//     request may be executed again (writes and reads are idempotent, an atomic has not happened).
//  4. Atomics are std::atomic_ref operations on the frame, so atomic with the host's own.
// Threads: any, of any process that maps the target's device. No allocation, no system call, no lock but the page's.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "nic/device.hpp"
#include "nic/racy_copy.hpp"
#include "nic/verbs.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

enum class WorkKind : std::uint8_t { write, read, atomic };

/// A work request as the target's firmware sees it.
struct WorkRequest {
  WorkKind kind = WorkKind::write;
  RegionId region{};
  std::uint64_t key = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  const std::byte* source = nullptr;  ///< write: the bytes
  std::byte* landing = nullptr;       ///< read: where they go
  AtomicArgs atomic{};
};

/// How a step ended.
struct Outcome {
  Status status = Status::ok;
  bool resident = true;  ///< false: `missing` must be brought in, then the request can be executed again
  PageId missing{};
  std::uint64_t old_value = 0;  ///< of an atomic
};

class Firmware final {
 public:
  static Outcome execute(Device& target, const WorkRequest& request) {
    switch (request.kind) {
      case WorkKind::write:
        return move<true>(target, request, Rights::write,
                          [&](std::byte* frame, std::uint64_t done, std::size_t n) { racy_copy(frame, request.source + done, n); });
      case WorkKind::read:
        return move<false>(target, request, Rights::read,
                           [&](std::byte* frame, std::uint64_t done, std::size_t n) { racy_copy(request.landing + done, frame, n); });
      case WorkKind::atomic:
        return atomic(target, request);
    }
    return {.status = Status::invalid};
  }

  /// Executes on this node's own device and brings missing pages in, `span` bytes from the request's offset at once (its whole work request).
  static Outcome execute_resident(Device& own, HostVm& vm, const WorkRequest& request, std::uint64_t span);

  /// The operation alone, on an aligned word that is safe to touch. Returns the old value.
  static std::uint64_t apply(std::uint64_t& word, const AtomicArgs& args);

 private:
  template <bool kWrite, class Touch>
  static Outcome move(Device& target, const WorkRequest& request, Rights need, Touch&& touch) {
    RegionTable::Grant grant;
    if (const Status status = target.regions().find(request.region, request.key, request.offset, request.bytes, need, &grant);
        !ok(status)) {
      return {.status = status};
    }
    std::uint64_t at = grant.first_byte;
    for (std::uint64_t done = 0; done < request.bytes;) {
      const std::size_t n = std::min<std::uint64_t>(request.bytes - done, kPageSize - at % kPageSize);
      Outcome outcome;
      if (!with_page<kWrite>(target, grant, request.key, at, &outcome, [&](std::byte* frame) { touch(frame, done, n); })) return outcome;
      at += n;
      done += n;
    }
    return {};
  }

  static Outcome atomic(Device& target, const WorkRequest& request);

  /// Runs touch(address in the frame view) under the page's lock. False: *outcome says why it did not run.
  template <bool kWrite, class Touch>
  static bool with_page(Device& target, const RegionTable::Grant& grant, std::uint64_t key, std::uint64_t at, Outcome* outcome,
                        Touch&& touch) {
    const PageId page{at >> kPageShift};
    if (page.value >= target.pages()) [[unlikely]] {  // an entry that its owner has damaged; find() believed it
      *outcome = {.status = Status::unmapped};
      return false;
    }
    std::uint64_t frame = 0;
    if (!target.shadow().try_lock(page, kWrite, &frame)) [[unlikely]] {
      *outcome = {.resident = false, .missing = page};
      return false;
    }
    const bool valid = RegionTable::still_valid(*grant.entry, key) && frame < target.pages();
    if (valid) [[likely]]
      touch(target.frames() + frame * kPageSize + at % kPageSize);
    target.shadow().unlock(page);
    if (!valid) [[unlikely]]
      *outcome = {.status = Status::revoked};
    return valid;
  }
};

}  // namespace netvm::nic
