// Firmware: the step that a work request takes at its target. One function, three processors: the initiator (through the mapped device),
// the engine, or a thread that waits and drives inline.
//
//   key -> range (overflow-safe) -> rights -> alignment -> for each page: lock, check the key again, touch, unlock
//
// Invariants
//  1. A frame is touched between try_lock() and unlock() of its page only, at most one page at a time, and nothing in between blocks.
//     (Under StaticPinning, which exists to be measured against, there is nothing to lock.)
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

/// The operation of an atomic alone, on an aligned word that is safe to touch. Returns the old value.
std::uint64_t apply(std::uint64_t& word, const AtomicArgs& args);

/// The translation of the product: the target's shadow page table.
class ShadowTranslation final : public ShadowPageTable::Locker {
 public:
  explicit ShadowTranslation(Device& target) : Locker(target.shadow().locker()) {}
  static constexpr bool kPinned = false;
};

/// No translation: every page is in its frame, for ever, and no region is ever revoked. What the thesis calls static pinning; `netvm-perf
/// thesis` measures the product against it. Not for use beside anything that moves frames.
class StaticPinning final {
 public:
  explicit StaticPinning(Device& /*target*/) {}
  static constexpr bool kPinned = true;
  template <LockFor kWhat>
  static bool try_lock(PageId page, std::uint64_t* frame) {
    *frame = page.value;
    return true;
  }
  static void unlock() {}
};

/// The step, over a translation: a type that is made from the target, lives for one request, and locks pages (try_lock<LockFor>, unlock).
template <class Translation>
class BasicFirmware {
 public:
  static Outcome execute(Device& target, const WorkRequest& request) {
    switch (request.kind) {
      case WorkKind::write:
        return move<LockFor::write>(target, request, Rights::write, [&](std::byte* frame, std::uint64_t done, std::size_t n) {
          racy_copy(frame, request.source + done, n);
        });
      case WorkKind::read:
        return move<LockFor::read>(target, request, Rights::read, [&](std::byte* frame, std::uint64_t done, std::size_t n) {
          racy_copy(request.landing + done, frame, n);
        });
      case WorkKind::atomic:
        return atomic(target, request);
    }
    return {.status = Status::invalid};
  }

 private:
  template <LockFor kWhat, class Touch>
  static Outcome move(Device& target, const WorkRequest& request, Rights need, Touch&& touch) {
    RegionTable::Grant grant;
    if (const Status status = target.regions().find(request.region, request.key, request.offset, request.bytes, need, &grant);
        !ok(status)) {
      return {.status = status};
    }
    Translation translation(target);
    std::uint64_t at = grant.first_byte;
    for (std::uint64_t done = 0; done < request.bytes;) {
      const std::size_t n = std::min<std::uint64_t>(request.bytes - done, kPageSize - at % kPageSize);
      Outcome outcome;
      const auto touch_here = [&](std::byte* frame) { touch(frame, done, n); };
      if (!with_page<kWhat>(target, translation, grant, request.key, at, &outcome, touch_here)) return outcome;
      at += n;
      done += n;
    }
    return {};
  }

  static Outcome atomic(Device& target, const WorkRequest& request) {
    if (request.atomic.op > AtomicOp::fetch_or) return {.status = Status::invalid};
    RegionTable::Grant grant;
    const Status status = target.regions().find(request.region, request.key, request.offset, sizeof(std::uint64_t), Rights::atomic, &grant);
    if (!ok(status)) return {.status = status};
    if (grant.first_byte % sizeof(std::uint64_t) != 0) return {.status = Status::align};
    Translation translation(target);
    Outcome outcome;
    with_page<LockFor::write>(target, translation, grant, request.key, grant.first_byte, &outcome,
                              [&](std::byte* at) { outcome.old_value = apply(*reinterpret_cast<std::uint64_t*>(at), request.atomic); });
    return outcome;
  }

  /// Runs touch(address in the frame view) under the page's lock. False: *outcome says why it did not run.
  template <LockFor kWhat, class Touch>
  static bool with_page(Device& target, Translation& translation, const RegionTable::Grant& grant, std::uint64_t key, std::uint64_t at,
                        Outcome* outcome, Touch&& touch) {
    const PageId page{at >> kPageShift};
    if (page.value >= target.pages()) [[unlikely]] {  // an entry that its owner has damaged; find() believed it
      *outcome = {.status = Status::unmapped};
      return false;
    }
    std::uint64_t frame = 0;
    if (!translation.template try_lock<kWhat>(page, &frame)) [[unlikely]] {
      *outcome = {.resident = false, .missing = page};
      return false;
    }
    const bool valid = Translation::kPinned || (RegionTable::still_valid(*grant.entry, key) && frame < target.pages());
    if (valid) [[likely]]
      touch(target.frames() + frame * kPageSize + at % kPageSize);
    translation.unlock();
    if (!valid) [[unlikely]]
      *outcome = {.status = Status::revoked};
    return valid;
  }
};

/// The product's.
using Firmware = BasicFirmware<ShadowTranslation>;

}  // namespace netvm::nic
