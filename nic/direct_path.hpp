// The direct way of Nic: the initiator executes the target's firmware step. A template on the translation: the library instantiates the
// product's (ShadowTranslation); netvm-perf measures it against the same code over others, StaticPinning above all.
//
// The hot path of a short put, top to bottom (try_short): is the source private memory (two compares), is the channel free of packets (two loads), region
// entry (key, range, rights: one line), page lock (a store and two loads), key again, copy, unlock (a store), two statistics. No allocation, no system
// call, no locked instruction, and no call: it either does all of that in registers, or nothing, and leaves it to who can do everything (write_any).
//
// Invariants
//  1. A request goes directly only while nothing of its channel is on its way in packets: so the channel's order holds.
//  2. False means that nothing has happened that may not happen again: the caller sends packets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nic/held_memory.hpp"
#include "nic/nic_impl.hpp"

namespace netvm::nic {

inline WorkRequest write_request(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes) {
  return {.kind = WorkKind::write,
          .region = to.id,
          .key = to.key,
          .offset = offset,
          .bytes = bytes,
          .source = static_cast<const std::byte*>(from)};
}
inline WorkRequest read_request(const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
  return {
      .kind = WorkKind::read, .region = from.id, .key = from.key, .offset = offset, .bytes = bytes, .landing = static_cast<std::byte*>(to)};
}
inline WorkRequest atomic_request(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args) {
  return {.kind = WorkKind::atomic, .region = on.id, .key = on.key, .offset = offset, .bytes = sizeof(std::uint64_t), .atomic = args};
}

/// Executes requests here and now, over one translation.
template <class Translation>
class DirectPath {
 public:
  /// Blocking verbs: Nic's own are those over ShadowTranslation.
  static Status write(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes) {
    if (try_short<LockFor::write>(*nic.impl_, to, offset, static_cast<std::byte*>(const_cast<void*>(from)), bytes) != nullptr) [[likely]]
      return Status::ok;  // the source is only read
    return write_any(nic, to, offset, from, bytes);
  }
  static Status read(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
    if (try_short<LockFor::read>(*nic.impl_, from, offset, static_cast<std::byte*>(to), bytes) != nullptr) [[likely]]
      return Status::ok;
    return read_any(nic, from, offset, to, bytes);
  }
  static Result<std::uint64_t> atomic(Nic& nic, const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args) {
    Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(on.node) || args.op > AtomicOp::fetch_or) [[unlikely]]
      return Status::invalid;
    Outcome outcome;
    if (execute_atomic(impl, on, offset, args, &outcome) == nullptr) [[unlikely]]
      return atomic_by_packet(nic, on, offset, args);
    if (!ok(outcome.status)) [[unlikely]]
      return outcome.status;
    return outcome.old_value;
  }

 private:
  friend class Nic;
  friend class QueuePair;

  /// A short access where nothing is unusual, without any call. Returns the target's device, or null: nothing has happened.
  template <LockFor kWhat>
  [[gnu::always_inline]] static Device* try_short(Nic::Impl& impl, const RemoteRegion& at, std::uint64_t offset, std::byte* here,
                                                  std::size_t bytes) {
    if (!impl.is_node(at.node) || (!Translation::kPinned && impl.own.covers(here))) [[unlikely]]
      return nullptr;
    Device* device = impl.direct_if_found(at.node);
    if (device == nullptr || !BasicFirmware<Translation>::template try_short<kWhat>(*device, at, offset, here, bytes)) [[unlikely]]
      return nullptr;
    if (at.node != impl.config.node) [[likely]]
      impl.stats.add_one_sided(bytes);
    return device;
  }

  [[gnu::noinline]] static Status write_any(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes) {
    const Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(to.node)) [[unlikely]]
      return Status::invalid;
    if (!Translation::kPinned && impl.own.covers(from)) [[unlikely]]
      return write_held(nic, to, offset, from, bytes);
    return write_from(nic, to, offset, from, bytes);
  }
  [[gnu::noinline]] static Status read_any(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
    const Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(from.node)) [[unlikely]]
      return Status::invalid;
    if (!Translation::kPinned && impl.own.covers(to)) [[unlikely]]
      return read_held(nic, from, offset, to, bytes);
    return read_to(nic, from, offset, to, bytes);
  }

  /// Executes here and now what make() says: it is asked again where things did not simply work, so that no request lies in memory on the way.
  /// Returns the target's device, or null: invariant 2.
  template <class MakeRequest>
  [[gnu::always_inline]] static Device* execute(Nic::Impl& impl, NodeId target, MakeRequest&& make, Outcome* outcome) {
    Device* device = impl.direct(target);
    if (device == nullptr) [[unlikely]]
      return nullptr;
    const WorkRequest request = make();
    *outcome = BasicFirmware<Translation>::execute(*device, request);
    if (!outcome->resident || !ok(outcome->status)) [[unlikely]] {
      const WorkRequest again = make();
      Outcome failed = *outcome;
      const bool ended = impl.direct_failed(target, again, &failed);
      *outcome = failed;
      return ended ? device : nullptr;
    }
    if (target != impl.config.node) [[likely]]
      impl.stats.add_one_sided(request.bytes);
    return device;
  }
  [[gnu::always_inline]] static Device* execute_write(Nic::Impl& impl, const RemoteRegion& to, std::uint64_t offset, const void* from,
                                                      std::size_t bytes, Outcome* outcome) {
    return execute(
        impl, to.node, [&] { return write_request(to, offset, from, bytes); }, outcome);
  }
  [[gnu::always_inline]] static Device* execute_read(Nic::Impl& impl, const RemoteRegion& from, std::uint64_t offset, void* to,
                                                     std::size_t bytes, Outcome* outcome) {
    return execute(
        impl, from.node, [&] { return read_request(from, offset, to, bytes); }, outcome);
  }
  [[gnu::always_inline]] static Device* execute_atomic(Nic::Impl& impl, const RemoteRegion& on, std::uint64_t offset,
                                                       const AtomicArgs& args, Outcome* outcome) {
    return execute(
        impl, on.node, [&] { return atomic_request(on, offset, args); }, outcome);
  }

  [[gnu::always_inline]] static Status write_from(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from,
                                                  std::size_t bytes) {
    Outcome outcome;
    if (execute_write(*nic.impl_, to, offset, from, bytes, &outcome) != nullptr) [[likely]]
      return outcome.status;
    return write_by_packets(nic, to, offset, from, bytes);
  }
  [[gnu::noinline]] static Status write_by_packets(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from,
                                                   std::size_t bytes) {
    Nic::Impl& impl = *nic.impl_;
    if (impl.stopping.load()) return impl.ended();
    Completion completion;
    impl.post_move(Opcode::write, {.region = to, .offset = offset, .source = static_cast<const std::byte*>(from), .bytes = bytes},
                   &completion);
    return nic.wait(completion);
  }
  [[gnu::noinline]] static Status write_held(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes) {
    const HeldMemory source(nic.impl_->own, from, bytes, HeldMemory::As::source);
    if (!ok(source.status())) return nic.impl_->note_lost_source(to.node, source.status());
    return write_from(nic, to, offset, source.at(), bytes);
  }

  [[gnu::always_inline]] static Status read_to(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
    Outcome outcome;
    if (execute_read(*nic.impl_, from, offset, to, bytes, &outcome) != nullptr) [[likely]]
      return outcome.status;
    return read_by_packets(nic, from, offset, to, bytes);
  }
  [[gnu::noinline]] static Status read_by_packets(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
    Nic::Impl& impl = *nic.impl_;
    if (impl.stopping.load()) return impl.ended();
    Completion completion;
    impl.post_move(Opcode::read, {.region = from, .offset = offset, .landing = static_cast<std::byte*>(to), .bytes = bytes}, &completion);
    return nic.wait(completion);
  }
  [[gnu::noinline]] static Status read_held(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
    HeldMemory landing(nic.impl_->own, to, bytes, HeldMemory::As::landing);
    if (!ok(landing.status())) return landing.status();
    return landing.finish(read_to(nic, from, offset, landing.at(), bytes));
  }

  [[gnu::noinline]] static Result<std::uint64_t> atomic_by_packet(Nic& nic, const RemoteRegion& on, std::uint64_t offset,
                                                                  const AtomicArgs& args) {
    Nic::Impl& impl = *nic.impl_;
    if (impl.stopping.load()) return impl.ended();
    Completion completion;
    impl.post_atomic(on, offset, args, &completion);
    if (const Status status = nic.wait(completion); !ok(status)) return status;
    return completion.old_value();
  }
};

}  // namespace netvm::nic
