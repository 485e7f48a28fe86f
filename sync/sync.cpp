#include "sync/sync.hpp"

#include "runtime/check.hpp"
#include "sync/collective.hpp"
#include "sync/mutex.hpp"
#include "sync/objects.hpp"
#include "sync/recovery.hpp"
#include "sync/watchdog.hpp"

namespace netvm::sync {

class Sync::Impl {
 public:
  Impl(const SyncConfig& config, nic::Nic& nic, CoherenceHook& hook, Stats& stats)
      : node(nic.node()),
        nodes(nic.nodes()),
        objects(mutexes, nic, hook, stats, config.cohort),
        mutexes(config, nic, hook, stats, &objects),
        collectives(config.arity, nic, hook, stats, mutexes.waits()),
        recovery(
            mutexes, nic,
            [this, &hook](NodeId dead) {
              hook.on_death(dead);
              objects.on_death(dead);
              mutexes.on_death();
              collectives.give_up();
            },
            [this] { objects.mend(); }),
        watchdog({config.watchdog, [this] { return held_and_wanted(); }, config.name_of, config.report}, nic, mutexes.waits()) {}

  ~Impl() { objects.close(); }
  [[nodiscard]] std::vector<Held> held_and_wanted() {
    std::vector<Held> held = mutexes.held_and_wanted();
    for (const Held& state : objects.wanted()) held.push_back(state);
    return held;
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  const NodeId node;
  const std::uint32_t nodes;
  Objects objects;  // mutexes' messages reach it, so it goes last
  Mutexes mutexes;
  Collectives collectives;
  Recovery recovery;
  Watchdog watchdog;
};

Sync::Sync(const SyncConfig& config, nic::Nic& nic, CoherenceHook& hook, Stats& stats)
    : impl_(std::make_unique<Impl>(config, nic, hook, stats)) {}
Sync::~Sync() = default;

Status Sync::lock(std::uint64_t offset, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up) {
  return impl_->mutexes.lock(offset, who, deadline, give_up);
}
void Sync::look_again(std::uint64_t offset) { impl_->mutexes.look_again(offset); }
std::optional<SyncId> Sync::busy_in(std::uint64_t offset, std::uint64_t bytes) const { return impl_->mutexes.busy_in(offset, bytes); }
Result<std::optional<MemoryUse>> Sync::free_memory(std::uint64_t offset, std::uint64_t bytes, std::uint64_t who) {
  return impl_->mutexes.free_memory(offset, bytes, who);
}
Status Sync::place(const MemoryRange& memory, const HomeRule& rule) { return impl_->mutexes.place(memory, rule); }
Result<bool> Sync::recover(std::uint64_t offset, std::uint64_t who) { return impl_->mutexes.recover(offset, who); }
Result<bool> Sync::try_lock(std::uint64_t offset, std::uint64_t who) { return impl_->mutexes.try_lock(offset, who); }
Status Sync::unlock(std::uint64_t offset, std::uint64_t who) { return impl_->mutexes.unlock(offset, who); }
bool Sync::held_here(std::uint64_t offset) const { return impl_->mutexes.held_here(offset); }
std::uint64_t Sync::epoch_of(std::uint64_t offset) const { return impl_->mutexes.epoch_of(offset); }

Objects& Sync::objects() { return impl_->objects; }
Waits& Sync::waits() { return impl_->mutexes.waits(); }

bool Sync::has_died() const { return impl_->mutexes.gate().deaths() != 0; }
void Sync::declare_dead(NodeId node) { impl_->recovery.declare_dead(node); }

void Sync::set_local_threads(std::uint32_t threads) { impl_->collectives.set_local_threads(threads); }

Status Sync::barrier() { return impl_->collectives.run({CollectiveKind::barrier, 0, 0}, {}, nullptr, false); }

Result<SplitBarrier> Sync::arrive() { return impl_->collectives.arrive(); }

Status Sync::wait(const SplitBarrier& barrier) { return impl_->collectives.wait(barrier); }

std::string Sync::mistake() const { return impl_->collectives.mistake(); }

Status Sync::farewell() { return impl_->collectives.run({CollectiveKind::farewell, 0, 0}, {}, nullptr, false); }

void Sync::settle() { impl_->objects.settle(); }
void Sync::end() { impl_->mutexes.end(); }

Status Sync::all_reduce(std::span<std::byte> value, const Combine& op) {
  return impl_->collectives.run({CollectiveKind::all_reduce, 0, value.size()}, value, &op, true);
}

Status Sync::broadcast(NodeId root, std::span<std::byte> value, bool gives) {
  if (root.value >= impl_->nodes) return Status::invalid;
  const bool counts = gives && root == impl_->node;
  return impl_->collectives.run({CollectiveKind::broadcast, root.value, value.size()}, value, nullptr, counts);
}

}  // namespace netvm::sync
