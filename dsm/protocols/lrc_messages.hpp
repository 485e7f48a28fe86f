// What the nodes of protocol lrc say to each other, and what a fault keeps while it waits for the answers. Private to lrc*.cpp.
//
//   ask    faulting node -> writer   your changes of the page after this ordinal that began at this interval at the latest; perhaps the whole page
//   reply  the same way back         (kWithCopy: which changes of whom the copy has, the copy's bytes,) the changes
// Several to the same node, about pages that are read ahead, travel together: each is a Message and its body, padded to 8 bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "dsm/protocols/lrc.hpp"

namespace netvm::dsm {

struct Lrc::Message {
  enum Kind : std::uint8_t { ask = 1, reply };
  static constexpr std::uint8_t kWithCopy = 1;

  std::uint8_t kind = ask;
  std::uint8_t flags = 0;
  std::uint8_t reserved[2] = {};
  std::uint32_t bytes = 0;  ///< of the body behind it
  std::uint64_t page = 0;
  std::uint64_t fetch = 0;  ///< the asking node's number for its wait
  std::uint64_t after = 0;  ///< ask: an ordinal. Reply: the ordinal of the newest change that the answer covers
  std::uint64_t up_to = 0;  ///< an interval of the node that is asked
};

/// Appends a message and its body.
inline void Lrc::append_message(const Message& message, std::span<const std::byte> body, Bytes& out) {
  Message sent = message;
  sent.bytes = static_cast<std::uint32_t>(body.size());
  const std::size_t at = out.size();
  out.resize(at + sizeof sent + (body.size() + 7) / 8 * 8);
  std::memcpy(out.data() + at, &sent, sizeof sent);
  if (!body.empty()) std::memcpy(out.data() + at + sizeof sent, body.data(), body.size());
}

/// One question of a fetch.
struct Lrc::Ask {
  NodeId node{};
  bool copy = false;
  std::uint64_t after = 0;
  std::uint64_t up_to = 0;
};

struct Lrc::Reply {
  NodeId from{};
  bool copy = false;
  std::uint64_t newest = 0;
  std::uint64_t up_to = 0;
  Bytes body;
};

/// A fault that waits. Guarded by fetch_lock_.
struct Lrc::Fetch {
  PageId page{};
  std::uint64_t id = 0;
  std::size_t awaited = 0;
  std::vector<Reply> replies = {};
};

}  // namespace netvm::dsm
