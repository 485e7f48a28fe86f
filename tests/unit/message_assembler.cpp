// The message assembler: fragments become messages; what does not fit is refused and costs no memory.
#include "nic/message_assembler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace netvm::nic;
using Step = MessageAssembler::Step;

namespace {

PacketHeader fragment(std::uint64_t offset, std::size_t bytes, std::uint64_t total) {
  PacketHeader h;
  h.opcode = Opcode::message;
  h.code = 15;
  h.offset = offset;
  h.bytes = static_cast<std::uint32_t>(bytes);
  h.total = total;
  return h;
}

}  // namespace

TEST_CASE("messages of every size around the fragment's come out whole") {
  constexpr std::size_t kFragment = 100;
  MessageAssembler assembler;
  for (std::size_t total = 0; total <= 3 * kFragment + 1; ++total) {
    std::vector<std::byte> message(total);
    for (std::size_t i = 0; i < total; ++i) message[i] = static_cast<std::byte>(i * 7 + total);
    std::span<const std::byte> body;
    std::size_t at = 0;
    do {
      const std::size_t n = std::min(kFragment, total - at);
      const Step step = assembler.add(fragment(at, n, total), std::span(message).subspan(at, n), &body);
      at += n;
      CHECK(step == (at == total ? Step::whole : Step::partial));
    } while (at < total);
    CHECK(std::equal(body.begin(), body.end(), message.begin(), message.end()));
  }
}

TEST_CASE("a fragment that does not continue its message is refused, and the next message is whole again") {
  const std::vector<std::byte> bytes(10, std::byte{1});
  std::span<const std::byte> body;
  MessageAssembler assembler;
  CHECK(assembler.add(fragment(10, 10, 30), bytes, &body) == Step::refused);  // begins in the middle
  CHECK(assembler.add(fragment(0, 10, 30), bytes, &body) == Step::partial);
  CHECK(assembler.add(fragment(20, 10, 30), bytes, &body) == Step::refused);  // a gap
  CHECK(assembler.add(fragment(20, 10, 30), bytes, &body) == Step::refused);  // the rest of the broken one
  CHECK(assembler.add(fragment(0, 10, 30), bytes, &body) == Step::partial);
  CHECK(assembler.add(fragment(10, 10, 31), bytes, &body) == Step::refused);  // another length
  CHECK(assembler.add(fragment(0, 10, 10), bytes, &body) == Step::whole);
}

TEST_CASE("a length that is only claimed costs nothing") {
  // One gibibyte claimed, 10 bytes sent, by 1000 channels: with memory by claim this would need a terabyte.
  std::vector<MessageAssembler> channels(1000);
  const std::vector<std::byte> bytes(10);
  std::span<const std::byte> body;
  for (MessageAssembler& channel : channels) CHECK(channel.add(fragment(0, 10, kMaxMessage), bytes, &body) == Step::partial);
}
