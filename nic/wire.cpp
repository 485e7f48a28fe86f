#include "nic/wire.hpp"

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/check.hpp"

namespace netvm::nic {

namespace {

// ---- the bytes ----------------------------------------------------------------------------------------------------------------------

struct Base {
  std::uint32_t magic;
  std::uint8_t opcode;
  std::uint8_t notify;
  std::uint8_t code;
  std::uint8_t error_era;
  std::uint64_t session;
  std::uint32_t source;
  std::uint32_t target;
  std::uint32_t sequence;
  std::uint32_t acknowledged;
  std::uint64_t request;
  std::uint32_t region;
  std::uint32_t bytes;
  std::uint64_t key;
  std::uint64_t offset;
  std::uint32_t pieces_before;
  std::uint32_t pages_ahead;
  std::uint32_t credits;
  std::uint32_t checksum;  // of base (with 0 here) and extension; on some fabrics of the payload, too
};
struct NotifyExtension {
  std::uint32_t counter;
  std::uint32_t zero;
  std::uint64_t increment;
};
struct AtomicExtension {
  std::uint64_t operand, compare, compare_mask, swap_mask;
};
struct MessageExtension {
  std::uint64_t total;
};
struct DoneExtension {
  std::uint64_t old_value;
};
struct SlotsExtension {  // of give_back and ack
  std::uint32_t slots;
  std::uint32_t zero;
};
static_assert(sizeof(Base) == 80 && offsetof(Base, session) == 8 && offsetof(Base, request) == 32 && offsetof(Base, key) == 48 &&
              offsetof(Base, pieces_before) == 64 && offsetof(Base, checksum) == 76);
static_assert(sizeof(NotifyExtension) == 16 && sizeof(AtomicExtension) == 32 && sizeof(MessageExtension) == 8 &&
              sizeof(DoneExtension) == 8 && sizeof(SlotsExtension) == 8);
static_assert(kMaxHeader == sizeof(Base) + sizeof(AtomicExtension));

std::size_t extension_bytes(Opcode opcode, NotifyFlag notify) {
  switch (opcode) {
    case Opcode::write:
    case Opcode::write_vector:
      return notify == NotifyFlag::none ? 0 : sizeof(NotifyExtension);
    case Opcode::notify:
      return sizeof(NotifyExtension);
    case Opcode::atomic:
      return sizeof(AtomicExtension);
    case Opcode::message:
      return sizeof(MessageExtension);
    case Opcode::done:
      return sizeof(DoneExtension);
    case Opcode::give_back:
    case Opcode::ack:
      return sizeof(SlotsExtension);
    case Opcode::read:
    case Opcode::data:
      return 0;
  }
  return 0;
}

/// Of a header whose checksum field is 0, and of the payload that goes with it, if that is covered.
std::uint32_t checksum_of(std::span<const std::byte> header, std::span<const std::byte> checked_payload) {
  const XXH64_hash_t hash = XXH3_64bits(header.data(), header.size());
  if (checked_payload.empty()) return static_cast<std::uint32_t>(hash);
  return static_cast<std::uint32_t>(XXH3_64bits_withSeed(checked_payload.data(), checked_payload.size(), hash));
}

// ---- what each opcode may contain ---------------------------------------------------------------------------------------------------

bool known(std::uint8_t opcode) {
  return (opcode >= static_cast<std::uint8_t>(Opcode::write) && opcode <= static_cast<std::uint8_t>(Opcode::message)) ||
         (opcode >= static_cast<std::uint8_t>(Opcode::done) && opcode <= static_cast<std::uint8_t>(Opcode::give_back)) ||
         opcode == static_cast<std::uint8_t>(Opcode::ack);
}

bool notify_allowed(const PacketHeader& h) {
  switch (h.opcode) {
    case Opcode::write:
    case Opcode::write_vector:
      return h.notify <= NotifyFlag::ordered_failed;
    case Opcode::notify:
      return h.notify == NotifyFlag::ordered || h.notify == NotifyFlag::ordered_failed;
    default:
      return h.notify == NotifyFlag::none;
  }
}

bool code_allowed(const PacketHeader& h) {
  switch (h.opcode) {
    case Opcode::atomic:
      return h.code <= static_cast<std::uint8_t>(AtomicOp::fetch_or);
    case Opcode::message:
      return h.code > 0 && h.code < kMessageKinds;
    case Opcode::done:
      return h.code <= static_cast<std::uint8_t>(Status::invalid);
    case Opcode::ack:
      return h.code <= static_cast<std::uint8_t>(AckCode::answer_me);
    default:
      return h.code == 0;
  }
}

/// Fields that mean nothing for the opcode are 0, so that a packet has one encoding.
bool unused_are_zero(const PacketHeader& h) {
  const bool names_memory = is_request(h.opcode) && h.opcode != Opcode::notify;
  if (!names_memory && (h.region.value != 0 || h.key != 0 || h.pages_ahead != 0)) return false;
  if (!names_memory && h.opcode != Opcode::message && h.offset != 0) return false;
  if (!takes_credit(h.opcode) && h.pieces_before != 0) return false;
  if (!is_sequenced(h.opcode) && h.sequence != 0) return false;
  return is_request(h.opcode) || is_answer(h.opcode) ? h.request != 0 : h.request == 0;
}

bool vector_is_whole(std::span<const std::byte> payload) {
  if (payload.size() < kVectorHead) return false;
  std::uint32_t count = 0, reserved = 0;
  std::memcpy(&count, payload.data(), sizeof count);
  std::memcpy(&reserved, payload.data() + sizeof count, sizeof reserved);
  if (count == 0 || reserved != 0 || count > (payload.size() - kVectorHead) / sizeof(VectorPiece)) return false;
  std::uint64_t left = payload.size() - kVectorHead - count * sizeof(VectorPiece);
  for (std::uint32_t i = 0; i < count; ++i) {
    VectorPiece piece;
    std::memcpy(&piece, payload.data() + kVectorHead + i * sizeof piece, sizeof piece);
    if (piece.reserved != 0 || piece.bytes > left) return false;
    left -= piece.bytes;
  }
  return left == 0;
}

bool sizes_fit(const PacketHeader& h, std::span<const std::byte> payload) {
  switch (h.opcode) {
    case Opcode::read:
      return payload.empty() && h.bytes <= kPageSize;
    case Opcode::write:
    case Opcode::data:
      return h.bytes == payload.size();
    case Opcode::write_vector:
      return h.bytes == payload.size() && h.offset == 0 && vector_is_whole(payload);
    case Opcode::message:
      return h.bytes == payload.size() && h.total <= kMaxMessage && h.offset <= h.total && h.bytes <= h.total - h.offset &&
             (h.bytes > 0 || h.total == 0);
    case Opcode::atomic:
    case Opcode::notify:
    case Opcode::done:
      return payload.empty() && h.bytes == 0;
    case Opcode::give_back:
      return payload.empty() && h.bytes == 0 && h.slots != 0;
    case Opcode::ack:
      return h.bytes == payload.size() && h.bytes <= kMaxAckBitmap && h.bytes % sizeof(std::uint64_t) == 0;
  }
  return false;
}

void read_base(const Base& base, PacketHeader* h) {
  h->opcode = static_cast<Opcode>(base.opcode);
  h->notify = static_cast<NotifyFlag>(base.notify);
  h->code = base.code;
  h->error_era = base.error_era;
  h->session = base.session;
  h->source = NodeId{base.source};
  h->target = NodeId{base.target};
  h->sequence = base.sequence;
  h->acknowledged = base.acknowledged;
  h->credits = base.credits;
  h->bytes = base.bytes;
  h->request = base.request;
  h->region = RegionId{base.region};
  h->pieces_before = base.pieces_before;
  h->pages_ahead = base.pages_ahead;
  h->key = base.key;
  h->offset = base.offset;
}

bool read_extension(const std::byte* at, PacketHeader* h) {
  switch (h->opcode) {
    case Opcode::write:
    case Opcode::write_vector:
    case Opcode::notify: {
      if (h->notify == NotifyFlag::none) return true;
      NotifyExtension e;
      std::memcpy(&e, at, sizeof e);
      h->counter = CounterId{e.counter};
      h->increment = e.increment;
      return e.zero == 0;
    }
    case Opcode::atomic: {
      AtomicExtension e;
      std::memcpy(&e, at, sizeof e);
      h->atomic = {static_cast<AtomicOp>(h->code), e.operand, e.compare, e.compare_mask, e.swap_mask};
      return true;
    }
    case Opcode::message:
      std::memcpy(&h->total, at, sizeof(MessageExtension));
      return true;
    case Opcode::done:
      std::memcpy(&h->old_value, at, sizeof(DoneExtension));
      return true;
    case Opcode::give_back:
    case Opcode::ack: {
      SlotsExtension e;
      std::memcpy(&e, at, sizeof e);
      h->slots = e.slots;
      return e.zero == 0;
    }
    case Opcode::read:
    case Opcode::data:
      return true;
  }
  return false;
}

void write_extension(const PacketHeader& h, std::byte* at) {
  switch (h.opcode) {
    case Opcode::write:
    case Opcode::write_vector:
    case Opcode::notify: {
      if (h.notify == NotifyFlag::none) return;
      const NotifyExtension e{h.counter.value, 0, h.increment};
      std::memcpy(at, &e, sizeof e);
      return;
    }
    case Opcode::atomic: {
      const AtomicExtension e{h.atomic.operand, h.atomic.compare, h.atomic.compare_mask, h.atomic.swap_mask};
      std::memcpy(at, &e, sizeof e);
      return;
    }
    case Opcode::message:
      std::memcpy(at, &h.total, sizeof(MessageExtension));
      return;
    case Opcode::done:
      std::memcpy(at, &h.old_value, sizeof(DoneExtension));
      return;
    case Opcode::give_back:
    case Opcode::ack: {
      const SlotsExtension e{h.slots, 0};
      std::memcpy(at, &e, sizeof e);
      return;
    }
    case Opcode::read:
    case Opcode::data:
      return;
  }
}

Status read_packet(NodeId from, std::span<const std::byte> bytes, const WireContext& context, Packet* packet) {
  Base base;
  if (bytes.size() < sizeof base) return Status::invalid;
  std::memcpy(&base, bytes.data(), sizeof base);
  if (base.magic != kWireMagic || !known(base.opcode) || base.notify > static_cast<std::uint8_t>(NotifyFlag::ordered_failed)) {
    return Status::invalid;
  }
  PacketHeader& h = packet->header;
  read_base(base, &h);
  const std::size_t header_bytes = sizeof base + extension_bytes(h.opcode, h.notify);
  if (bytes.size() < header_bytes) return Status::invalid;
  packet->payload = bytes.subspan(header_bytes);
  std::array<std::byte, kMaxHeader> header;
  std::memcpy(header.data(), bytes.data(), header_bytes);
  std::memset(header.data() + offsetof(Base, checksum), 0, sizeof(Base::checksum));
  const std::span<const std::byte> checked = context.payload_checked ? packet->payload : std::span<const std::byte>{};
  if (checksum_of({header.data(), header_bytes}, checked) != base.checksum) return Status::invalid;
  if (h.session != context.session) return Status::stale_epoch;
  if (h.source != from || h.source.value >= context.nodes || h.target != context.self) return Status::invalid;
  if (!notify_allowed(h) || !code_allowed(h) || !unused_are_zero(h)) return Status::invalid;
  if (!read_extension(bytes.data() + sizeof base, &h)) return Status::invalid;
  if (!sizes_fit(h, packet->payload)) return Status::invalid;
  return Status::ok;
}

}  // namespace

std::size_t encode(const PacketHeader& h, std::span<std::byte, kMaxHeader> to, std::span<const std::byte> checked_payload) {
  NETVM_CHECK(known(static_cast<std::uint8_t>(h.opcode)) && notify_allowed(h) && code_allowed(h) && unused_are_zero(h),
              "a packet of opcode %u that no receiver would take", static_cast<unsigned>(h.opcode));
  const Base base{kWireMagic,
                  static_cast<std::uint8_t>(h.opcode),
                  static_cast<std::uint8_t>(h.notify),
                  h.code,
                  h.error_era,
                  h.session,
                  h.source.value,
                  h.target.value,
                  h.sequence,
                  h.acknowledged,
                  h.request,
                  h.region.value,
                  h.bytes,
                  h.key,
                  h.offset,
                  h.pieces_before,
                  h.pages_ahead,
                  h.credits,
                  0};
  const std::size_t bytes = sizeof base + extension_bytes(h.opcode, h.notify);
  std::memcpy(to.data(), &base, sizeof base);
  write_extension(h, to.data() + sizeof base);
  const std::uint32_t checksum = checksum_of(to.first(bytes), checked_payload);
  std::memcpy(to.data() + offsetof(Base, checksum), &checksum, sizeof checksum);
  return bytes;
}

Result<Packet> decode(NodeId from, std::span<const std::byte> bytes, const WireContext& context) {
  Result<Packet> result{Packet{}};
  if (const Status status = read_packet(from, bytes, context, &*result); !ok(status)) result = status;
  return result;  // made in place: it is not small
}

VectorReader::VectorReader(std::span<const std::byte> payload) : payload_(payload) {
  std::memcpy(&count_, payload.data(), sizeof count_);
  at_ = kVectorHead + count_ * sizeof(VectorPiece);
}

bool VectorReader::next(VectorPiece* piece, const std::byte** bytes) {
  if (index_ == count_) return false;
  std::memcpy(piece, payload_.data() + kVectorHead + index_ * sizeof *piece, sizeof *piece);
  *bytes = payload_.data() + at_;
  at_ += piece->bytes;
  ++index_;
  return true;
}

}  // namespace netvm::nic
