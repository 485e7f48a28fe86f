#include "sync/collective.hpp"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::sync {

namespace {
// What a thread called, for people.
std::string describe(const CollectiveCall& call) {
  std::string words = to_string(call.kind);
  if (carries_value(call.kind)) words += " of " + std::to_string(call.value_bytes) + " bytes";
  if (call.kind == CollectiveKind::broadcast) words += " from node " + std::to_string(call.root);
  return words;
}
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
  nic_.set_message_handler(nic::MessageKind::sync_collective, this);
}

Collectives::~Collectives() { nic_.set_message_handler(nic::MessageKind::sync_collective, nullptr); }

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
  const Nanos begin = nic_.env().now();
  const Result<Arrived> arrived = arrive(call, value, op, gives, false);
  if (!arrived) return arrived.status();
  return wait_for_end(arrived->number, arrived->last, begin, value);
}

Result<SplitBarrier> Collectives::arrive() {
  if (!hook_.splits_barriers()) return SplitBarrier{0, false};
  const Nanos begin = nic_.env().now();
  const Result<Arrived> arrived = arrive({CollectiveKind::barrier, 0, 0}, {}, nullptr, false, true);
  stats_.add(Stat::barrier_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
  if (!arrived) return arrived.status();
  return SplitBarrier{arrived->number, true};
}

Status Collectives::wait(const SplitBarrier& barrier) {
  if (!barrier.has_arrived) return run({CollectiveKind::barrier, 0, 0}, {}, nullptr, false);
  return wait_for_end(barrier.number, false, nic_.env().now(), {});
}

Result<Collectives::Arrived> Collectives::arrive(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op,
                                                 bool gives, bool goes_on) {
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
        completed_at_ = nic_.env().now();
        some_go_on = some_go_on_;
        has_leader_.store(!goes_on);
      }
    }
  }
  if (!mistake.empty()) {
    refuse(mistake, nic_.node().value);
    return Status::invalid;
  }
  if (!arrived.last) return arrived;
  contribute(op, some_go_on);
  contributed_.store(true);
  if (goes_on) ended_.announce(nic_.env());  // one of those who wait already leads
  return arrived;
}

// Adds this thread's part to the node's. Under arrival_. What is wrong with it, if anything is.
std::string Collectives::join(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op, bool gives) {
  const std::string node = "node " + std::to_string(nic_.node().value) + ": ";
  if (arrived_ == threads_) {
    return node + "one thread more than the " + std::to_string(threads_) + " that take part calls a " + describe(call) +
           ": only threads of the parallel section may, and each waits for a barrier at which it has arrived before the next";
  }
  if (arrived_ == 0) {
    call_ = call;
    has_value_ = false;
    value_.clear();
  } else if (call != call_) {
    return node + "as collective number " + std::to_string(number_.load()) + " one thread calls " + describe(call_) + ", another " +
           describe(call) + ": all threads must call the same collectives in the same order";
  }
  if (!gives) return {};
  if (has_value_ && op != nullptr) {
    (*op)(value_, value);
  } else {
    value_.assign(value.begin(), value.end());
    has_value_ = true;
  }
  return {};
}

Status Collectives::wait_for_end(std::uint64_t number, bool leads, Nanos begin, std::span<std::byte> value) {
  const auto ended = [&] { return number_.load(std::memory_order_acquire) != number; };  // acquire: partner is take_result()'s release
  const auto may_lead = [this] { return contributed_.load() && !has_leader_.load(); };
  Status status = Status::ok;
  while (!leads && ok(status) && !ended()) {
    status = nic_.wait_until(ended_, [&] { return ended() || may_lead() || (given_up_.load() && !contributed_.load()); });
    if (!ok(status) || ended()) break;
    const std::lock_guard guard(arrival_);
    if (ended()) break;
    if (may_lead()) {
      leads = true;
      has_leader_.store(true);
    } else if (given_up_.load() && !contributed_.load()) {
      status = why_given_up();
    }
  }
  if (leads) {
    status = take_result(begin);
  } else if (ok(status)) {
    status = outcome_;
    stats_.add(Stat::barrier_imbalance_ns, static_cast<std::uint64_t>(std::max<Nanos>(completed_at_ - begin, 0)));
  }
  if (ok(status) && !value.empty()) std::copy(result_.begin(), result_.end(), value.begin());
  stats_.add(Stat::barrier_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
  return status;
}

Status Collectives::take_result(Nanos begin) {
  Status status = Status::ok;
  {
    const Waits::Scope waits(waits_,
                             {call_.kind == CollectiveKind::farewell ? "end of the job" : to_string(call_.kind), kEverybody, 0, begin});
    status = nic_.wait_until(moved_, [this] { return stage() == Stage::released || given_up_.load(); });
  }
  if (ok(status) && stage() == Stage::released) {
    hook_.on_barrier_leave(sum_);
  } else if (ok(status)) {
    status = why_given_up();
  }
  stats_.add(Stat::barrier_imbalance_ns, threads_ * (waited_ns_ - std::min(waited_ns_, least_wait_ns_)));
  {
    const std::lock_guard guard(arrival_);
    waited_ns_ = static_cast<std::uint64_t>(nic_.env().now() - begin);
    std::swap(result_, value_);
    outcome_ = status;
    arrived_ = 0;
    some_go_on_ = false;
    {
      const std::lock_guard inbox_guard(inbox_guard_);
      stage_ = Stage::idle;
    }
    contributed_.store(false);
    has_leader_.store(false);
    number_.fetch_add(1, std::memory_order_release);  // release: result_ and outcome_; partner is wait_for_end()'s look
  }
  stats_.add(Stat::barriers);
  ended_.announce(nic_.env());
  return status;
}

// ---- between the nodes -----------------------------------------------------------------------------------------------------

void Collectives::contribute(const Combine* op, bool some_go_on) {
  Bytes own;
  hook_.threads_go_on(some_go_on);
  hook_.on_barrier_arrive(own);
  {
    const std::lock_guard guard(inbox_guard_);
    sum_ = std::move(own);
    least_wait_ns_ = waited_ns_;
    next_child_ = 0;
    stage_ = Stage::gathering;
  }
  advance(op);
  if (op == nullptr) return;
  while (stage() == Stage::gathering && !given_up_.load()) {
    const auto may_advance = [this] {
      const std::lock_guard guard(inbox_guard_);
      return given_up_.load() || stage_ != Stage::gathering || inbox_[next_child_].full;
    };
    if (!ok(nic_.wait_until(moved_, may_advance))) return;
    advance(op);
  }
}

bool Collectives::take_next_child(const Combine* op, Bytes* body) {
  const std::lock_guard guard(inbox_guard_);
  if (stage_ != Stage::gathering || merging_ || given_up_.load()) return false;
  if (call_.kind == CollectiveKind::all_reduce && op == nullptr) return false;
  if (next_child_ < inbox_.size()) {
    if (!inbox_[next_child_].full) return false;
    inbox_[next_child_].full = false;
    *body = std::exchange(inbox_[next_child_].body, {});
  }
  merging_ = true;
  return true;
}

void Collectives::advance(const Combine* op) {
  Bytes body;
  while (take_next_child(op, &body)) {
    std::string mistake;
    const std::size_t child = next_child_;
    if (child < inbox_.size()) {
      const auto message = decode_collective(body);  // on_message() has looked at it
      mistake = differs(inbox_[child].from, *message);
      if (mistake.empty()) merge_child(*message, op);
    }
    const bool complete = mistake.empty() && child + 1 >= inbox_.size();
    if (complete && carries_value(call_.kind) && !has_value_ && !place_.has_parent)
      mistake = "the " + describe(call_) + " brought no value: no thread of its root gave one";
    if (!mistake.empty()) refuse(mistake, nic_.node().value);
    if (complete && mistake.empty()) {
      if (!place_.has_parent) return pass_down();
      const Bytes up = encode_collective(CollectiveDirection::up, call_, number_.load(), has_value_, value_, sum_, least_wait_ns_);
      hook_.count_sent(sum_, 1);
      {
        const std::lock_guard guard(inbox_guard_);
        merging_ = false;
        stage_ = Stage::asked;
      }
      return nic_.send(NodeId{place_.parent}, nic::MessageKind::sync_collective, up);
    }
    const std::lock_guard guard(inbox_guard_);
    merging_ = false;
    ++next_child_;
  }
}

void Collectives::merge_child(const CollectiveMessage& message, const Combine* op) {
  least_wait_ns_ = std::min(least_wait_ns_, message.least_wait_ns);
  hook_.on_barrier_merge(sum_, message.payload);
  if (!message.has_value) return;
  if (op != nullptr) {
    (*op)(value_, message.value);
  } else {
    has_value_ = true;
    value_.assign(message.value.begin(), message.value.end());
  }
}

// All nodes' contributions are in value_ and sum_: the children are told, then this node's threads.
void Collectives::pass_down() {
  if (!place_.children.empty()) {
    const Bytes down = encode_collective(CollectiveDirection::down, call_, number_.load(), has_value_, value_, sum_, least_wait_ns_);
    for (const std::uint32_t child : place_.children) nic_.send(NodeId{child}, nic::MessageKind::sync_collective, down);
    hook_.count_sent(sum_, place_.children.size());
  }
  {
    const std::lock_guard guard(inbox_guard_);
    merging_ = false;
    stage_ = Stage::released;
  }
  moved_.announce(nic_.env());
}

std::string Collectives::differs(std::uint32_t other_node, const CollectiveMessage& theirs) const {
  const std::uint64_t number = number_.load(std::memory_order_relaxed);  // relaxed: changes only when this collective has ended
  if (theirs.call == call_ && theirs.number == number) return {};
  return "node " + std::to_string(nic_.node().value) + " calls " + describe(call_) + " as collective number " + std::to_string(number) +
         ", node " + std::to_string(other_node) + " calls " + describe(theirs.call) + " as number " + std::to_string(theirs.number) +
         ": all nodes must call the same collectives in the same order";
}

// ---- the end of all collectives ------------------------------------------------------------------------------------------------

void Collectives::give_up() {
  given_up_.store(true);
  moved_.announce(nic_.env());
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
  for (const std::uint32_t child : place_.children) tell(child);
  give_up();
}

std::string Collectives::mistake() const {
  const std::lock_guard guard(inbox_guard_);
  return mistake_;
}

Status Collectives::why_given_up() const { return mistake().empty() ? Status::peer_dead : Status::invalid; }

Collectives::Stage Collectives::stage() const {
  const std::lock_guard guard(inbox_guard_);
  return stage_;
}

// ---- messages --------------------------------------------------------------------------------------------------------------------

void Collectives::hear_parent(const CollectiveMessage& message) {
  if (const std::string mistake = differs(place_.parent, message); !mistake.empty()) return refuse(mistake, nic_.node().value);
  least_wait_ns_ = message.least_wait_ns;
  has_value_ = message.has_value;
  value_.assign(message.value.begin(), message.value.end());
  sum_.assign(message.payload.begin(), message.payload.end());
  pass_down();
}

void Collectives::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  const auto message = decode_collective(body);
  const auto drop = [this] { dropped_.fetch_add(1, std::memory_order_relaxed); };  // relaxed: a statistic
  if (!message) return drop();
  const bool from_parent = place_.has_parent && from.value == place_.parent;
  const auto child = std::ranges::find(inbox_, from.value, &Inbox::from);
  switch (message->direction) {
    case CollectiveDirection::up: {
      // What a reduction must carry is checked here, so that who merges can rely on it.
      if (child == inbox_.end() || (message->call.kind == CollectiveKind::all_reduce && !message->has_value)) return drop();
      {
        const std::lock_guard guard(inbox_guard_);
        if (child->full) return drop();
        child->full = true;
        child->body.assign(body.begin(), body.end());
      }
      advance(nullptr);
      moved_.announce(nic_.env());
      return;
    }
    case CollectiveDirection::down:
      if (!from_parent || stage() != Stage::asked || (carries_value(message->call.kind) && !message->has_value)) return drop();
      return hear_parent(*message);
    case CollectiveDirection::refusal: {
      if ((!from_parent && child == inbox_.end()) || !message->has_value || message->value.empty()) return drop();
      const std::string words(reinterpret_cast<const char*>(message->value.data()), message->value.size());
      return refuse(words, from.value);
    }
  }
}

}  // namespace netvm::sync
