// The wire format: what decodes is what was encoded, and nothing else decodes.
#include "nic/wire.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <vector>

using namespace netvm;
using namespace netvm::nic;

namespace {

constexpr WireContext kContext{NodeId{1}, 4, 0x1234'5678'9abc'def0};

PacketHeader base(Opcode opcode) {
  PacketHeader h;
  h.opcode = opcode;
  h.session = kContext.session;
  h.source = NodeId{2};
  h.target = kContext.self;
  h.error_era = 7;
  h.acknowledged = 0xaabbccdd;
  h.credits = 17;
  if (is_sequenced(opcode)) h.sequence = 0xffff'fff0;
  if (is_request(opcode) || is_answer(opcode)) h.request = 0x77;
  if (is_request(opcode) && opcode != Opcode::notify) {
    h.region = RegionId{3};
    h.key = 0xfeed'beef'cafe'0001;
    h.pages_ahead = 2;
    h.pieces_before = 5;
    if (opcode != Opcode::write_vector) h.offset = 4096 + 8;
  }
  return h;
}

std::vector<std::byte> packet_of(const PacketHeader& header, const std::vector<std::byte>& payload) {
  std::array<std::byte, kMaxHeader> bytes;
  const std::size_t length = encode(header, bytes);
  std::vector<std::byte> packet(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

std::vector<std::byte> vector_payload(const std::vector<std::uint32_t>& sizes) {
  std::vector<std::byte> payload(kVectorHead);
  const auto count = static_cast<std::uint32_t>(sizes.size());
  std::memcpy(payload.data(), &count, sizeof count);
  for (const std::uint32_t size : sizes) {
    const VectorPiece piece{100, size, 0};
    const auto* at = reinterpret_cast<const std::byte*>(&piece);
    payload.insert(payload.end(), at, at + sizeof piece);
  }
  for (const std::uint32_t size : sizes) payload.insert(payload.end(), size, std::byte{0x5a});
  return payload;
}

/// One packet of each opcode and variant.
std::vector<std::vector<std::byte>> one_of_each() {
  std::vector<std::vector<std::byte>> all;
  const std::vector<std::byte> body(100, std::byte{0x3c});
  for (const NotifyFlag notify : {NotifyFlag::none, NotifyFlag::own, NotifyFlag::ordered, NotifyFlag::ordered_failed}) {
    PacketHeader h = base(Opcode::write);
    h.notify = notify;
    h.bytes = 100;
    if (notify != NotifyFlag::none) {
      h.counter = CounterId{9};
      h.increment = 1'000'000'007;
    }
    all.push_back(packet_of(h, body));
  }
  PacketHeader vector = base(Opcode::write_vector);
  const std::vector<std::byte> pieces = vector_payload({8, 0, 31});
  vector.bytes = static_cast<std::uint32_t>(pieces.size());
  all.push_back(packet_of(vector, pieces));
  PacketHeader read = base(Opcode::read);
  read.bytes = 4096;
  all.push_back(packet_of(read, {}));
  PacketHeader atomic = base(Opcode::atomic);
  atomic.code = static_cast<std::uint8_t>(AtomicOp::masked_cas);
  atomic.atomic = {AtomicOp::masked_cas, 1, 2, 3, 4};
  all.push_back(packet_of(atomic, {}));
  PacketHeader notify = base(Opcode::notify);
  notify.notify = NotifyFlag::ordered;
  notify.counter = CounterId{4095};
  notify.increment = 5;
  all.push_back(packet_of(notify, {}));
  PacketHeader message = base(Opcode::message);
  message.code = static_cast<std::uint8_t>(MessageKind::test);
  message.bytes = 100;
  message.offset = 400;
  message.total = 500;
  all.push_back(packet_of(message, body));
  PacketHeader done = base(Opcode::done);
  done.code = static_cast<std::uint8_t>(Status::revoked);
  done.old_value = 0x1122'3344'5566'7788;
  all.push_back(packet_of(done, {}));
  PacketHeader data = base(Opcode::data);
  data.bytes = 100;
  all.push_back(packet_of(data, body));
  PacketHeader give_back = base(Opcode::give_back);
  give_back.slots = 3;
  all.push_back(packet_of(give_back, {}));
  for (const std::size_t bitmap : {std::size_t{0}, std::size_t{8}, kMaxAckBitmap}) {
    PacketHeader ack = base(Opcode::ack);
    ack.code = static_cast<std::uint8_t>(bitmap == 8 ? AckCode::answer_me : AckCode::none);
    ack.slots = 40;
    ack.bytes = static_cast<std::uint32_t>(bitmap);
    all.push_back(packet_of(ack, std::vector<std::byte>(bitmap, std::byte{0xa5})));
  }
  return all;
}

}  // namespace

TEST_CASE("every packet decodes to what was encoded, and encodes to the same bytes again") {
  for (const auto& packet : one_of_each()) {
    const Result<Packet> decoded = decode(NodeId{2}, packet, kContext);
    REQUIRE(decoded.has_value());
    const auto& payload = decoded.value().payload;
    CHECK(packet_of(decoded.value().header, {payload.begin(), payload.end()}) == packet);
  }
  const auto atomic = one_of_each()[6];
  const PacketHeader h = decode(NodeId{2}, atomic, kContext).value().header;
  CHECK(h.atomic.op == AtomicOp::masked_cas);
  CHECK(h.atomic.swap_mask == 4);
  CHECK(h.request == 0x77);
  CHECK(h.sequence == 0xffff'fff0);
}

TEST_CASE("a header with any one bit flipped, and a packet cut anywhere, do not decode") {
  for (const auto& packet : one_of_each()) {
    const std::size_t payload = decode(NodeId{2}, packet, kContext).value().payload.size();
    const std::size_t header = packet.size() - payload;
    for (std::size_t bit = 0; bit < header * 8; ++bit) {
      auto damaged = packet;
      damaged[bit / 8] ^= std::byte{1} << (bit % 8);
      CHECK_FALSE(decode(NodeId{2}, damaged, kContext).has_value());
    }
    for (std::size_t length = 0; length < packet.size(); ++length) {
      CHECK_FALSE(decode(NodeId{2}, std::span(packet).first(length), kContext).has_value());
    }
    auto longer = packet;
    longer.push_back(std::byte{0});
    CHECK_FALSE(decode(NodeId{2}, longer, kContext).has_value());
  }
}

TEST_CASE("pitfall 8: a stranger's, a liar's and an earlier session's packets do not decode") {
  const auto packet = one_of_each()[0];
  CHECK(decode(NodeId{3}, packet, kContext).status() == Status::invalid);  // says it is node 2
  CHECK(decode(NodeId{2}, packet, {NodeId{0}, 4, kContext.session}).status() == Status::invalid);
  CHECK(decode(NodeId{2}, packet, {NodeId{1}, 2, kContext.session}).status() == Status::invalid);  // there is no node 2
  CHECK(decode(NodeId{2}, packet, {NodeId{1}, 4, kContext.session + 1}).status() == Status::stale_epoch);
}

TEST_CASE("a well-formed header with an impossible meaning does not decode") {
  const auto refuse = [](PacketHeader h, std::vector<std::byte> payload) {
    CHECK_FALSE(decode(NodeId{2}, packet_of(h, payload), kContext).has_value());
  };
  PacketHeader read = base(Opcode::read);
  read.bytes = kPageSize + 1;  // its answer would not fit
  refuse(read, {});
  PacketHeader message = base(Opcode::message);
  message.code = 1;
  message.bytes = 10;
  message.total = kMaxMessage + 1;
  refuse(message, std::vector<std::byte>(10));
  message.total = 100;
  message.offset = ~std::uint64_t{0} - 4;  // offset + bytes overflows
  refuse(message, std::vector<std::byte>(10));
  message.offset = 95;
  refuse(message, std::vector<std::byte>(10));
  message.offset = 0;
  message.bytes = 0;  // progress of nothing in a message of something
  refuse(message, {});
  PacketHeader vector = base(Opcode::write_vector);
  for (std::vector<std::byte> payload : {vector_payload({8}), vector_payload({8, 8}), std::vector<std::byte>(kVectorHead)}) {
    if (payload.size() > kVectorHead) payload.pop_back();  // a byte of the data is missing
    vector.bytes = static_cast<std::uint32_t>(payload.size());
    refuse(vector, payload);
  }
  std::vector<std::byte> many = vector_payload({8});
  const std::uint32_t count = 0x1000'0001;  // times 16 overflows 32 bits
  std::memcpy(many.data(), &count, sizeof count);
  vector.bytes = static_cast<std::uint32_t>(many.size());
  refuse(vector, many);
}

TEST_CASE("an ack whose bitmap is too long or not whole, and an empty give_back, do not decode") {
  PacketHeader ack = base(Opcode::ack);
  for (const std::size_t bitmap : {std::size_t{1}, std::size_t{12}, kMaxAckBitmap + 8}) {
    ack.bytes = static_cast<std::uint32_t>(bitmap);
    CHECK_FALSE(decode(NodeId{2}, packet_of(ack, std::vector<std::byte>(bitmap)), kContext).has_value());
  }
  CHECK_FALSE(decode(NodeId{2}, packet_of(base(Opcode::give_back), {}), kContext).has_value());
}

TEST_CASE("where the checksum covers the payload, a packet with any one bit flipped does not decode") {
  WireContext context = kContext;
  context.payload_checked = true;
  for (const auto& packet : one_of_each()) {
    const Packet plain = decode(NodeId{2}, packet, kContext).value();
    std::array<std::byte, kMaxHeader> header;
    const std::size_t length = encode(plain.header, header, plain.payload);
    std::vector<std::byte> covered(header.begin(), header.begin() + static_cast<std::ptrdiff_t>(length));
    covered.insert(covered.end(), plain.payload.begin(), plain.payload.end());
    REQUIRE(decode(NodeId{2}, covered, context).has_value());
    CHECK(decode(NodeId{2}, covered, kContext).has_value() == plain.payload.empty());
    for (std::size_t bit = 0; bit < covered.size() * 8; ++bit) {
      auto damaged = covered;
      damaged[bit / 8] ^= std::byte{1} << (bit % 8);
      CHECK_FALSE(decode(NodeId{2}, damaged, context).has_value());
    }
  }
}

TEST_CASE("random bytes behind a right magic never decode into a field out of range") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200'000; ++round) {
    std::vector<std::byte> bytes(random() % 256);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    if (bytes.size() >= 4) std::memcpy(bytes.data(), &kWireMagic, 4);
    CHECK_FALSE(decode(NodeId{2}, bytes, kContext).has_value());
  }
}

TEST_CASE("the pieces of a vector come out as they were put in") {
  const std::vector<std::byte> payload = vector_payload({8, 0, 31});
  VectorReader reader(payload);
  VectorPiece piece{};
  const std::byte* bytes = nullptr;
  std::vector<std::uint32_t> sizes;
  const std::byte* expected = payload.data() + kVectorHead + 3 * sizeof(VectorPiece);
  while (reader.next(&piece, &bytes)) {
    CHECK(bytes == expected);
    expected += piece.bytes;
    sizes.push_back(piece.bytes);
  }
  CHECK(sizes == std::vector<std::uint32_t>{8, 0, 31});
  CHECK(expected == payload.data() + payload.size());
}

TEST_CASE("pitfall 8: sequence numbers compare around the wrap") {
  CHECK(sequence_before(0xffff'ffff, 0));
  CHECK(sequence_before(0xffff'ff9c, 100));
  CHECK_FALSE(sequence_before(100, 0xffff'ff9c));
  CHECK_FALSE(sequence_before(5, 5));
  CHECK(sequence_before(5, 6));
}
