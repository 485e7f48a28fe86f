// Firmware: the step that a work request takes at its target. One function, three processors: the initiator (through the mapped device),
// the engine, or a thread that waits and drives inline.
//
//   key -> range (overflow-safe) -> rights -> alignment -> for each run of pages: lock, check the key again, touch, unlock
//
// A run: pages one behind the other whose frames are, too, so that one copy does; as many as the translation locks at once.
//
// Invariants
//  1. A frame is touched between try_lock_run() and unlock() of its page only, one run (or the pieces of one page) at a time, and nothing in between blocks.
//     (Under StaticPinning, which exists to be measured against, there is nothing to lock.)
//  2. Nothing in a request is taken on trust: it may be hostile, and another process's table may change under it.
//  3. "Not resident" is an outcome of its own: the bytes before the missing page may have been touched, no completion is due, and the whole
//     request may be executed again (writes and reads are idempotent, an atomic has not happened).
//  4. Atomics are std::atomic_ref operations on the frame, so atomic with the host's own.
// Threads: any, of any process that maps the target's device. No allocation, no system call, no lock but the page's.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

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
  class Usual : public AnnouncedPageLock::Usual {
   public:
    template <LockFor kWhat>
    [[gnu::always_inline]] bool try_lock(const DeviceView& target, PageId page) {
      return AnnouncedPageLock::Usual::try_lock<kWhat>(target.page_lock, page);
    }
    template <LockFor kWhat>
    [[gnu::always_inline]] bool try_lock_run(const DeviceView& target, PageId first, std::uint64_t pages) {
      return AnnouncedPageLock::Usual::try_lock_run<kWhat>(target.page_lock, first, pages);
    }
  };
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
  template <LockFor kWhat>
  static std::uint64_t try_lock_run(PageId first, std::uint64_t most, std::uint64_t* frame) {
    *frame = first.value;
    return std::min(most, AnnouncedPageLock::kMostPages);  // copies as the product copies
  }
  static void unlock() {}
  class Usual {
   public:
    template <LockFor kWhat>
    static bool try_lock(const DeviceView& /*target*/, PageId /*page*/) {
      return true;
    }
    template <LockFor kWhat>
    static bool try_lock_run(const DeviceView& /*target*/, PageId /*first*/, std::uint64_t /*pages*/) {
      return true;
    }
    static void unlock() {}
  };
};

/// The step, over a translation: a type that is made from the target, lives for one request, and locks a page (try_lock<LockFor>) or a run
/// of pages (try_lock_run<LockFor>), one lock at a time (unlock). It may have a class Usual: what locks one page whose frame has its number, or all of
/// at most kMostPages such pages, in the common case, and may always refuse. That way is inlined wherever it is used, for most of an 8-byte access would be
/// calls otherwise; what is unusual is out of line, so that nothing of it is in the way.
template <class Translation>
class BasicFirmware {
 public:
  [[gnu::always_inline]] static Outcome execute(Device& target, const WorkRequest& request) {
    switch (request.kind) {
      case WorkKind::write:
        return move<LockFor::write>(target, request, const_cast<std::byte*>(request.source));  // only read
      case WorkKind::read:
        return move<LockFor::read>(target, request, request.landing);
      case WorkKind::atomic:
        return atomic(target, request);
    }
    return {.status = Status::invalid};
  }

  /// The first pieces of a vectored write, as many as lie in one page, under one lock: a diff has many small ones. *taken: how many the outcome
  /// is about, at least one, and the bytes in them are added to *bytes; a piece of more than one page goes alone.
  static Outcome write_pieces(Device& target, RegionId region, std::uint64_t key, std::span<const Segment> pieces, std::size_t* taken,
                              std::uint64_t* bytes) {
    const std::uint64_t start = pieces.front().offset / kPageSize * kPageSize;
    const auto in_page = [start](const Segment& piece) {
      return piece.offset - start < kPageSize && piece.bytes <= kPageSize - (piece.offset - start);
    };
    *taken = 1;
    if (pieces.size() == 1 || !in_page(pieces[0]) || !in_page(pieces[1])) {
      const Segment& piece = pieces.front();
      *bytes += piece.bytes;
      return execute(target, {.region = region, .key = key, .offset = piece.offset, .bytes = piece.bytes, .source = piece.data});
    }
    // Regions are made of whole pages: what holds for this one holds for every piece.
    RegionTable::Grant grant;
    const Status status = target.regions().find(region, key, start, kPageSize, Rights::write, &grant);
    if (!ok(status)) [[unlikely]]
      return {.status = status};
    Outcome outcome;
    with_page<LockFor::write>(target, grant, key, &outcome, [&](std::byte* frame) {
      std::size_t i = 0;
      std::uint64_t sum = 0;
      for (const std::size_t most = std::min(pieces.size(), kMostPieces); i < most && in_page(pieces[i]); ++i) {
        racy_copy(frame + (pieces[i].offset - start), pieces[i].data, pieces[i].bytes);
        sum += pieces[i].bytes;
      }
      *taken = i;
      *bytes += sum;
    });
    return outcome;
  }

  /// A write or read of a short piece of one page in the common case: as execute(), without any call. False: nothing has happened, and execute() says why.
  template <LockFor kWhat>
  [[gnu::always_inline]] static bool try_short(const DeviceView& target, const RemoteRegion& at, std::uint64_t offset, std::byte* here,
                                               std::uint64_t bytes) {
    RegionTable::Grant grant;
    if (!is_short_copy(bytes) || !RegionTable::grants(target.regions, at.id, at.key, offset, bytes,
                                                      kWhat == LockFor::write ? Rights::write : Rights::read, &grant)) [[unlikely]] {
      return false;
    }
    if (grant.first_byte % kPageSize + bytes > kPageSize) [[unlikely]]
      return false;
    return in_usual_page<kWhat>(target, grant, at.key, [&](std::byte* frame) {
      if constexpr (kWhat == LockFor::write) {
        racy_copy_short(frame, here, bytes);
      } else {
        racy_copy_short(here, frame, bytes);
      }
    });
  }

  /// A write or read of any length in the common case, run by run. False: nothing has happened that may not happen again, and execute() says why.
  template <LockFor kWhat>
  [[gnu::always_inline]] static bool try_long(const DeviceView& target, const RemoteRegion& at, std::uint64_t offset, std::byte* here,
                                              std::uint64_t bytes) {
    if constexpr (requires { typename Translation::Usual; }) {
      RegionTable::Grant grant;
      if (!RegionTable::grants(target.regions, at.id, at.key, offset, bytes, kWhat == LockFor::write ? Rights::write : Rights::read,
                               &grant)) [[unlikely]] {
        return false;
      }
      while (bytes > 0) {
        const PageId first{grant.first_byte >> kPageShift};
        const std::uint64_t in_page = grant.first_byte % kPageSize;
        const std::uint64_t n = std::min(bytes, AnnouncedPageLock::kMostPages * kPageSize - in_page);
        const std::uint64_t pages = ((in_page + n - 1) >> kPageShift) + 1;
        if (first.value >= target.pages || pages > target.pages - first.value) [[unlikely]]  // an entry that its owner has damaged
          return false;
        typename Translation::Usual usual;
        if (!usual.template try_lock_run<kWhat>(target, first, pages)) [[unlikely]]
          return false;
        const bool valid = Translation::kPinned || RegionTable::still_valid(*grant.entry, at.key);
        if (valid) [[likely]]
          copy<kWhat>(target.frames + grant.first_byte, here, n);
        usual.unlock();
        if (!valid) [[unlikely]]
          return false;
        here += n;
        bytes -= n;
        grant.first_byte += n;
      }
      return true;
    } else {
      return false;
    }
  }

 private:
  /// Every second byte of a page: how many copies a lock is held for.
  static constexpr std::size_t kMostPieces = kPageSize / 2;

  template <LockFor kWhat>
  [[gnu::always_inline]] static void copy(std::byte* frame, std::byte* here, std::uint64_t bytes) {
    if constexpr (kWhat == LockFor::write) {
      racy_copy(frame, here, bytes);
    } else {
      racy_copy(here, frame, bytes);
    }
  }

  /// `here`: the source, or where it lands.
  template <LockFor kWhat>
  [[gnu::always_inline]] static Outcome move(Device& target, const WorkRequest& request, std::byte* here) {
    RegionTable::Grant grant;
    const Rights need = kWhat == LockFor::write ? Rights::write : Rights::read;
    if (const Status status = target.regions().find(request.region, request.key, request.offset, request.bytes, need, &grant); !ok(status))
        [[unlikely]] {
      return {.status = status};
    }
    if (request.bytes - 1 < kPageSize - grant.first_byte % kPageSize) [[likely]] {  // within a page, and not empty
      if (in_usual_page<kWhat>(target.view(), grant, request.key, [&](std::byte* frame) { copy<kWhat>(frame, here, request.bytes); }))
          [[likely]]
        return {};
    }
    return move_pages<kWhat>(target, grant, request.key, here, request.bytes);
  }

  /// Runs touch(address in the frame view) under the lock of the grant's first page, in the common case. False: nothing has happened.
  template <LockFor kWhat, class Touch>
  [[gnu::always_inline]] static bool in_usual_page(const DeviceView& target, const RegionTable::Grant& grant, std::uint64_t key,
                                                   Touch&& touch) {
    if constexpr (requires { typename Translation::Usual; }) {
      const PageId page{grant.first_byte >> kPageShift};
      if (page.value >= target.pages) [[unlikely]]  // an entry that its owner has damaged
        return false;
      typename Translation::Usual usual;
      if (!usual.template try_lock<kWhat>(target, page)) [[unlikely]]
        return false;
      const bool valid = Translation::kPinned || RegionTable::still_valid(*grant.entry, key);
      if (valid) [[likely]]
        touch(target.frames + grant.first_byte);
      usual.unlock();
      return valid;
    } else {
      return false;
    }
  }

  /// Run by run.
  template <LockFor kWhat>
  [[gnu::noinline]] static Outcome move_pages(Device& target, RegionTable::Grant grant, std::uint64_t key, std::byte* here,
                                              std::uint64_t bytes) {
    Translation translation(target);
    for (std::uint64_t done = 0; done < bytes;) {
      const PageId page{(grant.first_byte + done) >> kPageShift};
      const std::uint64_t in_page = (grant.first_byte + done) % kPageSize;
      const std::uint64_t wanted = ((in_page + (bytes - done) - 1) >> kPageShift) + 1;
      if (page.value >= target.pages() || wanted > target.pages() - page.value) return {.status = Status::unmapped};  // as above
      std::uint64_t frame = 0;
      const std::uint64_t pages = translation.template try_lock_run<kWhat>(page, wanted, &frame);
      if (pages == 0) return {.resident = false, .missing = page};
      const bool valid = is_valid(target, grant, key, frame, pages);
      const std::uint64_t n = std::min(bytes - done, pages * kPageSize - in_page);
      if (valid) copy<kWhat>(target.frames() + frame * kPageSize + in_page, here + done, n);
      translation.unlock();
      if (!valid) return {.status = Status::revoked};
      done += n;
    }
    return {};
  }

  [[gnu::always_inline]] static Outcome atomic(Device& target, const WorkRequest& request) {
    if (request.atomic.op > AtomicOp::fetch_or) [[unlikely]]
      return {.status = Status::invalid};
    RegionTable::Grant grant;
    const Status status = target.regions().find(request.region, request.key, request.offset, sizeof(std::uint64_t), Rights::atomic, &grant);
    if (!ok(status)) [[unlikely]]
      return {.status = status};
    if (grant.first_byte % sizeof(std::uint64_t) != 0) [[unlikely]]
      return {.status = Status::align};
    Outcome outcome;
    if (in_usual_page<LockFor::write>(target.view(), grant, request.key,
                                      [&](std::byte* at) { outcome.old_value = apply_at(at, request.atomic); })) [[likely]] {
      return outcome;
    }
    return atomic_in_page(target, grant, request.key, request.atomic);
  }
  static std::uint64_t apply_at(std::byte* at, const AtomicArgs& args) { return apply(*reinterpret_cast<std::uint64_t*>(at), args); }

  [[gnu::noinline]] static Outcome atomic_in_page(Device& target, RegionTable::Grant grant, std::uint64_t key, AtomicArgs args) {
    Outcome outcome;
    std::uint64_t old_value = 0;
    with_page<LockFor::write>(target, grant, key, &outcome, [&](std::byte* at) { old_value = apply_at(at, args); });
    outcome.old_value = old_value;
    return outcome;
  }

  /// Runs touch(address in the frame view) under the lock of the grant's first page. If not, *outcome says why.
  template <LockFor kWhat, class Touch>
  [[gnu::always_inline]] static void with_page(Device& target, const RegionTable::Grant& grant, std::uint64_t key, Outcome* outcome,
                                               Touch&& touch) {
    const PageId page{grant.first_byte >> kPageShift};
    if (page.value >= target.pages()) [[unlikely]] {  // an entry that its owner has damaged; find() believed it
      outcome->status = Status::unmapped;
      return;
    }
    Translation translation(target);
    std::uint64_t frame = 0;
    if (!translation.template try_lock<kWhat>(page, &frame)) [[unlikely]] {
      outcome->resident = false;
      outcome->missing = page;
      return;
    }
    const bool valid = is_valid(target, grant, key, frame, 1);
    if (valid) [[likely]]
      touch(target.frames() + frame * kPageSize + grant.first_byte % kPageSize);
    translation.unlock();
    if (!valid) [[unlikely]]
      outcome->status = Status::revoked;
  }

  /// Under the lock: whether the request may touch what it has locked.
  [[gnu::always_inline]] static bool is_valid(Device& target, const RegionTable::Grant& grant, std::uint64_t key, std::uint64_t frame,
                                              std::uint64_t pages) {
    return Translation::kPinned || (RegionTable::still_valid(*grant.entry, key) && frame + pages <= target.pages());
  }
};

/// The product's.
using Firmware = BasicFirmware<ShadowTranslation>;

}  // namespace netvm::nic
