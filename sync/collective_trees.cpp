// Collectives: the trees, and what the nodes tell each other.
#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/check.hpp"
#include "sync/collective.hpp"

namespace netvm::sync {

TreePlace tree_place(std::uint32_t node, std::uint32_t nodes, std::uint32_t arity) {
  TreePlace place;
  const std::uint32_t middle = (nodes + 1) / 2;
  std::uint32_t leader = node < middle ? 0 : middle;
  std::uint32_t end = node < middle ? middle : nodes;
  place.has_partner = node == leader && nodes > 1;
  if (place.has_partner) place.partner = node == 0 ? middle : 0;
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

// ---- what advances -----------------------------------------------------------------------------------------------------------------

void Collectives::contribute(const Combine* op, bool some_go_on) {
  Bytes own;
  hook_.threads_go_on(some_go_on);
  hook_.on_barrier_arrive(own);
  {
    const std::lock_guard guard(inbox_guard_);
    sum_ = std::move(own);
    least_wait_ns_ = waited_ns_;
    next_ = 0;
    set_stage(Stage::gathering);
  }
  advance(op);
  if (op == nullptr) return;
  const auto combines = [this] { return stage() == Stage::gathering || stage() == Stage::exchanging; };
  while (combines() && !given_up_.load()) {
    const auto may_advance = [&] {
      const std::lock_guard guard(inbox_guard_);
      return given_up_.load() || !combines() || neighbours_[next_].full != 0 || may_move();
    };
    if (!ok(nic_.wait_until(moved(), may_advance))) return;
    advance(op);
  }
}

// Under inbox_guard_. A mark comes before the message if there are both: that is then of the next collective. The messages are looked at first, as what came
// before them is there if they are.
bool Collectives::take_next_of(Neighbour& neighbour, Step* step) {
  const bool full = neighbour.full != 0;
  step->marked = stage_ == Stage::exchanging && is_marked();
  step->from_somebody = full || step->marked;
  if (!full || step->marked) return step->marked;
  step->body = std::exchange(neighbour.bodies[0], std::exchange(neighbour.bodies[1], {}));
  --neighbour.full;
  return true;
}

bool Collectives::take_step(const Combine* op, Step* step, bool done) {
  const std::lock_guard guard(inbox_guard_);
  if (done) {
    merging_ = false;
    if (step->from_somebody) ++next_;
    *step = {};
  }
  if (merging_ || given_up_.load()) return false;
  if (stage_ == Stage::asked) {
    step->marked = step->from_somebody = is_marked();
    merging_ = step->marked;
    return merging_;
  }
  if (stage_ != Stage::gathering && stage_ != Stage::exchanging) return false;
  if (call_.kind == CollectiveKind::all_reduce && op == nullptr) return false;
  const bool whole = stage_ == Stage::gathering && next_ == place_.children.size();
  if (!whole && !take_next_of(neighbours_[next_], step)) return false;
  merging_ = true;
  return true;
}

void Collectives::advance(const Combine* op) {
  Step step;
  for (bool done = false; take_step(op, &step, done); done = true) {
    if (stage_ == Stage::asked) return hear_parent(as_message());
    if (!step.from_somebody && place_.has_parent) return send_up();
    if (!step.from_somebody && place_.has_partner) send_across();
    std::string mistake = step.from_somebody ? merge(step, op) : std::string();
    const bool complete = place_.has_partner ? step.from_somebody && stage_ == Stage::exchanging : !step.from_somebody;
    if (complete && mistake.empty() && carries_value(call_.kind) && !has_value_)
      mistake = "the " + to_text(call_) + " brought no value: no thread of its root gave one";
    if (!mistake.empty()) {
      refuse(mistake, nic_.node().value);
    } else if (complete) {
      return pass_down();
    }
  }
}

// ---- merging -----------------------------------------------------------------------------------------------------------------------

std::string Collectives::merge(const Step& step, const Combine* op) {
  const CollectiveMessage message = step.marked ? as_message() : *decode_collective(step.body);  // on_message() has looked at it
  if (std::string mistake = differs(neighbours_[next_].node, message); !mistake.empty()) return mistake;
  least_wait_ns_ = std::min(least_wait_ns_, message.least_wait_ns);
  return neighbours_[next_].node > nic_.node().value ? merge_behind(message, op) : merge_before(message, op);
}

std::string Collectives::merge_behind(const CollectiveMessage& message, const Combine* op) {
  hook_.on_barrier_merge(sum_, message.payload);
  if (!message.has_value) return {};
  if (op != nullptr) return combine(*op, message.value);
  has_value_ = true;
  value_.assign(message.value.begin(), message.value.end());
  return {};
}

// What the nodes before this one's subtree have gathered. The same operands in the same order as at the partner.
std::string Collectives::merge_before(const CollectiveMessage& message, const Combine* op) {
  const Bytes own_sum = std::exchange(sum_, Bytes(message.payload.begin(), message.payload.end()));
  hook_.on_barrier_merge(sum_, own_sum);
  if (!message.has_value) return {};
  const Bytes own_value = std::exchange(value_, Bytes(message.value.begin(), message.value.end()));
  has_value_ = true;
  return op != nullptr ? combine(*op, own_value) : std::string();
}

std::string Collectives::combine(const Combine& op, std::span<const std::byte> other) {
  const std::string wrong = op(value_, other);
  if (wrong.empty()) return {};
  return "node " + std::to_string(nic_.node().value) + ": the operation of the " + to_text(call_) + ' ' + wrong;
}

std::string Collectives::differs(std::uint32_t other_node, const CollectiveMessage& theirs) const {
  const std::uint64_t number = number_.load(std::memory_order_relaxed);  // relaxed: changes only when this collective has ended
  if (theirs.call == call_ && theirs.number == number) return {};
  return "node " + std::to_string(nic_.node().value) + " calls " + to_text(call_) + " as collective number " + std::to_string(number) +
         ", node " + std::to_string(other_node) + " calls " + to_text(theirs.call) + " as number " + std::to_string(theirs.number) +
         ": all nodes must call the same collectives in the same order";
}

// ---- telling -----------------------------------------------------------------------------------------------------------------------

Bytes Collectives::encode(CollectiveDirection direction) const {
  const bool waits_for_them = direction != CollectiveDirection::down;
  return encode_collective(direction, call_, number_.load(), has_value_, value_, sum_, least_wait_ns_,
                           waits_for_them && mine_ ? mine_->id.value + 1 : 0);
}

void Collectives::tell(Neighbour& neighbour, CollectiveDirection direction, Bytes* body) {
  const std::uint32_t counter = neighbour.counter.load(std::memory_order_relaxed);  // relaxed: a number, and nothing behind it
  if (counter != 0 && call_.kind == CollectiveKind::barrier && sum_.empty()) {
    const CollectiveMark next = neighbour.mark.with(number_.load(), least_wait_ns_);
    if (nic_.try_notify({NodeId{neighbour.node}, CounterId{counter - 1}}, next.value - neighbour.mark.value)) {
      neighbour.mark = next;
      return;
    }
  }
  if (body->empty()) *body = encode(direction);
  nic_.send(NodeId{neighbour.node}, nic::MessageKind::sync_collective, *body);
  hook_.count_sent(sum_, 1);
}

// The subtree's part is whole.
void Collectives::send_up() {
  const Bytes up = encode(CollectiveDirection::up);
  hook_.count_sent(sum_, 1);
  {
    const std::lock_guard guard(inbox_guard_);
    merging_ = false;
    set_stage(Stage::asked);
  }
  nic_.send(NodeId{place_.parent}, nic::MessageKind::sync_collective, up);
}

// The tree's part is whole. The partner may go on as soon as it is told, and send the next one's.
void Collectives::send_across() {
  set_stage(Stage::exchanging);  // who looks under the guard meanwhile sees that somebody merges
  Bytes body;
  tell(neighbours_[next_], CollectiveDirection::across, &body);
}

// All nodes' contributions are in value_ and sum_: the children are told, then this node's threads.
void Collectives::pass_down() {
  Bytes body;
  for (std::size_t i = 0; i < place_.children.size(); ++i) tell(neighbours_[i], CollectiveDirection::down, &body);
  {
    const std::lock_guard guard(inbox_guard_);
    merging_ = false;
    set_stage(Stage::released);
  }
  moved().announce(nic_.env());
}

// ---- marks -------------------------------------------------------------------------------------------------------------------------

WaitWord& Collectives::moved() { return mine_ ? nic_.counter_word(*mine_) : moved_; }

void Collectives::prefetch_mark() {
  if (!place_.has_partner || !place_.children.empty()) return;
  const Neighbour& partner = neighbours_.back();
  const std::uint32_t counter = partner.counter.load(std::memory_order_relaxed);  // relaxed: a number, and nothing behind it
  if (counter != 0) nic_.prefetch(nic::RemoteCounter{NodeId{partner.node}, CounterId{counter - 1}});
}

bool Collectives::is_marked() const {
  // relaxed: changes only when this collective has ended
  return mine_ && CollectiveMark{nic_.counter_value(*mine_)}.says(number_.load(std::memory_order_relaxed));
}

bool Collectives::may_move() const {
  const Stage now = stage();
  return (now == Stage::asked || now == Stage::exchanging) && is_marked();
}

CollectiveMessage Collectives::as_message() const {
  CollectiveMessage message;
  message.number = number_.load();
  message.least_wait_ns = CollectiveMark{nic_.counter_value(*mine_)}.least_wait_ns();
  return message;
}

void Collectives::note_counter(Neighbour& neighbour, const CollectiveMessage& message) {
  if (message.counter != 0)
    neighbour.counter.store(message.counter, std::memory_order_relaxed);  // relaxed: a number, and nothing behind it
}

// ---- messages ----------------------------------------------------------------------------------------------------------------------

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
  const bool from_partner = place_.has_partner && from.value == place_.partner;
  const auto neighbour = std::ranges::find(neighbours_, from.value, &Neighbour::node);
  switch (message->direction) {
    case CollectiveDirection::up:
    case CollectiveDirection::across: {
      // What a reduction must carry is checked here, so that who merges can rely on it.
      if (neighbour == neighbours_.end() || from_partner != (message->direction == CollectiveDirection::across)) return drop();
      if (message->call.kind == CollectiveKind::all_reduce && !message->has_value) return drop();
      {
        const std::lock_guard guard(inbox_guard_);
        if (neighbour->full == (from_partner ? 2 : 1)) return drop();
        neighbour->bodies[neighbour->full++].assign(body.begin(), body.end());
        note_counter(*neighbour, *message);
      }
      advance(nullptr);
      moved().announce(nic_.env());
      return;
    }
    case CollectiveDirection::down:
      if (!from_parent || stage() != Stage::asked || (carries_value(message->call.kind) && !message->has_value)) return drop();
      return hear_parent(*message);
    case CollectiveDirection::refusal: {
      if ((!from_parent && neighbour == neighbours_.end()) || !message->has_value || message->value.empty()) return drop();
      const std::string words(reinterpret_cast<const char*>(message->value.data()), message->value.size());
      return refuse(words, from.value);
    }
  }
}

}  // namespace netvm::sync
