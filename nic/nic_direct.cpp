// Nic: the verbs, and what the direct way (direct_path.hpp) does off its hot path.
#include <algorithm>

#include "nic/direct_path.hpp"
#include "nic/look_at.hpp"
#include "nic/nic_impl.hpp"

namespace netvm::nic {

// ---- the direct way -------------------------------------------------------------------------------------------------------------------------

bool Nic::Impl::find_device(NodeId target) {
  Channel& channel = channels[target.value];
  DirectTarget& way = targets[target.value];
  const bool self = target == config.node;
  const auto closed = [&] { return channel.dead.load() || stopping.load(); };
  if (closed() || (config.mode != ShmMode::direct && !self)) return false;
  Device* found = self ? &device : fabric.device_of(target);
  if (found == nullptr) return false;
  const std::lock_guard guard(channel.lock);
  if (way.view.frames == nullptr) way.view = found->view();
  way.device.store(found, std::memory_order_release);  // release: partner is DirectTarget::open()'s acquire
  // Whoever closed the channel meanwhile has cleared the pointer before or after our store: look again.
  if (closed()) close_direct_way(target);
  return true;
}

bool Nic::Impl::direct_failed(NodeId target, const WorkRequest& request, Outcome* outcome) {
  if (!outcome->resident && (target != config.node || !execute_at_once(request, 0, outcome))) return false;
  if (!ok(outcome->status) && request.kind == WorkKind::write) {
    Channel& channel = channels[target.value];
    note_write_failure(channel, channel.error_era.load());
  }
  return true;
}

bool Nic::Impl::try_direct_vector(const RemoteRegion& to, std::span<const Segment> segments, Status* status) {
  Device* device_of_target = direct(to.node);
  if (device_of_target == nullptr) return false;
  Status first = Status::ok;
  std::uint64_t bytes = 0;
  for (std::size_t done = 0, taken = 0; done < segments.size(); done += taken) {
    Outcome outcome = Firmware::write_pieces(*device_of_target, to.id, to.key, segments.subspan(done), &taken, &bytes);
    if (!outcome.resident) [[unlikely]] {
      // All of it again, as packets: writing twice is writing once.
      const Segment& piece = segments[done];
      taken = 1;
      if (to.node != config.node || !execute_at_once(write_request(to, piece.offset, piece.data, piece.bytes), 0, &outcome)) return false;
    }
    if (ok(first)) first = outcome.status;
  }
  if (!ok(first)) [[unlikely]] {
    Channel& channel = channels[to.node.value];
    note_write_failure(channel, channel.error_era.load());
  } else if (to.node != config.node) {
    stats.add_one_sided(bytes);
  }
  *status = first;
  return true;
}

// The place of both in the channel's order is that of the write's look at the packets on their way: what other threads post meanwhile comes behind.
Status Nic::Impl::notify_direct(Device& target, const RemoteCounter& counter, std::uint64_t increment, NotifyMode mode, Status written) {
  if (!ok(written)) {
    (void)target.counters().increment_error(counter.id, env);
    return written;
  }
  if (mode == NotifyMode::ordered && channels[counter.node.value].failed.load()) [[unlikely]] {
    const Status status = target.counters().increment_error(counter.id, env);
    return ok(status) ? Status::cancelled : status;
  }
  const Status status = target.counters().increment(counter.id, increment, env);
  if (&target == &device && device.counters().any_marked()) drive();  // what it has set off at this very node
  return status;
}

// A source that its host cannot bring in: the write has failed before it began.
Status Nic::Impl::note_lost_source(NodeId target, Status why) {
  Channel& channel = channels[target.value];
  note_write_failure(channel, channel.error_era.load());
  return why;
}

Status Nic::Impl::notify_lost_source(const RemoteCounter& counter, std::uint64_t increment, Status why) {
  (void)note_lost_source(counter.node, why);
  post_notify(counter, increment, nullptr);  // as an error, by the line above
  return why;
}

// ---- blocking verbs -------------------------------------------------------------------------------------------------------------------------

Status Nic::write(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes) {
  return DirectPath<ShadowTranslation>::write(*this, to, offset, from, bytes);
}

Status Nic::read(const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes) {
  return DirectPath<ShadowTranslation>::read(*this, from, offset, to, bytes);
}

Status Nic::write_notify(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, const RemoteCounter& counter,
                         std::uint64_t increment, NotifyMode mode) {
  if (counter.node != to.node) [[unlikely]]
    return Status::invalid;
  return DirectPath<ShadowTranslation>::write(*this, to, offset, from, bytes, Notifying{counter, increment, mode});
}

Status Nic::notify(const RemoteCounter& counter, std::uint64_t increment) {
  if (!impl_->is_node(counter.node)) return Status::invalid;
  if (Device* target = impl_->direct(counter.node))
    return impl_->notify_direct(*target, counter, increment, NotifyMode::ordered, Status::ok);
  if (impl_->stopping.load()) return impl_->ended();
  if (impl_->channels[counter.node.value].dead.load()) return impl_->channels[counter.node.value].ended_with.load();
  impl_->post_notify(counter, increment, nullptr);
  return Status::ok;
}

void Nic::prefetch(const RemoteCounter& counter) {
  if (!impl_->is_node(counter.node)) return;
  if (Device* const target = impl_->direct(counter.node)) target->counters().prefetch(counter.id);
}

bool Nic::try_notify(const RemoteCounter& counter, std::uint64_t increment) {
  if (!impl_->is_node(counter.node)) return false;
  Device* const target = impl_->direct(counter.node);
  const bool told = target != nullptr && ok(impl_->notify_direct(*target, counter, increment, NotifyMode::own, Status::ok));
  (void)impl_->note_processor();  // whom it has woken reads this later than the counter
  return told;
}

Status Nic::write_vector(const RemoteRegion& to, std::span<const Segment> segments) { return write_segments(to, segments, Blocking{}); }

template <class End>
Status Nic::write_segments(const RemoteRegion& to, std::span<const Segment> segments, const End& end) {
  const auto nowhere = [](const Segment& piece) { return piece.data == nullptr && piece.bytes > 0; };
  if (!impl_->is_node(to.node) || std::any_of(segments.begin(), segments.end(), nowhere)) return end.now(*impl_, Status::invalid);
  const HeldSegments source(impl_->own, segments);
  if (!ok(source.status())) return end.now(*impl_, impl_->note_lost_source(to.node, source.status()));
  Status status = Status::ok;
  if (impl_->try_direct_vector(to, source.segments(), &status)) return end.now(*impl_, status);
  if (impl_->stopping.load()) return end.now(*impl_, impl_->ended());
  return end.later(*this,
                   [&](Completion* completion, WhenFull when_full) { impl_->post_vector(to, source.segments(), completion, when_full); });
}

Result<std::uint64_t> Nic::atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args) {
  return DirectPath<ShadowTranslation>::atomic(*this, on, offset, args);
}

void look_at(Nic& nic, const RemoteRegion& from, std::uint64_t offset, std::size_t bytes) {
  DirectPath<ShadowTranslation>::look(nic, from, offset, bytes);
}

// ---- posted verbs ---------------------------------------------------------------------------------------------------------------------------

void Nic::post_write(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, Completion* completion,
                     WhenFull when_full) {
  (void)DirectPath<ShadowTranslation>::write(*this, to, offset, from, bytes, Silently{}, Posted{completion, when_full});
}

void Nic::post_write_vector(const RemoteRegion& to, std::span<const Segment> segments, Completion* completion, WhenFull when_full) {
  (void)write_segments(to, segments, Posted{completion, when_full});
}

void Nic::post_read(const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes, Completion* completion,
                    WhenFull when_full) {
  (void)DirectPath<ShadowTranslation>::read(*this, from, offset, to, bytes, Posted{completion, when_full});
}

void Nic::post_atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args, Completion* completion, WhenFull when_full) {
  if (!impl_->is_node(on.node) || args.op > AtomicOp::fetch_or) return Completion::end(completion, env_, Status::invalid);
  Outcome outcome;
  if (DirectPath<ShadowTranslation>::execute_atomic(*impl_, on, offset, args, &outcome) != nullptr) {
    return Completion::end(completion, env_, outcome.status, outcome.old_value);
  }
  if (impl_->stopping.load()) [[unlikely]]
    return Completion::end(completion, env_, impl_->ended());
  impl_->post_atomic(on, offset, args, completion, when_full);
}

void Nic::post_write_notify(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, const RemoteCounter& counter,
                            std::uint64_t increment, NotifyMode mode, Completion* completion, WhenFull when_full) {
  const Posted end{completion, when_full};
  if (counter.node != to.node) return (void)end.now(*impl_, Status::invalid);
  (void)DirectPath<ShadowTranslation>::write(*this, to, offset, from, bytes, Notifying{counter, increment, mode}, end);
}

void Nic::post_notify(const RemoteCounter& counter, std::uint64_t increment, Completion* completion, WhenFull when_full) {
  if (!impl_->is_node(counter.node)) return Completion::end(completion, env_, Status::invalid);
  if (Device* target = impl_->direct(counter.node))
    return Completion::end(completion, env_, impl_->notify_direct(*target, counter, increment, NotifyMode::ordered, Status::ok));
  if (impl_->stopping.load()) [[unlikely]]
    return Completion::end(completion, env_, impl_->ended());
  impl_->post_notify(counter, increment, completion, when_full);
}

std::uint32_t Nic::packets_of(std::size_t bytes) const { return impl_->packets_of(bytes); }

void Nic::send(NodeId to, MessageKind kind, std::span<const std::byte> body) {
  NETVM_CHECK(impl_->is_node(to), "a message to node %u of %u", to.value, config_.nodes);
  NETVM_CHECK(body.size() <= kMaxMessage, "a message of %zu bytes; the longest has %llu", body.size(),
              static_cast<unsigned long long>(kMaxMessage));
  if (impl_->forked.load()) return;
  if (to == config_.node) return impl_->post_local(kind, body);
  (void)impl_->note_processor();
  impl_->post_message(to, kind, body);
}

}  // namespace netvm::nic
