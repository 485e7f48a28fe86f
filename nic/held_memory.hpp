// HeldMemory: the source or the landing place of a work request, kept where it is while the request is under way.
//
// Private memory is the common case and costs two compares. Memory of this node's own frames (through either view) may be evicted under a
// memory budget: its pages are pinned, before any page of the target is locked and before anything is sent (a fault taken while a peer's page is locked could
// wait for that very peer), and the bytes go through the frame view, which never faults into a handler.
//
// Invariants
//  1. From construction to destruction at() is readable (a landing place: writable) without a fault that anybody handles.
//  2. What cannot be pinned at once, because it is a large part of the budget, is staged in private memory: a source before, a landing place after.
//  3. The application's rights to a page are not looked at: coherent pages are the business of who calls.
// Threads: one object, one thread. The constructor blocks where pages have to be brought in.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "nic/verbs.hpp"
#include "runtime/host_vm.hpp"

namespace netvm::nic {

/// Which addresses belong to this node's frames.
class OwnMemory {
 public:
  /// `ended`: the NIC's: once it is true nothing is pinned any more (in a child made by fork() the host VM must not be touched).
  OwnMemory(HostVm& vm, const std::atomic<bool>& ended)
      : vm_(vm),
        ended_(ended),
        frames_(reinterpret_cast<std::uintptr_t>(vm.frame_base())),
        app_(reinterpret_cast<std::uintptr_t>(vm.app_base())),
        bytes_(vm.has_budget() ? vm.bytes() : 0),
        app_bytes_(app_ != 0 ? bytes_ : 0) {}

  /// Whether any page of it may be evicted.
  [[nodiscard]] bool may_go() const { return bytes_ != 0; }
  /// Whether the page of that address may be evicted.
  [[nodiscard]] bool covers(const void* at) const {
    if (bytes_ == 0) [[likely]]
      return false;
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    return address - frames_ < bytes_ || address - app_ < app_bytes_ || (app_bytes_ != 0 && vm_.windows().at(address) != nullptr);
  }
  /// Of an address that is covered: bytes from the start of the memory.
  [[nodiscard]] std::uint64_t offset_of(const void* at) const {
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    if (address - frames_ < bytes_) return address - frames_;
    std::uint64_t offset = address - app_;
    if (offset >= app_bytes_) static_cast<void>(vm_.offset_of(address, &offset));
    return offset;
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] HostVm& vm() const { return vm_; }
  [[nodiscard]] bool ended() const { return ended_.load(); }

 private:
  HostVm& vm_;
  const std::atomic<bool>& ended_;
  std::uintptr_t frames_;
  std::uintptr_t app_;
  std::uint64_t bytes_;  // 0: nothing is ever evicted
  std::uint64_t app_bytes_;
};

class HeldMemory {
 public:
  enum class As : std::uint8_t {
    source,
    landing,        ///< of a request that ends before this object does
    landing_later,  ///< of one that may end anywhere: it is not staged
    source_later,   ///< of one that is read when it starts: it is not staged either
  };

  HeldMemory(const OwnMemory& own, const void* at, std::uint64_t bytes, As as) : at_(static_cast<std::byte*>(const_cast<void*>(at))) {
    if (own.covers(at) && bytes != 0 && !own.ended()) [[unlikely]]
      hold(own, bytes, as);
  }

  /// Why it cannot be held: then at() must not be touched.
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] std::byte* at() const { return at_; }
  /// A landing place whose bytes have come: puts them where they belong. Returns `read`, or why that failed.
  Status finish(Status read);
  [[nodiscard]] bool pinned() const { return pins_.holds(); }
  [[nodiscard]] bool is_private() const { return !pins_.holds() && stage_ == nullptr; }
  void release() { pins_.release(); }
  /// For who keeps the memory longer than this object.
  [[nodiscard]] FramePins take_pins() { return std::move(pins_); }

 private:
  struct Stage {
    HostVm& vm;
    std::uint64_t offset;
    std::uint64_t bytes;
    std::vector<std::byte> memory;
    /// Copies between the frames and `memory`, some pages at a time.
    Status move(bool out);
  };
  void hold(const OwnMemory& own, std::uint64_t bytes, As as);

  std::byte* at_;
  Status status_ = Status::ok;
  FramePins pins_;
  std::unique_ptr<Stage> stage_;
};

/// The same for the pieces of a vectored write.
class HeldSegments {
 public:
  HeldSegments(const OwnMemory& own, std::span<const Segment> segments);
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] std::span<const Segment> segments() const { return segments_; }

 private:
  void hold(const OwnMemory& own);

  std::span<const Segment> segments_;
  Status status_ = Status::ok;
  std::vector<Segment> moved_;  // the pieces, with addresses that stay
  std::vector<HeldMemory> held_;
};

}  // namespace netvm::nic
