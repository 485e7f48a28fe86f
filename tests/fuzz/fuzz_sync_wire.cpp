// sync/sync_wire, sync/object_state: bodies of lock, wake and collective messages, what tokens carry; what decodes encodes to the same bytes.
#include <algorithm>

#include "sync/object_change.hpp"
#include "sync/sync_wire.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm::sync;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto body = fuzz_bytes(data, size);
  if (const auto lock = decode_lock(body)) {
    FUZZ_REQUIRE(lock->cargo.empty() || has_cargo(lock->type));
    Bytes again = encode_lock(lock->type, lock->offset, lock->epoch, lock->cargo);
    again.insert(again.end(), lock->payload.begin(), lock->payload.end());
    FUZZ_REQUIRE(std::ranges::equal(again, body));
  }
  if (const auto wake = decode_wake(body)) {
    Bytes again = encode_wake(wake->object, wake->value, wake->waiters);
    again.insert(again.end(), wake->payload.begin(), wake->payload.end());
    FUZZ_REQUIRE(std::ranges::equal(again, body));
  }
  if (const auto state = decode_object(body, 4)) {
    for (const QueuedWaiter& waiter : state->queue) FUZZ_REQUIRE(waiter.node.value < 4);
    Bytes again;
    encode_object(*state, again);
    FUZZ_REQUIRE(std::ranges::equal(again, body));
  }
  if (const auto message = decode_ride(body)) {
    Bytes again;
    encode_ride(message->ride, again);
    again.insert(again.end(), message->payload.begin(), message->payload.end());
    FUZZ_REQUIRE(std::ranges::equal(again, body));
  }
  if (const auto call = decode_collective(body)) {
    FUZZ_REQUIRE(!call->has_value || call->value.size() == call->call.value_bytes);
    const Bytes again = encode_collective(call->direction, call->call, call->number, call->has_value, call->value, call->payload,
                                          call->least_wait_ns, call->counter);
    FUZZ_REQUIRE(std::ranges::equal(again, body));
  }
  return 0;
}
