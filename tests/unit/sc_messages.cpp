// The small values of the sequentially consistent protocols.
#include "dsm/protocols/sc_messages.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "runtime/random.hpp"

namespace netvm::dsm::sc {
namespace {

TEST_CASE("a copy of zeros is invalid, and every copy comes back from its word") {
  const Copy zero = Copy::unpack(0);
  CHECK(zero.phase == Phase::I);
  CHECK_FALSE(zero.granted);
  CHECK(zero.pack() == 0);

  SplitMix64 random(1);
  for (int i = 0; i < 1000; ++i) {
    Copy copy;
    copy.phase = static_cast<Phase>(random.below(7));
    copy.granted = random.below(2) == 1;
    copy.with_data = random.below(2) == 1;
    copy.clean = random.below(2) == 1;
    copy.losses = static_cast<std::uint8_t>(random.below(8));
    copy.dropped = random.below(2) == 1;
    copy.number = random.next() >> 11;
    const Copy back = Copy::unpack(copy.pack());
    CHECK(back.phase == copy.phase);
    CHECK(back.granted == copy.granted);
    CHECK(back.with_data == copy.with_data);
    CHECK(back.clean == copy.clean);
    CHECK(back.losses == copy.losses);
    CHECK(back.dropped == copy.dropped);
    CHECK(back.number == copy.number);
  }
}

TEST_CASE("a message comes back from its bytes") {
  const Message sent{Kind::grant, kExclusive | kWithData, 3, NodeId{17}, 12345, 678};
  const Message back = decode(std::as_bytes(std::span(&sent, 1)), "test");
  CHECK(back.kind == sent.kind);
  CHECK(back.flags == sent.flags);
  CHECK(back.hops == sent.hops);
  CHECK(back.node == sent.node);
  CHECK(back.page == sent.page);
  CHECK(back.transaction == sent.transaction);
  CHECK(back.more == 0);
}

TEST_CASE("messages about neighbours become one, and it says of each unit what they said") {
  const auto grant = [](std::uint64_t page, std::uint64_t transaction) {
    return Message{Kind::grant, kWithData, 0, NodeId{1}, page, transaction};
  };
  Message run = grant(100, 7);
  CHECK_FALSE(run.join(grant(105, 8), 4));
  CHECK_FALSE(run.join(grant(104, 9), 4));
  CHECK(run.join(grant(104, 8), 4));
  CHECK_FALSE(run.join(grant(108, 9), 2));
  Message other = grant(108, 9);
  other.flags = 0;
  CHECK_FALSE(run.join(other, 4));
  CHECK(run.join(grant(108, 9), 4));
  const Message back = decode(std::as_bytes(std::span(&run, 1)), "test");
  CHECK(back.more == 2);
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Message one = back.at(i);
    CHECK(one.kind == Kind::grant);
    CHECK(one.flags == kWithData);
    CHECK(one.page == 100 + 4 * i);
    CHECK(one.transaction == 7 + i);
    CHECK(one.more == 0);
  }
  while (run.more + 1 < kMostUnits) REQUIRE(run.join(grant(run.at(run.more).page + 4, 8 + run.more), 4));
  CHECK_FALSE(run.join(grant(run.at(run.more).page + 4, 8 + run.more), 4));
}

TEST_CASE("a run that cannot be is malformed") {
  const auto decodes = [](const Message& message, std::size_t behind = 0) {
    std::vector<std::byte> wire(sizeof message + behind);
    std::memcpy(wire.data(), &message, sizeof message);
    Message back;
    std::span<const std::byte> more;
    return try_decode(wire, &back, &more);
  };
  Message run{Kind::get_shared, 0, 0, NodeId{0}, 5, 0};
  CHECK(decodes(run));
  run.more = 63;
  CHECK_FALSE(decodes(run));  // no stride
  run.stride = 16;
  CHECK(decodes(run));
  CHECK_FALSE(decodes(run, 8));  // nothing goes behind a run
  run.more = 64;
  CHECK_FALSE(decodes(run));
  run.more = 1;
  run.stride = 17;
  CHECK_FALSE(decodes(run));
  run.stride = 1;
  run.kind = Kind::invalidate;
  CHECK_FALSE(decodes(run));
  run.more = 0;
  CHECK_FALSE(decodes(run));  // a stride without a run
}

}  // namespace
}  // namespace netvm::dsm::sc
