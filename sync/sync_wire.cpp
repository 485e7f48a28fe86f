#include "sync/sync_wire.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "sync/home_rules.hpp"

namespace netvm::sync {

static_assert(std::endian::native == std::endian::little, "headers are copied as they lie in memory");

Bytes encode_lock(LockMessageType type, std::uint64_t offset, std::uint64_t epoch, std::span<const std::byte> cargo) {
  LockHeader header;
  header.type = static_cast<std::uint8_t>(type);
  header.cargo_bytes = static_cast<std::uint32_t>(cargo.size());
  header.offset = offset;
  header.epoch = epoch;
  Bytes body(sizeof header + cargo.size());
  std::memcpy(body.data(), &header, sizeof header);
  std::copy(cargo.begin(), cargo.end(), body.begin() + sizeof header);
  return body;
}

namespace {
// Whether a message of that type may have so many bytes behind its header.
bool fits(LockMessageType type, std::size_t bytes) {
  switch (type) {
    case LockMessageType::in_use:
    case LockMessageType::forget:
    case LockMessageType::hold_still:
    case LockMessageType::revived:
      return bytes == sizeof(std::uint64_t);
    case LockMessageType::lost:  // with the number of the question that it answers
      return bytes == 0 || bytes == sizeof(std::uint64_t);
    case LockMessageType::use:
      return bytes % sizeof(LockTail) == 0;
    case LockMessageType::placed:
      return bytes == sizeof(Placed);
    default:
      return true;
  }
}
}  // namespace

std::optional<Placed> decode_placed(std::span<const std::byte> payload, std::uint32_t nodes) {
  Placed placed;
  if (payload.size() != sizeof placed) return std::nullopt;
  std::memcpy(&placed, payload.data(), sizeof placed);
  const bool known = placed.kind <= static_cast<std::uint8_t>(HomeRule::Kind::block) && placed.node < nodes && placed.placer < nodes &&
                     placed.dead.fits(nodes);
  const bool clean = std::ranges::all_of(placed.reserved, [](std::uint8_t byte) { return byte == 0; });
  if (!known || !clean || placed.stride == 0 || placed.aborted > 1 || placed.passed_on > 1) return std::nullopt;
  return placed;
}

std::optional<LockMessage> decode_lock(std::span<const std::byte> body) {
  LockHeader header;
  if (body.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, body.data(), sizeof header);
  if (header.type < static_cast<std::uint8_t>(LockMessageType::request) ||
      header.type > static_cast<std::uint8_t>(LockMessageType::revived)) {
    return std::nullopt;
  }
  for (const std::uint8_t byte : header.reserved) {
    if (byte != 0) return std::nullopt;
  }
  const auto type = static_cast<LockMessageType>(header.type);
  const std::span<const std::byte> rest = body.subspan(sizeof header);
  if (!fits(type, rest.size())) return std::nullopt;
  if (header.cargo_bytes > rest.size() || (header.cargo_bytes != 0 && !has_cargo(type))) return std::nullopt;
  return LockMessage{type, header.offset, header.epoch, rest.first(header.cargo_bytes), rest.subspan(header.cargo_bytes)};
}

Bytes encode_wake(SyncId object, std::uint64_t value, std::span<const std::uint64_t> waiters) {
  WakeHeader header;
  header.object = object.offset;
  header.value = value;
  header.waiters = static_cast<std::uint32_t>(waiters.size());
  const auto numbers = std::as_bytes(waiters);
  Bytes body(sizeof header + numbers.size());
  std::memcpy(body.data(), &header, sizeof header);
  std::copy(numbers.begin(), numbers.end(), body.begin() + sizeof header);
  return body;
}

std::optional<WakeMessage> decode_wake(std::span<const std::byte> body) {
  WakeHeader header;
  if (body.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, body.data(), sizeof header);
  const std::span<const std::byte> rest = body.subspan(sizeof header);
  if (header.reserved != 0 || header.waiters > rest.size() / sizeof(std::uint64_t)) return std::nullopt;
  if (header.waiters == 0 && !rest.empty()) return std::nullopt;
  WakeMessage message;
  message.object = SyncId{header.object};
  if (!message.object.is_object()) return std::nullopt;
  message.value = header.value;
  message.waiters.resize(header.waiters);
  if (header.waiters != 0) std::memcpy(message.waiters.data(), rest.data(), header.waiters * sizeof(std::uint64_t));
  message.payload = rest.subspan(header.waiters * sizeof(std::uint64_t));
  return message;
}

const char* to_string(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::barrier:
      return "barrier";
    case CollectiveKind::all_reduce:
      return "all_reduce";
    case CollectiveKind::farewell:
      return "end of the job (did one node return from main early?)";
    case CollectiveKind::broadcast:
      return "broadcast";
  }
  return "unknown";
}

std::string to_text(const CollectiveCall& call) {
  std::string words = to_string(call.kind);
  if (carries_value(call.kind)) words += " of " + std::to_string(call.value_bytes) + " bytes";
  if (call.kind == CollectiveKind::broadcast) words += " from node " + std::to_string(call.root);
  return words;
}

Bytes encode_collective(CollectiveDirection direction, const CollectiveCall& call, std::uint64_t number, bool has_value,
                        std::span<const std::byte> value, std::span<const std::byte> payload, std::uint64_t least_wait_ns,
                        std::uint32_t counter) {
  CollectiveHeader header;
  header.direction = static_cast<std::uint8_t>(direction);
  header.kind = static_cast<std::uint8_t>(call.kind);
  header.has_value = has_value ? 1 : 0;
  header.root = call.root;
  header.number = number;
  header.value_bytes = call.value_bytes;
  header.least_wait_ns = least_wait_ns;
  header.counter = counter;
  Bytes body(sizeof header);
  body.reserve(sizeof header + (has_value ? value.size() : 0) + payload.size());
  std::memcpy(body.data(), &header, sizeof header);
  if (has_value) body.insert(body.end(), value.begin(), value.end());
  body.insert(body.end(), payload.begin(), payload.end());
  return body;
}

std::optional<CollectiveMessage> decode_collective(std::span<const std::byte> body) {
  CollectiveHeader header;
  if (body.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, body.data(), sizeof header);
  const bool known_direction = header.direction >= static_cast<std::uint8_t>(CollectiveDirection::up) &&
                               header.direction <= static_cast<std::uint8_t>(CollectiveDirection::across);
  const bool known_kind = header.kind >= static_cast<std::uint8_t>(CollectiveKind::barrier) &&
                          header.kind <= static_cast<std::uint8_t>(CollectiveKind::farewell);
  if (!known_direction || !known_kind || header.has_value > 1 || header.reserved != 0 || header.reserved_too != 0) return std::nullopt;
  std::span<const std::byte> rest = body.subspan(sizeof header);
  CollectiveMessage message;
  message.direction = static_cast<CollectiveDirection>(header.direction);
  message.call = {static_cast<CollectiveKind>(header.kind), header.root, header.value_bytes};
  message.number = header.number;
  message.least_wait_ns = header.least_wait_ns;
  message.counter = header.counter;
  message.has_value = header.has_value != 0;
  if (message.has_value) {
    if (header.value_bytes > rest.size()) return std::nullopt;
    message.value = rest.first(header.value_bytes);
    rest = rest.subspan(header.value_bytes);
  }
  message.payload = rest;
  return message;
}

}  // namespace netvm::sync
