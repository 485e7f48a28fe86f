// The direct way of Nic: the initiator executes the target's firmware step. A template on the translation: the library instantiates the
// product's (ShadowTranslation); netvm-perf measures it against the same code over others, StaticPinning above all.
//
// The hot path of a short put, top to bottom (try_short): is the source private memory (two compares), is the channel free of packets (two loads), region
// entry (key, range, rights: one line), page lock (a store and a load), key again, copy, unlock (a store), two statistics. No allocation, no system
// call, no locked instruction, and no call: it either does all of that in registers, or nothing, and leaves it to who can do everything (write_any).
// Every write goes through write(), whatever it notifies (Silently, Notifying) and wherever its end shows (Blocking, Posted).
//
// Invariants
//  1. A request goes directly only while nothing of its channel is on its way in packets: so the channel's order holds.
//  2. False means that nothing has happened that may not happen again: the caller sends packets.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

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

/// A posted read's landing place in evictable memory, kept until the read ends.
struct HeldLanding {
  HeldLanding(Env& the_env, HeldMemory&& where, Completion* whose) : env(the_env), memory(std::move(where)), user(whose) {}
  static void on_end(Completion& self, void* context) {
    const std::unique_ptr<HeldLanding> held(static_cast<HeldLanding*>(context));
    Completion* const user = held->user;
    const Status status = self.status();
    held->memory.release();
    Completion::end(user, held->env, status);
  }
  Env& env;
  HeldMemory memory;
  Completion* user;
  Completion completion{&on_end, this};
};

/// What a write does besides. Nothing:
struct Silently {
  static void prefetch(Nic::Impl& /*impl*/, NodeId /*target*/) {}
  static Status after(Nic::Impl& /*impl*/, Device& /*target*/, Status written) { return written; }
  static Status lost_source(Nic::Impl& impl, NodeId target, Status why) { return impl.note_lost_source(target, why); }
  static void mark(Posting& /*posting*/) {}
};
/// An increment of an event counter of its target.
struct Notifying {
  RemoteCounter counter;
  std::uint64_t increment;
  NotifyMode mode;

  /// The counter's line comes at the same time as that of the bytes.
  void prefetch(Nic::Impl& impl, NodeId target) const {
    if (!impl.is_node(target)) [[unlikely]]
      return;
    if (Device* device = impl.targets[target.value].open()) device->counters().prefetch(counter.id);
  }
  Status after(Nic::Impl& impl, Device& target, Status written) const {
    return impl.notify_direct(target, counter, increment, mode, written);
  }
  Status lost_source(Nic::Impl& impl, NodeId /*target*/, Status why) const { return impl.notify_lost_source(counter, increment, why); }
  void mark(Posting& posting) const {
    posting.notify = mode == NotifyMode::own ? NotifyFlag::own : NotifyFlag::ordered;
    posting.counter = counter.id;
    posting.increment = increment;
  }
};

/// Where the end of an operation shows. In what the verb returns, which blocks:
struct Blocking {
  static Status now(Nic::Impl& /*impl*/, Status status) { return status; }
  /// What goes as packets: post(completion) sends it.
  template <class Post>
  static Status later(Nic& nic, Post&& post) {
    Completion completion;
    post(&completion, WhenFull::queue);
    return nic.wait(completion);
  }
};
/// In a completion (may be null). What the verb returns means nothing.
struct Posted {
  Completion* completion;
  WhenFull when_full;

  Status now(Nic::Impl& impl, Status status) const {
    Completion::end(completion, impl.env, status);
    return status;
  }
  template <class Post>
  Status later(Nic& /*nic*/, Post&& post) const {
    post(completion, when_full);
    return Status::ok;
  }
};

/// The same, of a read into evictable memory that is kept until then.
struct PostedHeld {
  const Posted& end;
  HeldMemory& landing;

  Status now(Nic::Impl& impl, Status status) const { return end.now(impl, status); }
  template <class Post>
  Status later(Nic& nic, Post&& post) const {
    if (landing.is_private()) return end.later(nic, post);
    auto* held = new HeldLanding(nic.env(), std::move(landing), end.completion);
    return Posted{&held->completion, end.when_full}.later(nic, post);
  }
};

/// Executes requests here and now, over one translation.
template <class Translation>
class DirectPath {
 public:
  /// The verbs: Nic's own are those over ShadowTranslation. Also: Silently, Notifying (whose counter is the target's). End: Blocking, Posted.
  template <class Also = Silently, class End = Blocking>
  [[gnu::always_inline]] static Status write(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes,
                                             const Also& also = {}, const End& end = {}) {
    if (!is_short_copy(bytes)) return write_long(nic, to, offset, from, bytes, also, end);
    Nic::Impl& impl = *nic.impl_;
    also.prefetch(impl, to.node);
    auto* const source = static_cast<std::byte*>(const_cast<void*>(from));  // it is only read
    if (Device* target = try_short<LockFor::write>(nic.hot_, to, offset, source, bytes)) [[likely]]
      return end.now(impl, also.after(impl, *target, Status::ok));
    return write_any(nic, to, offset, from, bytes, also, end);
  }
  template <class End = Blocking>
  [[gnu::always_inline]] static Status read(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes,
                                            const End& end = {}) {
    if (!is_short_copy(bytes)) return read_long(nic, from, offset, to, bytes, end);
    Nic::Impl& impl = *nic.impl_;
    if (try_short<LockFor::read>(nic.hot_, from, offset, static_cast<std::byte*>(to), bytes) != nullptr) [[likely]]
      return end.now(impl, Status::ok);
    return read_any(nic, from, offset, to, bytes, end);
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
  /// See look_at(). By the usual way or not at all.
  static void look(const Nic& nic, const RemoteRegion& from, std::uint64_t offset, std::size_t bytes) {
    if (from.node.value >= nic.hot_.nodes) return;
    const DirectTarget& target = nic.hot_.targets[from.node.value];
    if (target.open() == nullptr) return;
    std::array<std::byte, kPageSize> nowhere;
    for (std::size_t n = 0; bytes > 0; offset += n, bytes -= n) {
      n = std::min(bytes, nowhere.size());
      if (!BasicFirmware<Translation>::template try_long<LockFor::read>(target.view, from, offset, nowhere.data(), n)) return;
    }
  }

 private:
  friend class Nic;
  friend class QueuePair;

  /// An access where nothing is unusual. Returns the target's device, or null: nothing has happened that may not happen again. Without any call; of a
  /// short piece:
  template <LockFor kWhat>
  [[gnu::always_inline]] static Device* try_short(const Nic::Hot& nic, const RemoteRegion& at, std::uint64_t offset, std::byte* here,
                                                  std::size_t bytes) {
    return try_usual(nic, at, here, bytes, [&](const DeviceView& target) {
      return BasicFirmware<Translation>::template try_short<kWhat>(target, at, offset, here, bytes);
    });
  }
  /// Of any length.
  template <LockFor kWhat>
  [[gnu::always_inline]] static Device* try_long(const Nic::Hot& nic, const RemoteRegion& at, std::uint64_t offset, std::byte* here,
                                                 std::size_t bytes) {
    return try_usual(nic, at, here, bytes, [&](const DeviceView& target) {
      return BasicFirmware<Translation>::template try_long<kWhat>(target, at, offset, here, bytes);
    });
  }
  template <class Step>
  [[gnu::always_inline]] static Device* try_usual(const Nic::Hot& nic, const RemoteRegion& at, const std::byte* here, std::size_t bytes,
                                                  Step&& step) {
    if (here == nullptr || at.node.value >= nic.nodes) [[unlikely]]
      return nullptr;
    if (!Translation::kPinned && nic.may_go && nic.impl->own.covers(here)) [[unlikely]]
      return nullptr;
    const DirectTarget& target = nic.targets[at.node.value];
    Device* const device = target.open();
    if (device == nullptr || !step(target.view)) [[unlikely]]
      return nullptr;
    if (at.node.value != nic.self) [[likely]]
      nic.stats->add_one_sided(bytes);
    return device;
  }
  /// The verbs where it is not short. Functions of their own that are jumped to, and small: a long copy drives all that they use out of the first-level cache,
  /// the stack, too, and each line of it that is needed comes back.
  template <class Also, class End>
  [[gnu::noinline]] static Status write_long(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes,
                                             Also also, End end) {
    Nic::Impl& impl = *nic.impl_;
    also.prefetch(impl, to.node);
    auto* const source = static_cast<std::byte*>(const_cast<void*>(from));  // it is only read
    if (Device* target = try_long<LockFor::write>(nic.hot_, to, offset, source, bytes)) [[likely]]
      return end.now(impl, also.after(impl, *target, Status::ok));
    return write_any(nic, to, offset, from, bytes, also, end);
  }
  template <class End>
  [[gnu::noinline]] static Status read_long(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes,
                                            End end) {
    Nic::Impl& impl = *nic.impl_;
    if (try_long<LockFor::read>(nic.hot_, from, offset, static_cast<std::byte*>(to), bytes) != nullptr) [[likely]]
      return end.now(impl, Status::ok);
    return read_any(nic, from, offset, to, bytes, end);
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
  /// A write or a read whose memory on this side stays.
  template <LockFor kWhat>
  static Device* execute_move(Nic::Impl& impl, const RemoteRegion& at, std::uint64_t offset, std::byte* here, std::size_t bytes,
                              Outcome* outcome) {
    const auto make = [&] {
      return kWhat == LockFor::write ? write_request(at, offset, here, bytes) : read_request(at, offset, here, bytes);
    };
    return execute(impl, at.node, make, outcome);
  }
  [[gnu::always_inline]] static Device* execute_atomic(Nic::Impl& impl, const RemoteRegion& on, std::uint64_t offset,
                                                       const AtomicArgs& args, Outcome* outcome) {
    return execute(
        impl, on.node, [&] { return atomic_request(on, offset, args); }, outcome);
  }

  // ---- what is unusual. `also` and `end` by value: of what the hot path keeps in registers nothing has an address.
  template <class Also, class End>
  [[gnu::noinline]] static Status write_any(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes,
                                            Also also, End end) {
    Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(to.node) || (from == nullptr && bytes > 0)) return end.now(impl, Status::invalid);
    if (Translation::kPinned || !impl.own.covers(from)) return write_from(nic, to, offset, from, bytes, also, end);
    const HeldMemory source(impl.own, from, bytes, HeldMemory::As::source);
    if (!ok(source.status())) return end.now(impl, also.lost_source(impl, to.node, source.status()));
    return write_from(nic, to, offset, source.at(), bytes, also, end);
  }
  /// From memory that stays.
  template <class Also, class End>
  static Status write_from(Nic& nic, const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, const Also& also,
                           const End& end) {
    Nic::Impl& impl = *nic.impl_;
    auto* const source = static_cast<std::byte*>(const_cast<void*>(from));  // it is only read
    Outcome outcome;
    if (Device* target = execute_move<LockFor::write>(impl, to, offset, source, bytes, &outcome))
      return end.now(impl, also.after(impl, *target, outcome.status));
    if (impl.stopping.load()) return end.now(impl, impl.ended());
    Posting posting{.region = to, .offset = offset, .source = source, .bytes = bytes};
    also.mark(posting);
    return end.later(nic,
                     [&](Completion* completion, WhenFull when_full) { impl.post_move(Opcode::write, posting, completion, when_full); });
  }

  template <class End>
  [[gnu::noinline]] static Status read_any(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes, End end) {
    Nic::Impl& impl = *nic.impl_;
    if (!impl.is_node(from.node) || (to == nullptr && bytes > 0)) return end.now(impl, Status::invalid);
    if (Translation::kPinned || !impl.own.covers(to)) return read_to(nic, from, offset, to, bytes, end);
    return read_held(nic, from, offset, to, bytes, end);
  }
  /// Into memory that stays.
  template <class End>
  static Status read_to(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes, const End& end) {
    Nic::Impl& impl = *nic.impl_;
    auto* const landing = static_cast<std::byte*>(to);
    Outcome outcome;
    if (execute_move<LockFor::read>(impl, from, offset, landing, bytes, &outcome) != nullptr) return end.now(impl, outcome.status);
    if (impl.stopping.load()) return end.now(impl, impl.ended());
    const Posting posting{.region = from, .offset = offset, .landing = landing, .bytes = bytes};
    return end.later(nic,
                     [&](Completion* completion, WhenFull when_full) { impl.post_move(Opcode::read, posting, completion, when_full); });
  }
  static Status read_held(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes, const Blocking& end) {
    HeldMemory landing(nic.impl_->own, to, bytes, HeldMemory::As::landing);
    if (!ok(landing.status())) return landing.status();
    return landing.finish(read_to(nic, from, offset, landing.at(), bytes, end));
  }
  /// The landing place is kept until the read ends.
  static Status read_held(Nic& nic, const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes, const Posted& end) {
    Nic::Impl& impl = *nic.impl_;
    HeldMemory landing(impl.own, to, bytes, HeldMemory::As::landing_later);
    if (!ok(landing.status())) return end.now(impl, landing.status());
    std::byte* const at = landing.at();
    return read_to(nic, from, offset, at, bytes, PostedHeld{end, landing});
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
