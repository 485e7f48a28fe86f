#include "nic/nic.hpp"

#include <mutex>

#include "nic/nic_impl.hpp"
#include "runtime/check.hpp"
#include "runtime/log.hpp"

namespace netvm::nic {

Nic::Impl::Impl(const NicConfig& c, Env& e, HostVm& v, Fabric& f, Device& d, Stats& s)
    : config(c),
      env(e),
      vm(v),
      own(v, stopping),
      fabric(f),
      device(d),
      stats(s),
      max_packet(f.max_packet()),
      loses(!f.reliable()),
      targets(new DirectTarget[c.nodes]),
      channels(new Channel[c.nodes]),
      inbound(new Inbound[c.nodes]),
      requests({targets.get(), c.nodes}),
      bank({.nodes = c.nodes, .slots = c.system_buffers, .first_credit = c.first_sequence}),
      lifeline(std::make_shared<Lifeline>(Lifeline{this})),
      host_faults(e),
      allowed{PageId{0}, v.pages()},
      processors_seen(new std::atomic<std::uint64_t>[c.nodes]()),
      errors_returned(new std::atomic<std::uint64_t>[EventCounters::kEntries]()) {
  NETVM_CHECK(max_packet >= kPageSize + 1024, "a fabric's packets of %zu bytes do not hold a page", max_packet);
  NETVM_CHECK(d.node() == c.node && d.nodes() == c.nodes, "the device of node %u of %u is not that of node %u of %u", d.node().value,
              d.nodes(), c.node.value, c.nodes);
  NETVM_CHECK(d.pages() == v.pages() && d.frames() == v.frame_base(), "the device is not over the frames of the host VM");
  const Transmitter::Options sending{.first_sequence = c.first_sequence,
                                     .first_credit = c.first_sequence,
                                     .initial_credits = CreditBank::initial_share(c.nodes, c.system_buffers),
                                     .max_payload = max_payload(),
                                     .keeps = loses,
                                     .reliability = c.reliability};
  for (std::uint32_t node = 0; node < c.nodes; ++node) {
    channels[node].transmitter = Transmitter(sending);
    channels[node].acknowledger = Acknowledger(c.first_sequence, c.reliability);
    channels[node].own_limit.store(bank.limit(NodeId{node}));
    channels[node].own_limit_told.store(bank.limit(NodeId{node}));
    inbound[node].window = SequenceWindow(c.first_sequence);
    inbound[node].credits_heard = c.first_sequence + sending.initial_credits;
  }
}

Nic::Nic(const NicConfig& config, Env& env, HostVm& vm, Fabric& fabric, Device& device, Stats& stats)
    : config_(config),
      env_(env),
      stats_(stats),
      spins_(env.spin_budget()),
      impl_(std::make_unique<Impl>(config, env, vm, fabric, device, stats)) {
  hot_ = {impl_.get(), impl_->targets.get(), &stats, config.node.value, config.nodes, impl_->own.may_go()};
  impl_->events = std::make_unique<CounterEvents>(*this, device.counters(), env, impl_->has_engine);
  vm.set_residency_listener(&device.shadow());
  fabric.attach(impl_.get());
}

Nic::~Nic() {
  if (impl_->forked.load()) return;  // nothing of it is ours to end
  shut_down();
  // In the simulator, outside of its run(): fibers that wait in this NIC are abandoned with it, as all of them are.
  if (env_.can_park()) {
    impl_->events->close();
    impl_->host_faults.close();  // the last act of its tasks is to drive
  }
  impl_->fabric.attach(nullptr);
  impl_->lifeline->nic = nullptr;
  impl_->vm.set_residency_listener(nullptr);
}

void Nic::Impl::on_fork(void* self) noexcept {
  auto& impl = *static_cast<Impl*>(self);
  impl.forked.store(true);
  impl.stopping.store(true);
  impl.close_direct_ways();
}

// ---- regions and counters ---------------------------------------------------------------------------------------------------------------

Result<RemoteRegion> Nic::region_create(PageRange pages, Rights rights) {
  if (impl_->forked.load()) return Status::forked;
  const std::uint64_t all = impl_->vm.pages();
  if (pages.first.value > all || pages.count > all - pages.first.value) return Status::range;
  if (pages.count == 0 || !allows(Rights::all, rights)) return Status::invalid;
  const std::lock_guard guard(impl_->control);
  if (pages.first.value < impl_->allowed.first.value || pages.end() > impl_->allowed.end()) return Status::reserved;
  return impl_->device.regions().create(env_, pages, rights);
}

void Nic::allow_regions(PageRange pages) {
  const std::lock_guard guard(impl_->control);
  impl_->allowed = pages;
}

Status Nic::region_revoke(const RemoteRegion& region) {
  if (impl_->forked.load()) return Status::forked;
  const std::lock_guard guard(impl_->control);
  return impl_->device.regions().revoke(region, impl_->device.shadow());
}

Status Nic::prefetch(PageRange pages) {
  if (impl_->forked.load()) return Status::forked;
  const std::uint64_t all = impl_->vm.pages();
  if (pages.first.value > all || pages.count > all - pages.first.value) return Status::range;
  impl_->vm.prefetch(pages);
  return Status::ok;
}

Result<RemoteCounter> Nic::counter_create(CounterUse use) {
  if (impl_->forked.load()) return Status::forked;
  const std::lock_guard guard(impl_->control);
  const Result<CounterId> id = impl_->device.counters().create(use == CounterUse::library);
  if (!id) return id.status();
  impl_->errors_returned[id.value().value].store(0);
  return RemoteCounter{config_.node, id.value()};
}

Status Nic::counter_destroy(const RemoteCounter& counter) {
  if (impl_->forked.load()) return Status::forked;
  if (counter.node != config_.node) return Status::counter_range;
  (void)impl_->events->clear_handler(counter.id);
  Status status = Status::ok;
  {
    const std::lock_guard guard(impl_->control);
    status = impl_->device.counters().destroy(counter.id, env_);
  }
  if (ok(status)) {  // what another thread has set or posted in between; whoever comes now finds no counter
    (void)impl_->events->clear_handler(counter.id);
    (void)impl_->events->cancel_all(counter.id);
  }
  return status;
}

std::uint64_t Nic::counter_value(const RemoteCounter& mine) const {
  EventCounters& counters = impl_->device.counters();
  if (mine.node != config_.node || !counters.exists(mine.id)) return 0;
  return counters.at(mine.id).ok.load(std::memory_order_acquire);  // acquire: partner is the release of the increment
}

std::uint64_t Nic::counter_errors(const RemoteCounter& mine) const {
  EventCounters& counters = impl_->device.counters();
  if (mine.node != config_.node || !counters.exists(mine.id)) return 0;
  return counters.at(mine.id).error.load(std::memory_order_acquire);  // acquire: partner is the release of the increment
}

WaitWord& Nic::counter_word(const RemoteCounter& mine) const {
  NETVM_CHECK(mine.node == config_.node && mine.id.value < EventCounters::kEntries, "counter %u of node %u is not this node's",
              mine.id.value, mine.node.value);
  return impl_->device.counters().at(mine.id).waiters;
}

// ---- endings ------------------------------------------------------------------------------------------------------------------------------

void Nic::set_message_handler(MessageKind kind, MessageHandler* handler) {
  const auto index = static_cast<std::size_t>(kind);
  NETVM_CHECK(index > 0 && index < kMessageKinds, "message kind %zu does not travel", index);
  impl_->handlers[index].store(handler, std::memory_order_release);  // release: partner is deliver()'s acquire
  if (handler != nullptr) return;
  // Whoever drives now may be inside the old handler: once the role has been free, nobody is.
  const std::lock_guard guard(impl_->driver.role);
}

void Nic::clear_errors(NodeId target) {
  if (!impl_->is_node(target)) return;
  Channel& channel = impl_->channels[target.value];
  channel.error_era.fetch_add(1);  // first: a failure of the old era that is noticed now no longer counts
  channel.failed.store(false);
}

void Nic::shut_down() {
  if (impl_->stopping.exchange(true)) return;
  impl_->close_direct_ways();
  impl_->requests.end_all(Status::cancelled, env_);
  impl_->events->stop();
  nudge_engine();
  const std::lock_guard guard(impl_->parked_lock);
  for (Impl::Parked* parked = impl_->parked; parked != nullptr; parked = parked->next) parked->word->announce(env_);
}

Status Nic::close() {
  if (impl_->forked.load()) return Status::forked;
  if (!env_.can_park() || impl_->driver.who.load() == env_.context() || impl_->events->runs_here()) {
    log_line(
        kLogError,
        "Nic::close() was called from a handler of the very NIC, and would wait for itself: call shut_down() there, and close() elsewhere");
    return Status::invalid;
  }
  impl_->linger();
  shut_down();
  impl_->events->close();
  impl_->host_faults.close();
  return Status::ok;
}

void Nic::declare_dead(NodeId peer) {
  if (!impl_->is_node(peer) || peer == config_.node || impl_->forked.load()) return;
  impl_->end_channel(peer, Status::peer_dead);
  impl_->device.release_dead(peer);  // here only: a peer that is merely silent may still be at work in this node's frames
}

void Nic::set_peer_lost_listener(std::function<void(NodeId)> listener) { impl_->peer_lost = std::move(listener); }

Drops Nic::drops() const {
  const auto& d = impl_->dropped;
  // relaxed, all: statistics order nothing
  return {d.malformed.load(std::memory_order_relaxed), d.stale.load(std::memory_order_relaxed),      // relaxed: see above
          d.duplicate.load(std::memory_order_relaxed), d.outside.load(std::memory_order_relaxed),    // relaxed: see above
          d.unmatched.load(std::memory_order_relaxed), d.fragments.load(std::memory_order_relaxed),  // relaxed: see above
          d.unhandled.load(std::memory_order_relaxed), d.from_dead.load(std::memory_order_relaxed),  // relaxed: see above
          d.no_credit.load(std::memory_order_relaxed)};                                              // relaxed: see above
}

}  // namespace netvm::nic
