// nic/wire: any bytes decode to a packet whose fields are in range, or to a Status; what decodes encodes to the same header.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "nic/wire.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace netvm;
using namespace netvm::nic;

constexpr WireContext kContext{NodeId{1}, 4, 0x1122334455667788};
constexpr std::size_t kChecksumAt = 76;

void walk_vector(const Packet& packet) {
  VectorReader reader(packet.payload);
  VectorPiece piece{};
  const std::byte* bytes = nullptr;
  std::uint64_t sum = 0;
  while (reader.next(&piece, &bytes)) {
    FUZZ_REQUIRE(bytes >= packet.payload.data() && bytes + piece.bytes <= packet.payload.data() + packet.payload.size());
    sum += piece.bytes;
  }
  FUZZ_REQUIRE(sum <= packet.payload.size());
}

void try_decode(std::span<const std::byte> input, const WireContext& context = kContext) {
  const auto packet = decode(NodeId{0}, input, context);
  if (!packet) return;
  FUZZ_REQUIRE(packet->payload.size() <= input.size());
  if (packet->header.opcode == Opcode::write_vector) walk_vector(*packet);
  std::array<std::byte, kMaxHeader> again{};
  const std::size_t header = encode(packet->header, again, context.payload_checked ? packet->payload : std::span<const std::byte>{});
  FUZZ_REQUIRE(header + packet->payload.size() == input.size());
  FUZZ_REQUIRE(std::memcmp(again.data(), input.data(), header) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try_decode(fuzz_bytes(data, size));
  // A random checksum never fits: try again with the right one for each length that a header can have, and the right session.
  if (size < 80) return 0;
  std::vector<std::byte> patched(fuzz_bytes(data, size).begin(), fuzz_bytes(data, size).end());
  std::memcpy(patched.data() + 8, &kContext.session, sizeof kContext.session);
  for (const std::size_t header : {80U, 88U, 96U, 112U}) {
    if (size < header) break;
    std::memset(patched.data() + kChecksumAt, 0, 4);
    const auto checksum = static_cast<std::uint32_t>(XXH3_64bits(patched.data(), header));
    std::memcpy(patched.data() + kChecksumAt, &checksum, sizeof checksum);
    try_decode(patched);
    if (size == header) continue;
    // Likewise with a checksum that covers the payload.
    std::memset(patched.data() + kChecksumAt, 0, 4);
    const auto covering =
        static_cast<std::uint32_t>(XXH3_64bits_withSeed(patched.data() + header, size - header, XXH3_64bits(patched.data(), header)));
    std::memcpy(patched.data() + kChecksumAt, &covering, sizeof covering);
    WireContext checked = kContext;
    checked.payload_checked = true;
    try_decode(patched, checked);
  }
  return 0;
}
