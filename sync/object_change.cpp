#include "sync/object_change.hpp"

#include <algorithm>
#include <cstring>

namespace netvm::sync {

namespace {

struct RideHeader {
  std::uint64_t number = 0;
  std::uint64_t amount = 0;
  std::uint64_t most = 0;
  std::uint8_t op = 0;
  std::uint8_t drops = 0;
  std::uint8_t reserved[6] = {};
};
static_assert(sizeof(RideHeader) == 32);

bool fits(const ObjectState& state, const Change& change) {
  switch (change.op) {
    case Change::Op::release:
      // While anybody waits there are no permits, so those that wait and those that fit bound what may be released.
      return change.amount <= change.most && state.count <= change.most - change.amount;
    case Change::Op::count_down:
      return change.amount <= state.count;
    case Change::Op::arrive:
      return change.amount != 0 && change.amount <= state.count && (change.most == 0 || change.most == state.limit);
    default:
      return true;
  }
}

}  // namespace

ObjectKind kind_of(Change::Op op) {
  switch (op) {
    case Change::Op::release:
      return ObjectKind::semaphore;
    case Change::Op::wake:
      return ObjectKind::wait_queue;
    case Change::Op::set_flag:
    case Change::Op::clear_flag:
      return ObjectKind::flag;
    case Change::Op::count_down:
      return ObjectKind::latch;
    case Change::Op::arrive:
      return ObjectKind::barrier;
  }
  return ObjectKind::none;
}

bool completes(const ObjectState& state, const Change& change) {
  return change.op == Change::Op::arrive && fits(state, change) && state.count == change.amount;
}

std::size_t wakes(const ObjectState& state, const Change& change) {
  if (state.queue.empty() || !fits(state, change)) return 0;
  switch (change.op) {
    case Change::Op::release:
    case Change::Op::wake:
      return change.amount == 1 ? 1 : std::min<std::uint64_t>(change.amount, state.queue.size());
    case Change::Op::set_flag:
      return state.queue.size();
    case Change::Op::clear_flag:
      return 0;
    case Change::Op::count_down:
    case Change::Op::arrive:
      return state.count == change.amount ? state.queue.size() : 0;
  }
  return 0;
}

Outcome perform(ObjectState& state, const Change& change) {
  Outcome outcome;
  outcome.refused = !fits(state, change);
  if (outcome.refused) return outcome;
  const std::size_t count = wakes(state, change);
  const bool ends_phase = completes(state, change);
  switch (change.op) {
    case Change::Op::release:
      state.count += change.amount - count;
      break;
    case Change::Op::wake:
      outcome.value = count;
      break;
    case Change::Op::set_flag:
      state.count = 1;
      break;
    case Change::Op::clear_flag:
      state.count = 0;
      break;
    case Change::Op::count_down:
      state.count -= change.amount;
      break;
    case Change::Op::arrive:
      outcome.value = state.phase;
      state.count -= change.amount;
      if (change.drops) state.limit -= change.amount;
      if (ends_phase) {
        state.count = state.limit;
        ++state.phase;
      }
      break;
  }
  for (std::size_t i = 0; i < count; ++i) state.queue.move_first_to(outcome.woken);
  return outcome;
}

void encode_ride(const Ride& ride, Bytes& out) {
  RideHeader header;
  header.number = ride.number;
  header.amount = ride.change.amount;
  header.most = ride.change.most;
  header.op = static_cast<std::uint8_t>(ride.change.op);
  header.drops = ride.change.drops ? 1 : 0;
  const auto bytes = std::as_bytes(std::span(&header, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::optional<RideMessage> decode_ride(std::span<const std::byte> bytes) {
  RideHeader header;
  if (bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.op < static_cast<std::uint8_t>(Change::Op::release) || header.op > static_cast<std::uint8_t>(Change::Op::arrive) ||
      header.drops > 1 || std::ranges::any_of(header.reserved, [](std::uint8_t byte) { return byte != 0; })) {
    return std::nullopt;
  }
  RideMessage message;
  message.ride.number = header.number;
  message.ride.change = {static_cast<Change::Op>(header.op), header.drops != 0, header.amount, header.most};
  message.payload = bytes.subspan(sizeof header);
  return message;
}

}  // namespace netvm::sync
