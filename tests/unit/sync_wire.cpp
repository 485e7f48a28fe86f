// Messages of sync/: what is encoded decodes to the same; anything else is refused.
#include "sync/sync_wire.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "runtime/random.hpp"
#include "sync/object_change.hpp"

namespace netvm::sync {
namespace {

Bytes bytes(std::size_t count) {
  Bytes made(count);
  for (std::size_t i = 0; i < count; ++i) made[i] = static_cast<std::byte>(i * 7 + 1);
  return made;
}

TEST_CASE("lock messages survive the wire") {
  for (const auto type : {LockMessageType::request, LockMessageType::grant, LockMessageType::probe, LockMessageType::free,
                          LockMessageType::busy, LockMessageType::lost}) {
    const Bytes cargo = bytes(has_cargo(type) ? 33 : 0);
    Bytes body = encode_lock(type, 0x123456789abcdef0, 42, cargo);
    const Bytes payload = bytes(type == LockMessageType::lost ? 8 : 100);
    body.insert(body.end(), payload.begin(), payload.end());
    const auto message = decode_lock(body);
    REQUIRE(message.has_value());
    CHECK(message->type == type);
    CHECK(message->offset == 0x123456789abcdef0);
    CHECK(message->epoch == 42);
    CHECK(std::ranges::equal(message->cargo, cargo));
    CHECK(std::ranges::equal(message->payload, payload));
  }
  Bytes lost = encode_lock(LockMessageType::lost, 1, 2);
  CHECK(decode_lock(lost).has_value());
  lost.push_back(std::byte{});  // the number of a question is longer
  CHECK_FALSE(decode_lock(lost).has_value());
}

TEST_CASE("wake-ups survive the wire; those of nobody, of a mutex, or cut short are refused") {
  const std::vector<std::uint64_t> waiters = {7, 1, std::uint64_t{1} << 40};
  const Bytes payload = bytes(50);
  const SyncId object = SyncId::of_object(0x1234);
  Bytes body = encode_wake(object, 5, waiters);
  CHECK_FALSE(decode_wake(std::span(body).first(body.size() - 1)).has_value());
  CHECK_FALSE(decode_wake(std::span(body).first(10)).has_value());
  body.insert(body.end(), payload.begin(), payload.end());
  const auto message = decode_wake(body);
  REQUIRE(message.has_value());
  CHECK(message->object == object);
  CHECK(message->value == 5);
  CHECK(message->waiters == waiters);
  CHECK(std::ranges::equal(message->payload, payload));
  Bytes look_again = encode_wake(object, 0, {});
  CHECK(decode_wake(look_again).has_value());
  look_again.push_back(std::byte{});
  CHECK_FALSE(decode_wake(look_again).has_value());
  CHECK_FALSE(decode_wake(encode_wake(SyncId{0x1234}, 5, waiters)).has_value());
}

TEST_CASE("an object's state survives its travel; an untouched one is no bytes; anything else is refused") {
  Bytes none;
  encode_object({}, none);
  CHECK(none.empty());
  REQUIRE(decode_object({}, 1).has_value());
  CHECK(decode_object({}, 1)->kind == ObjectKind::none);
  ObjectState state;
  state.kind = ObjectKind::rwlock;
  state.count = 3;
  state.limit = 4;
  state.phase = 5;
  state.queue.push_back({17, NodeId{2}, QueuedWaiter::Role::writer, bytes(9)});
  state.queue.push_back({18, NodeId{0}, QueuedWaiter::Role::reader, {}});
  state.more().answers.push_back({NodeId{1}, true, 7, 8});
  state.more().users.push_back({NodeId{2}, 3});
  state.more().waking.push_back({21, NodeId{1}, NodeId{2}, QueuedWaiter::Role::reader});
  state.broken = true;
  Bytes wire;
  encode_object(state, wire);
  const auto back = decode_object(wire, 3);
  REQUIRE(back.has_value());
  CHECK(back->kind == state.kind);
  CHECK(back->count == 3);
  CHECK(back->limit == 4);
  CHECK(back->phase == 5);
  REQUIRE(back->queue.size() == 2);
  CHECK(back->queue.front().id == 17);
  CHECK(back->queue.front().node == NodeId{2});
  CHECK(back->queue.front().role == QueuedWaiter::Role::writer);
  CHECK(back->queue.front().request == bytes(9));
  REQUIRE(back->lists->answers.size() == 1);
  CHECK(back->lists->answers[0].node == NodeId{1});
  CHECK(back->lists->answers[0].refused);
  CHECK(back->lists->answers[0].number == 7);
  CHECK(back->lists->answers[0].value == 8);
  REQUIRE(back->lists->users.size() == 1);
  CHECK(back->lists->users[0].node == NodeId{2});
  CHECK(back->lists->users[0].shares == 3);
  CHECK(back->broken);
  REQUIRE(back->lists->waking.size() == 1);
  CHECK(back->lists->waking[0].id == 21);
  CHECK(back->lists->waking[0].node == NodeId{1});
  CHECK(back->lists->waking[0].waker == NodeId{2});
  CHECK(back->lists->waking[0].role == QueuedWaiter::Role::reader);
  CHECK_FALSE(decode_object(wire, 2).has_value());  // there is no node 2
  for (std::size_t cut = 1; cut < wire.size(); ++cut) CHECK_FALSE(decode_object(std::span(wire).first(cut), 3).has_value());
  Bytes longer = wire;
  longer.push_back(std::byte{0});
  CHECK_FALSE(decode_object(longer, 3).has_value());
  for (const int kind : {8, 255}) {
    Bytes wrong = wire;
    wrong[0] = static_cast<std::byte>(kind);
    CHECK_FALSE(decode_object(wrong, 3).has_value());
  }
}

TEST_CASE("what rides ahead of a request survives the wire; anything else is refused") {
  for (const auto op :
       {Change::Op::release, Change::Op::wake, Change::Op::set_flag, Change::Op::clear_flag, Change::Op::count_down, Change::Op::arrive}) {
    Bytes wire;
    encode_ride({5, {.op = op, .drops = op == Change::Op::arrive, .amount = 6, .most = 7}}, wire);
    const std::size_t header = wire.size();
    const Bytes payload = bytes(20);
    wire.insert(wire.end(), payload.begin(), payload.end());
    const auto message = decode_ride(wire);
    REQUIRE(message.has_value());
    CHECK(message->ride.number == 5);
    CHECK(message->ride.change.op == op);
    CHECK(message->ride.change.drops == (op == Change::Op::arrive));
    CHECK(message->ride.change.amount == 6);
    CHECK(message->ride.change.most == 7);
    CHECK(std::ranges::equal(message->payload, payload));
    CHECK_FALSE(decode_ride(std::span(wire).first(header - 1)).has_value());
    for (const std::size_t at : {24UL, 25UL, 31UL}) {
      Bytes wrong = wire;
      wrong[at] = std::byte{99};
      CHECK_FALSE(decode_ride(wrong).has_value());
    }
  }
}

TEST_CASE("a change does to an object's state what its kind says, and nothing where a count does not fit") {
  const auto waiting = [](std::uint64_t count, std::size_t waiters) {
    ObjectState state;
    state.count = count;
    state.limit = 4;
    state.phase = 2;
    for (std::size_t i = 0; i < waiters; ++i) state.queue.push_back({i, NodeId{0}, QueuedWaiter::Role::any, {}});
    return state;
  };
  ObjectState state = waiting(0, 2);
  CHECK(perform(state, {.op = Change::Op::release, .amount = 3, .most = 5}).woken.size() == 2);
  CHECK(state.count == 1);
  CHECK(perform(state, {.op = Change::Op::release, .amount = 5, .most = 5}).refused);
  CHECK(perform(state, {.op = Change::Op::release, .amount = 6, .most = 5}).refused);
  CHECK(state.count == 1);
  state = waiting(0, 3);
  CHECK(perform(state, {.op = Change::Op::wake, .amount = 2}).value == 2);
  CHECK(perform(state, {.op = Change::Op::wake, .amount = UINT64_MAX}).value == 1);
  state = waiting(0, 2);
  CHECK(perform(state, {.op = Change::Op::clear_flag}).woken.empty());
  CHECK(perform(state, {.op = Change::Op::set_flag}).woken.size() == 2);
  CHECK(state.count == 1);
  state = waiting(2, 1);
  CHECK(perform(state, {.op = Change::Op::count_down, .amount = 3}).refused);
  CHECK(perform(state, {.op = Change::Op::count_down, .amount = 1}).woken.empty());
  CHECK(perform(state, {.op = Change::Op::count_down, .amount = 1}).woken.size() == 1);
  state = waiting(2, 1);
  CHECK(perform(state, {.op = Change::Op::arrive, .amount = 1, .most = 3}).refused);
  CHECK(perform(state, {.op = Change::Op::arrive, .amount = 0}).refused);
  CHECK_FALSE(completes(state, {.op = Change::Op::arrive, .amount = 1}));
  CHECK(perform(state, {.op = Change::Op::arrive, .drops = true, .amount = 1}).value == 2);
  const Outcome last = perform(state, {.op = Change::Op::arrive, .amount = 1, .most = 3});
  CHECK(last.value == 2);
  CHECK(last.woken.size() == 1);
  CHECK(state.phase == 3);
  CHECK(state.count == 3);
}

TEST_CASE("collective messages survive the wire, with and without a value") {
  const Bytes value = bytes(24);
  const Bytes payload = bytes(1000);
  for (const bool has_value : {false, true}) {
    const CollectiveCall call{CollectiveKind::broadcast, 3, 24};
    const Bytes body = encode_collective(CollectiveDirection::down, call, 99, has_value, value, payload);
    const auto message = decode_collective(body);
    REQUIRE(message.has_value());
    CHECK(message->direction == CollectiveDirection::down);
    CHECK(message->call == call);
    CHECK(message->number == 99);
    CHECK(message->has_value == has_value);
    CHECK(message->value.size() == (has_value ? 24 : 0));
    CHECK(std::ranges::equal(message->payload, payload));
  }
}

TEST_CASE("bodies that are not ours are refused") {
  CHECK_FALSE(decode_lock({}).has_value());
  CHECK_FALSE(decode_collective({}).has_value());
  const Bytes lock = encode_lock(LockMessageType::request, 1, 2);
  CHECK_FALSE(decode_lock(std::span(lock).first(lock.size() - 1)).has_value());
  for (const int type : {0, 7, 255}) {
    Bytes wrong = lock;
    wrong[0] = static_cast<std::byte>(type);
    CHECK_FALSE(decode_lock(wrong).has_value());
  }
  const Bytes grant = encode_lock(LockMessageType::grant, 1, 2, bytes(5));
  CHECK_FALSE(decode_lock(std::span(grant).first(grant.size() - 1)).has_value());  // shorter than its cargo
  CHECK_FALSE(decode_lock(encode_lock(LockMessageType::probe, 1, 2, bytes(5))).has_value());
  const Bytes call = encode_collective(CollectiveDirection::up, {CollectiveKind::all_reduce, 0, 8}, 1, true, bytes(8), {});
  CHECK(decode_collective(call).has_value());
  CHECK_FALSE(decode_collective(std::span(call).first(call.size() - 1)).has_value());  // shorter than its value
  for (const std::size_t field : {0, 1, 2, 3}) {
    Bytes wrong = call;
    wrong[field] = std::byte{77};
    CHECK_FALSE(decode_collective(wrong).has_value());
  }
  Bytes huge = call;
  const std::uint64_t length = ~std::uint64_t{0};
  std::memcpy(huge.data() + offsetof(CollectiveHeader, value_bytes), &length, sizeof length);
  CHECK_FALSE(decode_collective(huge).has_value());
}

TEST_CASE("random bytes never decode to something outside of themselves") {
  SplitMix64 random(5);
  for (int round = 0; round < 20'000; ++round) {
    Bytes body(random.below(80));
    for (std::byte& b : body) b = static_cast<std::byte>(random.below(4));
    const auto inside = [&](std::span<const std::byte> part) {
      return part.empty() || (part.data() >= body.data() && part.data() + part.size() <= body.data() + body.size());
    };
    if (const auto message = decode_lock(body)) {
      CHECK(inside(message->cargo));
      CHECK(inside(message->payload));
    }
    if (const auto message = decode_wake(body)) CHECK(inside(message->payload));
    (void)decode_object(body, 4);
    if (const auto message = decode_collective(body)) {
      CHECK(inside(message->value));
      CHECK(inside(message->payload));
    }
  }
}

}  // namespace
}  // namespace netvm::sync
