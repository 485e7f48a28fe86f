// The messages of the allocation service. One layout serves all; what a kind does not use is 0.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "dsm/allocator.hpp"
#include "dsm/extent.hpp"

namespace netvm::dsm {

enum class AllocationKind : std::uint8_t {
  // to node 0, answered by `reply` with the same id; describe to any node, when node 0 is dead
  allocate = 1,
  free,
  describe,
  usage,
  reply,
  // retirement of an extent: node 0 -> all, and back
  quiesce,
  quiesced,
  detach,
  detached,
  // between any two nodes: whoever gets `drain` has handled everything that its sender sent before
  drain,
  drained,
  // to any node, answered by `reply`: the home of the page at `offset`, as far as it is known there
  home,
  // a node to itself, in the order of its messages: node `id` has died
  died,
};

struct AllocationMessage {
  AllocationKind kind{};
  Status status = Status::ok;
  std::uint8_t found = 0;  // reply to describe: `extent` is valid; to home: `used` is
  std::uint8_t reserved = 0;
  std::uint32_t id = 0;         // of a request; died: the node
  std::uint64_t offset = 0;     // allocate's reply, free; describe, home: the page
  std::uint64_t used = 0;       // usage's reply; home's: the node
  std::uint64_t available = 0;  // usage's reply
  AllocRequest request;
  Extent extent;
};
// Travels as it lies in memory: padding would carry whatever lay there before, and no two runs of the simulator would be alike.
static_assert(std::is_trivially_copyable_v<AllocationMessage> && std::has_unique_object_representations_v<AllocationMessage>);

/// The message, then the text (an explanation for a person).
[[nodiscard]] std::vector<std::byte> encode(const AllocationMessage& message, std::string_view text = {});
/// False if malformed: too short, or an enumerator or number out of range. `nodes` bounds node numbers, `shared` bounds pages.
[[nodiscard]] bool decode(std::span<const std::byte> wire, std::uint32_t nodes, PageRange shared, AllocationMessage* message,
                          std::string* text);

}  // namespace netvm::dsm
