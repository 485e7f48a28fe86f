// The wire format: what a packet is, how it is written, and the one place where one from outside is believed.
//
//   base header (80 bytes) | extension by opcode (0 .. 32 bytes) | payload
// All integers are little-endian. docs/wire_format.md has the table.
//
// Invariants
//  1. decode() is pure and total: any bytes give either a packet in which every field is in its range, or a Status. It reads nothing
//     outside the bytes and allocates nothing.
//  2. A header that was changed on its way does not decode: it carries a checksum. On a fabric that loses packets it covers the payload,
//     too: such a fabric damages them as well, and a damaged packet is a lost one. Elsewhere the payload is the fabric's business.
//  3. encode(decode(x)) == x.
//  4. Sequence numbers are 32 bits, compared around the wrap (sequence_before); at most half the space is ever in flight.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "nic/verbs.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

static_assert(std::endian::native == std::endian::little, "the wire format is little-endian and is read in place");

inline constexpr std::uint32_t kWireMagic = 0x314d'564eU;  // "NVM1": the digit is the version
inline constexpr std::size_t kMaxHeader = 112;             // base and the longest extension
inline constexpr std::uint64_t kMaxMessage = std::uint64_t{1} << 30;
inline constexpr std::uint8_t kMessageKinds = 16;  // MessageKind is 1 .. 15

enum class Opcode : std::uint8_t {
  // requests: cost a credit, are answered
  write = 1,         ///< payload to region + offset
  write_vector = 2,  ///< payload: a table of pieces, then their bytes
  read = 3,          ///< `bytes` of region + offset are wanted
  atomic = 4,
  notify = 5,  ///< an ORDERED increment without data
  // two-sided: costs a credit, is not answered
  message = 6,  ///< one fragment
  // answers: cost no credit, take effect on arrival, matched by request id
  done = 16,  ///< of write, write_vector, notify, atomic; or of any that failed
  data = 17,  ///< of a read: the bytes
  // of the channel itself: cost no credit
  give_back = 18,  ///< credits that the source will not use
  ack = 24,        ///< no sequence number; payload: what has arrived beyond `acknowledged`
};
constexpr bool is_request(Opcode op) { return op >= Opcode::write && op <= Opcode::notify; }
constexpr bool is_answer(Opcode op) { return op == Opcode::done || op == Opcode::data; }
constexpr bool takes_credit(Opcode op) { return op >= Opcode::write && op <= Opcode::message; }
constexpr bool is_sequenced(Opcode op) { return op != Opcode::ack; }

/// What an ack asks for.
enum class AckCode : std::uint8_t { none = 0, answer_me = 1 };
/// An ack's payload is a bitmap in whole words: bit i says that `acknowledged` + 1 + i has arrived.
inline constexpr std::size_t kMaxAckBitmap = 512;

/// What a write (or notify) does to an event counter besides.
enum class NotifyFlag : std::uint8_t {
  none = 0,
  own = 1,
  ordered = 2,
  ordered_failed = 3,  ///< ORDERED, and the source knows that an earlier write failed: counts as an error
};

/// A packet's header, decoded. Which fields mean something depends on the opcode; the others are 0.
struct PacketHeader {
  Opcode opcode = Opcode::write;
  NotifyFlag notify = NotifyFlag::none;
  std::uint8_t code = 0;       ///< atomic: AtomicOp; message: MessageKind; answers: Status; ack: AckCode
  std::uint8_t error_era = 0;  ///< of the channel: see Nic::clear_errors()
  std::uint64_t session = 0;
  NodeId source{};
  NodeId target{};
  std::uint32_t sequence = 0;      ///< sequenced opcodes
  std::uint32_t acknowledged = 0;  ///< of the opposite channel: every number before it has arrived; 0 on fabrics that do not lose
  std::uint32_t credits = 0;       ///< of the opposite channel: how many packets it may have sent since the start, modulo 2^32
  std::uint32_t bytes = 0;         ///< of payload; for a read: bytes wanted
  std::uint64_t request = 0;       ///< requests: not 0, unique; answers: whose answer
  RegionId region{};
  std::uint32_t pieces_before = 0;  ///< of this work request: its packets just before this one in the sequence
  std::uint32_t pages_ahead = 0;    ///< of this work request: pages that follow, to be brought in together
  std::uint64_t key = 0;
  std::uint64_t offset = 0;  ///< in the region; of a message's fragment, in the message

  // extensions
  CounterId counter{};  ///< notify != none
  std::uint64_t increment = 0;
  AtomicArgs atomic{};          ///< atomic (op lies in `code`)
  std::uint64_t total = 0;      ///< message: length of the whole
  std::uint64_t old_value = 0;  ///< done: of an atomic
  std::uint32_t slots = 0;      ///< give_back: how many credits; ack: how many the source of it would like back
};

/// What decode() needs to know of the receiver.
struct WireContext {
  NodeId self{};
  std::uint32_t nodes = 1;
  std::uint64_t session = 0;
  bool payload_checked = false;  ///< the checksum covers the payload, too
};

struct Packet {
  PacketHeader header;
  std::span<const std::byte> payload;
};

/// Writes the header. Returns its length (80 .. kMaxHeader). The fields must be valid (they are ours): checked. The checksum covers
/// `checked_payload`: the packet's payload where the receiver's context says payload_checked, else nothing.
std::size_t encode(const PacketHeader& header, std::span<std::byte, kMaxHeader> to, std::span<const std::byte> checked_payload = {});

/// Validates everything that can be validated without looking at tables. E_STALE_EPOCH: another session; E_INVALID: anything else.
/// `from` is who the fabric says has sent it. The payload is a view into `packet`.
Result<Packet> decode(NodeId from, std::span<const std::byte> packet, const WireContext& context);

/// a comes before b in the sequence, around the wrap.
constexpr bool sequence_before(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }

// ---- the payload of write_vector --------------------------------------------------------------------------------------------------
// count (u32), reserved (u32), then count pieces of 16 bytes, then the bytes of all pieces, in order.

struct VectorPiece {
  std::uint64_t offset;
  std::uint32_t bytes;
  std::uint32_t reserved;
};
static_assert(sizeof(VectorPiece) == 16);
inline constexpr std::size_t kVectorHead = 8;

/// Walks a payload of write_vector that decode() has accepted.
class VectorReader {
 public:
  explicit VectorReader(std::span<const std::byte> payload);
  [[nodiscard]] std::uint32_t count() const { return count_; }
  /// False after the last piece.
  bool next(VectorPiece* piece, const std::byte** bytes);

 private:
  std::span<const std::byte> payload_;
  std::uint32_t count_ = 0;
  std::uint32_t index_ = 0;
  std::size_t at_ = 0;
};

}  // namespace netvm::nic
