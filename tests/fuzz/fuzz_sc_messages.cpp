// dsm/protocols/sc_messages: a message of the sequentially consistent protocols, and the set of nodes behind a grant of ownership.
#include <vector>

#include "dsm/node_set.hpp"
#include "dsm/protocols/sc_messages.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm;
using namespace netvm::dsm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto wire = fuzz_bytes(data, size);
  sc::Message message;
  static_cast<void>(sc::try_decode(wire, &message));
  std::span<const std::byte> more;
  if (!sc::try_decode(wire, &message, &more)) return 0;
  FUZZ_REQUIRE(message.kind >= sc::Kind::get_shared && message.kind <= sc::Kind::resume);
  for (const std::uint32_t nodes : {1U, 3U, 64U, 65U, 130U}) {
    NodeSet copies;
    if (!NodeSet::decode(more, nodes, &copies)) continue;
    FUZZ_REQUIRE(copies.size() <= nodes);
    copies.for_each([&](NodeId node) { FUZZ_REQUIRE(node.value < nodes && copies.contains(node)); });
    std::vector<std::byte> told;
    copies.append_to(told);
    NodeSet again;
    FUZZ_REQUIRE(NodeSet::decode(told, nodes, &again) && again.size() == copies.size());
  }
  return 0;
}
