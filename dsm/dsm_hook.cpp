// Dsm as sync::CoherenceHook: fans out to the protocols that this node has met. A node that is alone has nobody to tell: there releases and barriers ask
// no protocol, so that what was written once stays writable.
#include "dsm/dsm_impl.hpp"
#include "runtime/check.hpp"

namespace netvm::dsm {

std::vector<PayloadSection> Dsm::Impl::sections_of(std::span<const std::byte> payload, const char* what) const {
  std::vector<PayloadSection> sections;
  NETVM_CHECK(split_payload(payload, sections), "a malformed coherence payload came with a %s", what);
  return sections;
}

namespace {

/// The time between a lap's end and the one before goes to a protocol.
class Laps {
 public:
  Laps(Env& env, Stat stat) : env_(env), stat_(stat), at_(env.now()) {}
  void end(ProtocolEnv& of) {
    const Nanos now = env_.now();
    of.count(stat_, static_cast<std::uint64_t>(now - at_));
    at_ = now;
  }

 private:
  Env& env_;
  Stat stat_;
  Nanos at_;
};

}  // namespace

bool Dsm::Impl::tells_nothing(std::span<const std::byte> request) const {
  for (const unsigned i : in_use()) {
    const std::optional<std::span<const std::byte>> question = only_section(request, i);
    if (!question || !protocols_[i]->tells_nothing(*question)) return false;
  }
  return true;
}

// The messages of sync/ carry these bytes, and the NIC counts them as its.
void Dsm::Impl::count_payload(unsigned protocol, std::uint64_t bytes) {
  if (bytes == 0) return;
  envs_[protocol]->count(Stat::protocol_bytes, bytes);
  stats_.add(Stat::sync_bytes, ~bytes + 1);
}

void Dsm::count_sent(std::span<const std::byte> payload, std::uint64_t copies) {
  if (payload.empty()) return;
  for (const PayloadSection& section : impl_->sections_of(payload, "barrier"))
    impl_->count_payload(section.protocol, section.bytes.size() * copies);
}

void Dsm::before_unlock(sync::SyncId object) {
  if (!impl_->watches_unlocks_.load(std::memory_order_relaxed) || impl_->alone()) [[likely]]  // relaxed: see use()
    return;
  for (const unsigned i : impl_->in_use()) {
    if (impl_->protocols_[i]->watches_unlocks()) impl_->protocols_[i]->before_unlock(object);
  }
}

bool Dsm::needs_release(sync::SyncId) {
  if (impl_->alone()) return false;
  for (const unsigned i : impl_->in_use()) {
    if (impl_->protocols_[i]->has_releases()) return true;
  }
  return false;
}

bool Dsm::tells_ahead() {
  for (const unsigned i : impl_->in_use()) {
    if (impl_->protocols_[i]->tells_by_object()) return false;
  }
  return true;
}

void Dsm::on_release(sync::SyncId object) {
  if (impl_->alone()) return;
  // An unlock with nothing to flush is too short to be timed.
  std::optional<Laps> laps;
  if (impl_->has_written()) laps.emplace(impl_->env_, Stat::protocol_ns);
  for (const unsigned i : impl_->in_use()) {
    impl_->protocols_[i]->on_release(object);
    if (laps) laps->end(*impl_->envs_[i]);
  }
}

void Dsm::append_acquire_request(sync::SyncId object, sync::Bytes& out) {
  Bytes part;
  for (const unsigned i : impl_->in_use()) {
    part.clear();
    impl_->protocols_[i]->append_acquire_request(object, part);
    append_section(i, part, out);
    impl_->count_payload(i, part.size());
  }
}

void Dsm::append_grant(sync::SyncId object, NodeId acquirer, std::span<const std::byte> request, sync::Bytes& out) {
  if (impl_->tells_nothing(request)) return;  // too short to be timed
  Laps laps(impl_->env_, Stat::handler_ns);
  const std::vector<PayloadSection> sections = impl_->sections_of(request, "request for a lock");
  auto section = sections.begin();
  Bytes part;
  for (const unsigned i : impl_->in_use()) {
    // A protocol that the acquirer has not met asks with nothing; what this node knows must reach it all the same.
    while (section != sections.end() && section->protocol < i) ++section;  // of one that this node has not met
    const bool asked = section != sections.end() && section->protocol == i;
    const std::span<const std::byte> question = asked ? section->bytes : std::span<const std::byte>{};
    if (asked) ++section;
    part.clear();
    impl_->protocols_[i]->append_grant(object, acquirer, question, part);
    append_section(i, part, out);
    impl_->count_payload(i, part.size());
    laps.end(*impl_->envs_[i]);
  }
}

void Dsm::on_acquire(sync::SyncId object, NodeId granter, std::span<const std::byte> payload) {
  if (payload.empty()) return;
  impl_->heard_.store(true);
  Laps laps(impl_->env_, Stat::protocol_ns);
  for (const PayloadSection& section : impl_->sections_of(payload, "lock")) {
    impl_->use(section.protocol);
    impl_->protocols_[section.protocol]->on_acquire(object, granter, section.bytes);
    laps.end(*impl_->envs_[section.protocol]);
  }
}

void Dsm::on_death(NodeId node) {
  impl_->service_.note_dead(node);
  for (const std::unique_ptr<Protocol>& protocol : impl_->protocols_) protocol->on_death(node);
}

bool Dsm::splits_barriers() {
  for (const unsigned i : impl_->in_use()) {
    if (!impl_->protocols_[i]->splits_barriers()) return false;
  }
  return true;
}

void Dsm::threads_go_on(bool some) {
  if (impl_->threads_go_on_.load() != some)
    impl_->threads_go_on_.store(some);  // one thread of the node writes it, and seldom another value
}

void Dsm::on_barrier_arrive(sync::Bytes& out) {
  if (impl_->alone()) return;
  std::optional<Laps> laps;  // as in on_release()
  if (impl_->has_written()) laps.emplace(impl_->env_, Stat::protocol_ns);
  Bytes part;
  for (const unsigned i : impl_->in_use()) {
    part.clear();
    impl_->protocols_[i]->on_barrier_arrive(part);
    append_section(i, part, out);
    if (laps) laps->end(*impl_->envs_[i]);
  }
  // It is most before what the barrier ends is dropped.
  if (laps || !out.empty() || impl_->has_heard()) impl_->note_memory();
}

void Dsm::on_barrier_merge(sync::Bytes& sum, std::span<const std::byte> other) {
  if (other.empty()) return;
  if (sum.empty()) {
    sum.assign(other.begin(), other.end());
    return;
  }
  const std::vector<PayloadSection> mine = impl_->sections_of(sum, "barrier");
  const std::vector<PayloadSection> theirs = impl_->sections_of(other, "barrier");
  Bytes merged;
  auto a = mine.begin();
  auto b = theirs.begin();
  while (a != mine.end() || b != theirs.end()) {
    if (b == theirs.end() || (a != mine.end() && a->protocol < b->protocol)) {
      append_section(a->protocol, a->bytes, merged);
      ++a;
    } else if (a == mine.end() || b->protocol < a->protocol) {
      append_section(b->protocol, b->bytes, merged);
      ++b;
    } else {
      Bytes both(a->bytes.begin(), a->bytes.end());
      impl_->protocols_[a->protocol]->on_barrier_merge(both, b->bytes);
      append_section(a->protocol, both, merged);
      ++a;
      ++b;
    }
  }
  sum = std::move(merged);
}

void Dsm::on_barrier_leave(std::span<const std::byte> sum) {
  std::atomic<std::uint64_t>& left = impl_->barriers_left_;
  // relaxed: one thread of the node at a time, ordered by the barriers. release: partner is ProtocolEnv::barriers_left()
  left.store(left.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  if (sum.empty()) return;
  Laps laps(impl_->env_, Stat::protocol_ns);
  for (const PayloadSection& section : impl_->sections_of(sum, "barrier")) {
    impl_->use(section.protocol);
    impl_->protocols_[section.protocol]->on_barrier_leave(section.bytes);
    laps.end(*impl_->envs_[section.protocol]);
  }
  impl_->note_memory();
}

}  // namespace netvm::dsm
