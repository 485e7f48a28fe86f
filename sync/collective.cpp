#include "sync/collective.hpp"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::sync {

Collectives::Collectives(std::uint32_t arity, nic::Nic& nic, CoherenceHook& hook, Stats& stats, Waits& waits)
    : nic_(nic),
      hook_(hook),
      stats_(stats),
      waits_(waits),
      place_(tree_place(nic.node().value, nic.nodes(), arity)),
      arrival_(nic.env()),
      neighbours_(place_.children.size() + (place_.has_partner ? 1 : 0)) {
  NETVM_CHECK(arity >= 1, "a tree whose nodes have no children");
  for (std::size_t i = 0; i < place_.children.size(); ++i) neighbours_[i].node = place_.children[i];
  if (place_.has_partner) neighbours_.back().node = place_.partner;
  if (place_.children.empty() && nic_.nodes() > 1) {
    if (const Result<nic::RemoteCounter> counter = nic_.counter_create(nic::CounterUse::library))
      mine_ = *counter;  // without one everything is a message
  }
  nic_.set_message_handler(nic::MessageKind::sync_collective, this);
}

Collectives::~Collectives() {
  nic_.set_message_handler(nic::MessageKind::sync_collective, nullptr);
  if (mine_) (void)nic_.counter_destroy(*mine_);
}

void Collectives::set_local_threads(std::uint32_t threads) {
  const std::lock_guard guard(arrival_);
  NETVM_CHECK(threads >= 1, "collectives of 0 threads");
  if (given_up_.load()) arrived_ = 0;  // those who had come are gone
  NETVM_CHECK(arrived_ == 0, "node %u: the number of threads changes to %u while %u of %u wait in a %s", nic_.node().value, threads,
              arrived_, threads_, to_string(call_.kind));
  threads_ = threads;
}

// ---- inside the node -----------------------------------------------------------------------------------------------------

Status Collectives::run(const CollectiveCall& call, std::span<std::byte> value, const Combine* op, bool gives) {
  if (call.kind == CollectiveKind::barrier) prefetch_mark();
  const Nanos begin = nic_.env().now();
  const Result<Arrived> arrived = arrive(call, value, op, gives, false, begin);
  if (!arrived) return arrived.status();
  return wait_for_end(arrived->number, arrived->last, begin, value);
}

Result<SplitBarrier> Collectives::arrive() {
  if (!hook_.splits_barriers()) return SplitBarrier{0, false};
  const Nanos begin = nic_.env().now();
  const Result<Arrived> arrived = arrive({CollectiveKind::barrier, 0, 0}, {}, nullptr, false, true, begin);
  stats_.add(Stat::barrier_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
  if (!arrived) return arrived.status();
  return SplitBarrier{arrived->number, true};
}

Status Collectives::wait(const SplitBarrier& barrier) {
  if (!barrier.has_arrived) return run({CollectiveKind::barrier, 0, 0}, {}, nullptr, false);
  return wait_for_end(barrier.number, false, nic_.env().now(), {});
}

Result<Collectives::Arrived> Collectives::arrive(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op,
                                                 bool gives, bool goes_on, Nanos begin) {
  Arrived arrived;
  std::string mistake;
  bool some_go_on = false;
  {
    const std::lock_guard guard(arrival_);
    if (given_up_.load()) return why_given_up();
    arrived.number = number_.load(std::memory_order_relaxed);  // relaxed: changes under arrival_
    mistake = join(call, value, op, gives);
    if (mistake.empty()) {
      some_go_on_ = some_go_on_ || goes_on;
      arrived.last = ++arrived_ == threads_;
      if (arrived.last) {
        completed_at_ = threads_ == 1 ? begin : nic_.env().now();
        some_go_on = some_go_on_;
        has_leader_.store(!goes_on, std::memory_order_release);  // release: partner is may_lead()
      }
    }
  }
  if (!mistake.empty()) {
    refuse(mistake, nic_.node().value);
    return Status::invalid;
  }
  if (!arrived.last) return arrived;
  contribute(op, some_go_on);
  contributed_.store(true, std::memory_order_release);  // release: has_leader_; partner is may_lead()
  if (goes_on) ended_.announce(nic_.env());             // one of those who wait already leads
  return arrived;
}

// Adds this thread's part to the node's. Under arrival_. What is wrong with it, if anything is.
std::string Collectives::join(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op, bool gives) {
  const auto node = [this] { return "node " + std::to_string(nic_.node().value) + ": "; };
  if (arrived_ == threads_) {
    return node() + "one thread more than the " + std::to_string(threads_) + " that take part calls a " + to_text(call) +
           ": only threads of the parallel section may, and each waits for a barrier at which it has arrived before the next";
  }
  if (arrived_ == 0) {
    call_ = call;
    has_value_ = false;
    value_.clear();
  } else if (call != call_) {
    return node() + "as collective number " + std::to_string(number_.load()) + " one thread calls " + to_text(call_) + ", another " +
           to_text(call) + ": all threads must call the same collectives in the same order";
  }
  if (!gives) return {};
  if (has_value_ && op != nullptr) return combine(*op, value);
  value_.assign(value.begin(), value.end());
  has_value_ = true;
  return {};
}

Status Collectives::wait_for_end(std::uint64_t number, bool leads, Nanos begin, std::span<std::byte> value) {
  const auto ended = [&] { return number_.load(std::memory_order_acquire) != number; };  // acquire: partner is take_result()'s release
  const auto may_lead = [this] { return contributed_.load() && !has_leader_.load(); };
  Status status = Status::ok;
  Nanos end = 0;  // not known yet
  while (!leads && ok(status) && !ended()) {
    status = nic_.wait_until(ended_, [&] { return ended() || may_lead() || (given_up_.load() && !contributed_.load()); });
    if (!ok(status) || ended()) break;
    const std::lock_guard guard(arrival_);
    if (ended()) break;
    if (may_lead()) {
      leads = true;
      has_leader_.store(true, std::memory_order_release);  // release: partner is may_lead()
    } else if (given_up_.load() && !contributed_.load()) {
      status = why_given_up();
    }
  }
  if (leads) {
    status = take_result(begin, &end);
  } else if (ok(status)) {
    status = outcome_;
    stats_.add(Stat::barrier_imbalance_ns, static_cast<std::uint64_t>(std::max<Nanos>(completed_at_ - begin, 0)));
  }
  if (ok(status) && !value.empty()) std::copy(result_.begin(), result_.end(), value.begin());
  if (end == 0) end = nic_.env().now();
  stats_.add(Stat::barrier_wait_ns, static_cast<std::uint64_t>(end - begin));
  return status;
}

Status Collectives::take_result(Nanos begin, Nanos* end) {
  Status status = Status::ok;
  const auto over = [this] { return stage() == Stage::released || given_up_.load(); };
  if (!over()) {
    const Waits::Scope waits(waits_,
                             {call_.kind == CollectiveKind::farewell ? "end of the job" : to_string(call_.kind), kEverybody, 0, begin});
    while (ok(status) && !over()) {
      status = nic_.wait_until(moved(), [&] { return over() || may_move(); });
      if (may_move()) advance(nullptr);
    }
  }
  if (ok(status) && stage() == Stage::released) {
    hook_.on_barrier_leave(sum_);
  } else if (ok(status)) {
    status = why_given_up();
  }
  stats_.add(Stat::barrier_imbalance_ns, threads_ * (waited_ns_ - std::min(waited_ns_, least_wait_ns_)));
  bool others_wait = false;
  {
    const std::lock_guard guard(arrival_);
    *end = nic_.env().now();
    waited_ns_ = static_cast<std::uint64_t>(*end - begin);
    std::swap(result_, value_);
    outcome_ = status;
    arrived_ = 0;
    some_go_on_ = false;
    {
      const std::lock_guard inbox_guard(inbox_guard_);
      set_stage(Stage::idle);
    }
    contributed_.store(false, std::memory_order_release);                  // release: partner is may_lead()
    has_leader_.store(false, std::memory_order_release);                   // release: partner is may_lead()
    const std::uint64_t number = number_.load(std::memory_order_relaxed);  // relaxed: changes under arrival_
    number_.store(number + 1, std::memory_order_release);  // release: result_ and outcome_; partner is wait_for_end()'s look
    others_wait = threads_ > 1;
  }
  stats_.add(Stat::barriers);
  if (others_wait) ended_.announce(nic_.env());
  return status;
}

// ---- the end of all collectives ------------------------------------------------------------------------------------------------

void Collectives::give_up() {
  given_up_.store(true);
  moved().announce(nic_.env());
  ended_.announce(nic_.env());
}

void Collectives::refuse(const std::string& mistake, std::uint32_t except) {
  {
    const std::lock_guard guard(inbox_guard_);
    if (!mistake_.empty()) return;
    mistake_ = mistake;
  }
  const CollectiveCall call{CollectiveKind::barrier, 0, mistake.size()};
  const Bytes body = encode_collective(CollectiveDirection::refusal, call, number_.load(), true, std::as_bytes(std::span(mistake)), {}, 0);
  const auto tell = [&](std::uint32_t node) {
    if (node != except) nic_.send(NodeId{node}, nic::MessageKind::sync_collective, body);
  };
  if (place_.has_parent) tell(place_.parent);
  for (const Neighbour& neighbour : neighbours_) tell(neighbour.node);
  give_up();
}

std::string Collectives::mistake() const {
  const std::lock_guard guard(inbox_guard_);
  return mistake_;
}

Status Collectives::why_given_up() const { return mistake().empty() ? Status::peer_dead : Status::invalid; }

}  // namespace netvm::sync
