// What the nodes of protocol sc-directory say to each other, and the two small values that it keeps: a page's state at a node in one
// word, and a set of nodes.
//
//   requester -> home   get_shared, get_exclusive (kHasCopy: an upgrade)      confirm: the right is installed
//   home -> requester   grant (kExclusive, kWithData: pull the bytes from the home's frame first)
//   home -> owner       recall_to_shared, recall_to_invalid                   answered by written_back, after the bytes have been placed
//   home -> sharer      invalidate                                            answered by invalidated
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "runtime/check.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm::sc {

enum class Kind : std::uint8_t {
  get_shared = 1,
  get_exclusive,
  recall_to_shared,
  recall_to_invalid,
  invalidate,
  invalidated,
  written_back,
  grant,
  confirm,
};

inline constexpr std::uint8_t kHasCopy = 1;    // of get_exclusive: the requester believes that its copy is current
inline constexpr std::uint8_t kExclusive = 1;  // of grant: the right to write
inline constexpr std::uint8_t kWithData = 2;   // of grant: the requester's copy is not current

struct Message {
  Kind kind{};
  std::uint8_t flags = 0;
  std::uint8_t reserved[6] = {};
  std::uint64_t page = 0;
  std::uint64_t transaction = 0;  ///< the home's number of what it serves; repeated by answers. 0 in requests
};
static_assert(sizeof(Message) == 24);

/// A node of the same job sent it: anything malformed is a broken invariant.
inline Message decode(std::span<const std::byte> body) {
  Message message;
  NETVM_CHECK(body.size() == sizeof message, "sc-directory: a message of %zu bytes", body.size());
  std::memcpy(&message, body.data(), sizeof message);
  NETVM_CHECK(message.kind >= Kind::get_shared && message.kind <= Kind::confirm, "sc-directory: message kind %u",
              static_cast<unsigned>(message.kind));
  return message;
}

/// Invalid, Shared, Modified, and on the way from the first letter to the second.
enum class Phase : std::uint8_t { I = 0, S, M, IS, IM, SM };

/// What a node knows of its own copy. Fits PageEntry::state; zero is an invalid copy.
struct Copy {
  Phase phase = Phase::I;
  bool granted = false;      ///< the grant has come, the faulting thread may go on
  bool with_data = false;    ///< of that grant
  std::uint8_t losses = 0;   ///< how often in a row the right was taken away soon after the grant; at most 15
  std::uint64_t number = 0;  ///< granted: the transaction. Else: when the last right was installed, in ns. 54 bits

  static Copy unpack(std::uint64_t word) {
    return {static_cast<Phase>(word & 7), (word & 8) != 0, (word & 16) != 0, static_cast<std::uint8_t>((word >> 5) & 15), word >> 9};
  }
  [[nodiscard]] std::uint64_t pack() const {
    return static_cast<std::uint64_t>(phase) | std::uint64_t{granted} << 3 | std::uint64_t{with_data} << 4 | std::uint64_t{losses} << 5 |
           number << 9;
  }
};

/// A set of nodes: no memory of its own up to 64 nodes.
class NodeSet {
 public:
  void add(NodeId node) { word(node) |= bit(node); }
  void remove(NodeId node) {
    if (contains(node)) word(node) &= ~bit(node);
  }
  [[nodiscard]] bool contains(NodeId node) const {
    const std::size_t index = node.value / 64;
    if (index == 0) return (first_ & bit(node)) != 0;
    return index <= rest_.size() && (rest_[index - 1] & bit(node)) != 0;
  }
  void clear() {
    first_ = 0;
    rest_.clear();
  }
  [[nodiscard]] std::uint32_t size() const {
    auto count = static_cast<std::uint32_t>(std::popcount(first_));
    for (const std::uint64_t more : rest_) count += static_cast<std::uint32_t>(std::popcount(more));
    return count;
  }
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// In ascending order. `use` may not change the set.
  template <class Use>
  void for_each(Use&& use) const {
    each_of(first_, 0, use);
    for (std::size_t i = 0; i < rest_.size(); ++i) each_of(rest_[i], static_cast<std::uint32_t>((i + 1) * 64), use);
  }

 private:
  static std::uint64_t bit(NodeId node) { return std::uint64_t{1} << (node.value % 64); }
  std::uint64_t& word(NodeId node) {
    const std::size_t index = node.value / 64;
    if (index == 0) return first_;
    if (rest_.size() < index) rest_.resize(index);
    return rest_[index - 1];
  }
  template <class Use>
  static void each_of(std::uint64_t bits, std::uint32_t base, Use&& use) {
    for (; bits != 0; bits &= bits - 1) use(NodeId{base + static_cast<std::uint32_t>(std::countr_zero(bits))});
  }
  std::uint64_t first_ = 0;
  std::vector<std::uint64_t> rest_;
};

}  // namespace netvm::dsm::sc
