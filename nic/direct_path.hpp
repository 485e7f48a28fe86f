// The direct way of Nic: the initiator executes the target's firmware step. A template on the translation: the library instantiates the
// product's (ShadowTranslation); netvm-perf measures it against the same code over others, StaticPinning above all.
//
// The hot path of a put, top to bottom: is the channel free of packets (two loads), region entry (key, range, rights: one line), page
// lock (a store and a load), key again, copy, unlock (a store), two statistics. No allocation, no system call, no locked instruction.
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
    Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(to.node)) return Status::invalid;
    const HeldMemory source(impl.own, from, bytes, HeldMemory::As::source);
    if (!ok(source.status())) [[unlikely]]
      return impl.note_lost_source(to.node, source.status());
    Outcome outcome;
    if (execute(impl, to.node, write_request(to, offset, source.at(), bytes), &outcome)) [[likely]]
      return outcome.status;
    if (impl.stopping.load()) [[unlikely]]
      return impl.ended();
    Completion completion;
    impl.post_move(Opcode::write, {.region = to, .offset = offset, .source = source.at(), .bytes = bytes}, &completion);
    return nic.wait(completion);
  }
  static Status read(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
    Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(from.node)) return Status::invalid;
    HeldMemory landing(impl.own, to, bytes, HeldMemory::As::landing);
    if (!ok(landing.status())) [[unlikely]]
      return landing.status();
    Outcome outcome;
    if (execute(impl, from.node, read_request(from, offset, landing.at(), bytes), &outcome)) [[likely]]
      return landing.finish(outcome.status);
    if (impl.stopping.load()) [[unlikely]]
      return impl.ended();
    Completion completion;
    impl.post_move(Opcode::read, {.region = from, .offset = offset, .landing = landing.at(), .bytes = bytes}, &completion);
    return landing.finish(nic.wait(completion));
  }
  static Result<std::uint64_t> atomic(Nic& nic, const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args) {
    Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(on.node) || args.op > AtomicOp::fetch_or) return Status::invalid;
    Outcome outcome;
    if (execute(impl, on.node, atomic_request(on, offset, args), &outcome)) [[likely]] {
      if (!ok(outcome.status)) return outcome.status;
      return outcome.old_value;
    }
    if (impl.stopping.load()) [[unlikely]]
      return impl.ended();
    Completion completion;
    impl.post_atomic(on, offset, args, &completion);
    if (const Status status = nic.wait(completion); !ok(status)) return status;
    return completion.old_value();
  }

 private:
  friend class Nic;

  /// Invariant 2.
  static bool execute(Nic::Impl& impl, NodeId target, const WorkRequest& request, Outcome* outcome) {
    Device* device = impl.direct(target);
    if (device == nullptr) [[unlikely]]
      return false;
    *outcome = BasicFirmware<Translation>::execute(*device, request);
    if (!outcome->resident || !ok(outcome->status)) [[unlikely]]
      return impl.direct_failed(target, request, outcome);
    if (target != impl.config.node) {
      impl.stats.add(Stat::one_sided_ops);
      impl.stats.add(Stat::one_sided_bytes, request.bytes);
    }
    return true;
  }
};

}  // namespace netvm::nic
