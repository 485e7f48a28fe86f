#include "sync/collective.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::sync {

namespace {
unsigned long long printable(std::uint64_t value) { return value; }
}  // namespace

TreePlace tree_place(std::uint32_t node, std::uint32_t nodes, std::uint32_t arity) {
  TreePlace place;
  std::uint32_t leader = 0;
  std::uint32_t end = nodes;
  for (;;) {
    // The children of `leader` split [leader + 1, end) into `parts` ranges whose sizes differ by one at most.
    const std::uint32_t rest = end - leader - 1;
    const std::uint32_t parts = std::min(arity, rest);
    std::uint32_t first = leader + 1;
    std::uint32_t next_leader = leader;
    std::uint32_t next_end = end;
    for (std::uint32_t i = 0; i < parts; ++i) {
      const std::uint32_t size = rest / parts + (i < rest % parts ? 1 : 0);
      if (leader == node) place.children.push_back(first);
      if (node >= first && node < first + size) {
        next_leader = first;
        next_end = first + size;
      }
      first += size;
    }
    if (leader == node) {
      place.end = end;
      return place;
    }
    place.has_parent = true;
    place.parent = leader;
    leader = next_leader;
    end = next_end;
  }
}

Collectives::Collectives(std::uint32_t arity, nic::Nic& nic, CoherenceHook& hook, Stats& stats, Waits& waits)
    : nic_(nic), hook_(hook), stats_(stats), waits_(waits), place_(tree_place(nic.node().value, nic.nodes(), arity)), arrival_(nic.env()) {
  NETVM_CHECK(arity >= 1, "a tree whose nodes have no children");
  for (const std::uint32_t child : place_.children) inbox_.push_back({child, false, {}});
  if (place_.has_parent) inbox_.push_back({place_.parent, false, {}});
  nic_.set_message_handler(nic::MessageKind::sync_collective, this);
}

Collectives::~Collectives() { nic_.set_message_handler(nic::MessageKind::sync_collective, nullptr); }

void Collectives::set_local_threads(std::uint32_t threads) {
  const std::lock_guard guard(arrival_);
  NETVM_CHECK(threads >= 1, "collectives of 0 threads");
  NETVM_CHECK(arrived_ == 0, "node %u: the number of threads changes to %u while %u of %u wait in a %s", nic_.node().value, threads,
              arrived_, threads_, to_string(call_.kind));
  threads_ = threads;
}

// ---- inside the node -----------------------------------------------------------------------------------------------------

Status Collectives::run(const CollectiveCall& call, std::span<std::byte> value, const Combine* op) {
  const Nanos begin = nic_.env().now();
  std::uint64_t number = 0;
  bool last = false;
  {
    const std::lock_guard guard(arrival_);
    number = number_.load(std::memory_order_relaxed);  // relaxed: changes only when all local threads have arrived
    join(call, value, op);
    last = ++arrived_ == threads_;
  }
  const auto ended = [&] { return number_.load(std::memory_order_acquire) != number; };  // acquire: partner is the leader's release below
  Status status = Status::ok;
  if (last) {
    const Waits::Scope waits(waits_,
                             {call.kind == CollectiveKind::farewell ? "end of the job" : to_string(call.kind), kEverybody, 0, begin});
    status = lead(op);
    stats_.add(Stat::barrier_imbalance_ns, threads_ * (waited_ns_ - std::min(waited_ns_, least_wait_ns_)));
    {
      const std::lock_guard guard(arrival_);
      led_at_ = begin;
      waited_ns_ = static_cast<std::uint64_t>(nic_.env().now() - begin);
      std::swap(result_, value_);
      outcome_ = status;
      arrived_ = 0;
      number_.store(number + 1, std::memory_order_release);  // release: result_ and outcome_; partner is ended()
    }
    stats_.add(Stat::barriers);
    ended_.announce(nic_.env());
  } else {
    status = nic_.wait_until(ended_, ended);
    if (ended()) {
      status = outcome_;
      stats_.add(Stat::barrier_imbalance_ns, static_cast<std::uint64_t>(std::max<Nanos>(led_at_ - begin, 0)));
    }
  }
  if (ok(status) && !value.empty()) std::copy(result_.begin(), result_.end(), value.begin());
  stats_.add(Stat::barrier_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
  return status;
}

// Adds this thread's part to the node's. Under arrival_.
void Collectives::join(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op) {
  NETVM_CHECK(arrived_ < threads_, "node %u: more threads than the %u that take part call a %s; see set_local_threads()", nic_.node().value,
              threads_, to_string(call.kind));
  const bool gives_value =
      call.kind == CollectiveKind::all_reduce || (call.kind == CollectiveKind::broadcast && call.root == nic_.node().value);
  if (arrived_ == 0) {
    call_ = call;
    has_value_ = gives_value;
    value_.clear();
    if (gives_value) value_.assign(value.begin(), value.end());
    return;
  }
  NETVM_CHECK(call == call_,
              "node %u: as collective number %llu one thread calls %s of %llu bytes (root %u), another %s of %llu bytes (root %u)",
              nic_.node().value, printable(number_.load()), to_string(call_.kind), printable(call_.value_bytes), call_.root,
              to_string(call.kind), printable(call.value_bytes), call.root);
  if (op != nullptr) (*op)(value_, value);
}

// ---- between the nodes -----------------------------------------------------------------------------------------------------

Status Collectives::lead(const Combine* op) {
  const std::uint64_t number = number_.load(std::memory_order_relaxed);  // relaxed: only a leader changes it
  least_wait_ns_ = waited_ns_;
  Bytes sum;
  hook_.on_barrier_arrive(sum);
  if (const Status status = gather(op, &sum); !ok(status)) return status;
  if (place_.has_parent) {
    nic_.send(NodeId{place_.parent}, nic::MessageKind::sync_collective,
              encode_collective(CollectiveDirection::up, call_, number, has_value_, value_, sum, least_wait_ns_));
    count_payload(sum.size());
    const Result<Bytes> body = take_from(inbox_.size() - 1);
    if (!body) return body.status();
    const auto message = decode_collective(*body);
    check_same(place_.parent, message->call, message->number);
    least_wait_ns_ = message->least_wait_ns;
    has_value_ = message->has_value;
    value_.assign(message->value.begin(), message->value.end());
    sum.assign(message->payload.begin(), message->payload.end());
  }
  NETVM_CHECK(!carries_value(call_.kind) || has_value_, "node %u: the %s number %llu brought no value", nic_.node().value,
              to_string(call_.kind), printable(number));
  if (!place_.children.empty()) {
    const Bytes down = encode_collective(CollectiveDirection::down, call_, number, has_value_, value_, sum, least_wait_ns_);
    for (const std::uint32_t child : place_.children) nic_.send(NodeId{child}, nic::MessageKind::sync_collective, down);
    count_payload(sum.size() * place_.children.size());
  }
  hook_.on_barrier_leave(sum);
  return Status::ok;
}

// The NIC counts what collectives send as theirs; this much of it was the coherence layer's.
void Collectives::count_payload(std::size_t bytes) {
  stats_.add(Stat::protocol_bytes, bytes);
  stats_.add(Stat::sync_bytes, ~std::uint64_t{bytes} + 1);
}

// Merges the children's parts into this node's, in their order.
Status Collectives::gather(const Combine* op, Bytes* sum) {
  for (std::size_t i = 0; i < place_.children.size(); ++i) {
    const Result<Bytes> body = take_from(i);
    if (!body) return body.status();
    const auto message = decode_collective(*body);
    check_same(place_.children[i], message->call, message->number);
    least_wait_ns_ = std::min(least_wait_ns_, message->least_wait_ns);
    hook_.on_barrier_merge(*sum, message->payload);
    if (!message->has_value) continue;
    if (op != nullptr) {
      (*op)(value_, message->value);
    } else {
      has_value_ = true;
      value_.assign(message->value.begin(), message->value.end());
    }
  }
  return Status::ok;
}

void Collectives::check_same(std::uint32_t other_node, const CollectiveCall& theirs, std::uint64_t their_number) const {
  const std::uint64_t number = number_.load(std::memory_order_relaxed);  // relaxed: only a leader changes it
  NETVM_CHECK(theirs == call_ && their_number == number,
              "node %u calls %s of %llu bytes (root %u) as collective number %llu, node %u calls %s of %llu bytes (root %u) as number "
              "%llu: all nodes "
              "must call the same collectives in the same order",
              nic_.node().value, to_string(call_.kind), printable(call_.value_bytes), call_.root, printable(number), other_node,
              to_string(theirs.kind), printable(theirs.value_bytes), theirs.root, printable(their_number));
}

bool Collectives::filled(std::size_t inbox) const {
  const std::lock_guard guard(inbox_guard_);
  return inbox_[inbox].full;
}

Result<Bytes> Collectives::take_from(std::size_t inbox) {
  const Status status = nic_.wait_until(arrivals_, [&] { return filled(inbox) || given_up_.load(); });
  if (!ok(status)) return status;
  if (!filled(inbox)) return Status::peer_dead;
  const std::lock_guard guard(inbox_guard_);
  inbox_[inbox].full = false;
  return std::exchange(inbox_[inbox].body, {});
}

void Collectives::give_up() {
  given_up_.store(true);
  arrivals_.announce(nic_.env());
}

void Collectives::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  const auto message = decode_collective(body);
  bool taken = false;
  if (message) {
    // What a reduction must carry is checked here, so that the leader can rely on it.
    const bool complete = message->has_value || message->call.kind != CollectiveKind::all_reduce;
    const bool from_parent = message->direction == CollectiveDirection::down;
    const std::lock_guard guard(inbox_guard_);
    const auto first = inbox_.begin();
    const auto parent = first + static_cast<std::ptrdiff_t>(place_.children.size());
    const auto place = from_parent ? std::find_if(parent, inbox_.end(), [&](const Inbox& i) { return i.from == from.value; })
                                   : std::find_if(first, parent, [&](const Inbox& i) { return i.from == from.value; });
    const bool expected = from_parent ? place != inbox_.end() : place != parent;
    if (expected && complete && !place->full) {
      place->full = true;
      place->body.assign(body.begin(), body.end());
      taken = true;
    }
  }
  if (taken) {
    arrivals_.announce(nic_.env());
  } else {
    dropped_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
  }
}

}  // namespace netvm::sync
