// What travels between the coherence layers of nodes: variable-length integers, sections of payloads, messages of the allocation service.
#include <doctest/doctest.h>

#include <string>

#include "dsm/allocation_wire.hpp"
#include "dsm/payload.hpp"
#include "runtime/random.hpp"
#include "runtime/wire_codec.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

constexpr PageRange kShared{PageId{16}, 100};

AllocationMessage sample() {
  AllocationMessage message;
  message.kind = AllocationKind::reply;
  message.id = 7;
  message.offset = 1234;
  message.extent.pages = {PageId{20}, 3};
  message.extent.serial = 9;
  message.extent.slot_bytes = 64;
  message.extent.protocol = 1;
  message.extent.name = make_allocation_name("grid");
  return message;
}

bool accepted(const AllocationMessage& message, std::uint32_t nodes = 4) {
  AllocationMessage decoded;
  std::string text;
  return decode(encode(message), nodes, kShared, &decoded, &text);
}

}  // namespace

TEST_CASE("dsm_wire: variable-length integers come back, at every length") {
  SplitMix64 random(1);
  std::vector<std::uint64_t> values{0, 1, 127, 128, UINT64_MAX, UINT64_MAX - 1};
  for (int i = 0; i < 1000; ++i) values.push_back(random.next() >> random.below(64));
  std::vector<std::byte> wire;
  for (const std::uint64_t value : values) put_varint(wire, value);
  WireReader reader(wire);
  for (const std::uint64_t value : values) CHECK(reader.varint() == value);
  CHECK(reader.ok());
  CHECK(reader.at_end());
}

TEST_CASE("dsm_wire: a reader never runs over the end, and stays failed") {
  std::vector<std::byte> endless(11, std::byte{0xff});
  WireReader too_long(endless);
  too_long.varint();
  CHECK_FALSE(too_long.ok());
  std::vector<std::byte> cut{std::byte{0x80}};
  WireReader reader(cut);
  reader.varint();
  CHECK_FALSE(reader.ok());
  CHECK(reader.bytes(0).empty());
  CHECK_FALSE(reader.ok());
  std::vector<std::byte> three(3);
  WireReader raw(three);
  std::uint32_t word = 5;
  CHECK_FALSE(raw.raw(&word));
  CHECK(word == 5);
}

TEST_CASE("dsm_wire: a payload's sections come back in order, empty ones cost nothing") {
  sync::Bytes payload;
  append_section(0, bytes_of("intervals"), payload);
  append_section(1, {}, payload);
  CHECK(payload.size() == 2 + 9);
  append_section(1, bytes_of("x"), payload);
  std::vector<PayloadSection> sections;
  REQUIRE(split_payload(payload, sections));
  REQUIRE(sections.size() == 2);
  CHECK(sections[0].protocol == 0);
  CHECK(sections[0].bytes.size() == 9);
  CHECK(sections[1].protocol == 1);
  sections.clear();
  CHECK(split_payload({}, sections));
  CHECK(sections.empty());
}

TEST_CASE("dsm_wire: payloads that are cut, out of order or name an unknown protocol are refused") {
  sync::Bytes payload;
  append_section(0, bytes_of("abc"), payload);
  for (std::size_t cut = 1; cut < payload.size(); ++cut) {
    std::vector<PayloadSection> sections;
    CHECK_FALSE(split_payload(std::span(payload).first(cut), sections));
  }
  std::vector<PayloadSection> sections;
  sync::Bytes twice = payload;
  append_section(0, bytes_of("abc"), twice);
  CHECK_FALSE(split_payload(twice, sections));
  sync::Bytes unknown;
  append_section(200, bytes_of("abc"), unknown);
  CHECK_FALSE(split_payload(unknown, sections));
}

TEST_CASE("dsm_wire: an allocation message survives, with its text") {
  AllocationMessage decoded;
  std::string text;
  REQUIRE(decode(encode(sample(), "no room"), 4, kShared, &decoded, &text));
  CHECK(text == "no room");
  CHECK(decoded.extent == sample().extent);
  CHECK(decoded.offset == 1234);
  const std::vector<std::byte> wire = encode(sample());
  for (std::size_t cut = 0; cut < wire.size(); ++cut) CHECK_FALSE(decode(std::span(wire).first(cut), 4, kShared, &decoded, &text));
}

TEST_CASE("dsm_wire: of a name what fits is kept, whole characters, up to a zero byte") {
  CHECK(to_string(make_allocation_name("")).empty());
  CHECK(to_string(make_allocation_name("grid")) == "grid");
  CHECK(to_string(make_allocation_name(std::string(100, 'x'))) == std::string(kMostName, 'x'));
  const std::string umlauts = std::string(kMostName - 1, 'x') + "\u00e4\u00f6";  // the first one would be cut
  CHECK(to_string(make_allocation_name(umlauts)) == std::string(kMostName - 1, 'x'));
  CHECK(to_string(make_allocation_name(std::string(kMostName - 2, 'x') + "\u00e4")).size() == kMostName);
  CHECK(to_string(make_allocation_name(std::string_view("a\0b", 3))) == "a");
}

TEST_CASE("dsm_wire: allocation messages with numbers out of range are refused") {
  CHECK(accepted(sample()));
  const auto with = [](auto change) {
    AllocationMessage message = sample();
    change(message);
    return accepted(message);
  };
  CHECK_FALSE(with([](AllocationMessage& m) { m.kind = static_cast<AllocationKind>(99); }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.kind = static_cast<AllocationKind>(0); }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.status = static_cast<Status>(250); }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.request.requester = 4; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.request.home = 4; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.request.protocol = 200; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.request.placement = static_cast<Placement>(9); }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.pages = {PageId{15}, 1}; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.pages = {PageId{115}, 2}; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.pages = {PageId{20}, UINT64_MAX}; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.protocol = 200; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.home = 77; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.slot_bytes = 4096; }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.name.fill('x'); }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.request.name.fill('x'); }));
  CHECK_FALSE(with([](AllocationMessage& m) { m.extent.placement = static_cast<Placement>(9); }));
}
