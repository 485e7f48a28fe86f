// The small values of the sequentially consistent protocols.
#include "dsm/protocols/sc_messages.hpp"

#include <doctest/doctest.h>

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
}

}  // namespace
}  // namespace netvm::dsm::sc
