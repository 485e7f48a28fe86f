// What the nodes of erc and update say to each other, and what is under way at a home. Private to eager_update*.cpp.
//
//   join    node -> home      a copy, please (kWriter: I am going to write; kAgain: I lost mine)      grant   home -> node    it is in your frame (kUpgrade: you have one)
//   flush   writer -> home    my changes of these pages                          over    home -> writer  every copy has them
//   update  home -> member    changes of these pages                             ack     member -> home  I have them; of these pages I have no copy any more
//   watch   home -> member    is that copy used?                                 used    member -> home  it is
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "dsm/eager_update.hpp"
#include "nic/nic.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

/// Followed by: changes (flush, update), page numbers as varints (ack), nothing else. A change: page, pages, 1 if the copy may be given up,
/// flushes (0 in a flush; varints), length of the diff (32 bit), the diff as encode_masked() makes it.
struct EagerUpdate::Header {
  enum Kind : std::uint8_t { kJoin = 1, kGrant, kFlush, kOver, kUpdate, kAck, kWatch, kUsed };
  static constexpr std::uint8_t kWriter = 1;
  static constexpr std::uint8_t kUpgrade = 2;
  static constexpr std::uint8_t kAgain = 4;

  std::uint8_t kind = 0;
  std::uint8_t flags = 0;
  std::uint8_t reserved[2] = {};
  std::uint32_t pages = 1;   ///< join: how many the unit has
  std::uint64_t page = 0;    ///< join, grant, watch, used
  std::uint64_t number = 0;  ///< update, ack: of the delivery, at the home. Flush: of the flush, at the writer; ascending
};

/// All but the diff, which `encode` appends; its length is known only then. Returns what encode() does.
template <class Encode>
std::size_t append_change(const EagerChange& change, std::vector<std::byte>& out, Encode&& encode) {
  put_varint(out, change.page.value);
  put_varint(out, change.pages);
  put_varint(out, change.may_leave ? 1 : 0);
  put_varint(out, change.flushes);
  put_raw(out, std::uint32_t{0});
  const std::size_t begin = out.size();
  const std::size_t data = encode(out);
  const auto length = static_cast<std::uint32_t>(out.size() - begin);
  std::memcpy(out.data() + begin - sizeof length, &length, sizeof length);
  return data;
}
inline void append_change(const EagerChange& change, std::vector<std::byte>& out) {
  append_change(change, out, [&](std::vector<std::byte>& to) {
    to.insert(to.end(), change.diff.begin(), change.diff.end());
    return change.diff.size();
  });
}

/// One flush at its home, until all members have it.
struct EagerUpdate::Delivery {
  NodeId from{};
  std::uint64_t flush = 0;                ///< its number, at the writer
  std::uint64_t number = 0;               ///< of the delivery, once there is a message to acknowledge
  std::atomic<std::uint64_t> awaited{1};  ///< pushes and acknowledgements, and one until all of them are known
};

/// A release's changes on their way out, by home. Each message is a flush with a number of its own, and goes as soon as it is long enough: the home works
/// at it while the next is made.
struct EagerUpdate::Flushes {
  static constexpr std::size_t kLongEnough = std::size_t{24} << 10;
  struct Message {
    Bytes body;
    std::uint64_t number = 0;  // while the body is not empty
  };
  std::map<NodeId, Message> to;
};

/// What goes out for one chunk of pages: by node, messages' bodies and one-sided pieces.
struct EagerUpdate::Outbox {
  std::map<NodeId, Bytes> changes;
  std::map<NodeId, std::vector<nic::Segment>> pieces;
  std::vector<std::pair<NodeId, PageId>> watches;
};

/// A one-sided write of changes on its way; deletes itself.
struct EagerUpdate::Push {
  EagerUpdate& protocol;
  NodeId to;
  std::shared_ptr<Delivery> delivery;
  nic::Completion completion{&Push::ended, this};

  Push(EagerUpdate& owner, NodeId member, std::shared_ptr<Delivery> of) : protocol(owner), to(member), delivery(std::move(of)) {}
  static void ended(nic::Completion& self, void* context);
};

/// A copy on its way to a new member; deletes itself.
struct EagerUpdate::Fill {
  NodeId to;
  PageId page;
  std::shared_ptr<std::atomic<bool>> filled;
  nic::Completion completion{&Fill::ended, this};

  Fill(NodeId member, PageId what, std::shared_ptr<std::atomic<bool>> flag) : to(member), page(what), filled(std::move(flag)) {}
  static void ended(nic::Completion& self, void* context);
};

}  // namespace netvm::dsm
