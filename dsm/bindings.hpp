// Bindings: which lock guards which bytes, as entry consistency needs it (Bershad, Zekauskas 1991), and for each lock the guarded bytes as this node last
// saw them under the lock, with the version in which each piece was changed last.
//
// The guarded bytes of a lock are its ranges, in the order of binding, each cut into blocks at offsets that are multiples of kBlock. So a block never lies
// across two pages; the first and last of a range may be shorter. Block numbers count through all ranges, and mean something on this node only.
//
// Invariants
//  1. A block with version 0 is unknown in this epoch: its bytes are those that every node has since the last barrier. What was written too late for the barrier
//     that is coming is early: it belongs to the epoch after this one, and stays known when this one is over.
//  2. Ranges do not overlap.
//  3. Known blocks are a list by version. Versions come nearly in order, so that a block finds its place at the list's end at once.
// Threads: not synchronised.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::dsm {

/// The bytes [offset, offset + bytes) of the shared area.
struct BoundRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const BoundRange&, const BoundRange&) = default;
};

class BoundData {
 public:
  static constexpr std::uint64_t kBlock = 64;

  /// Adds what is not bound yet. Known blocks stay known.
  void bind(const BoundRange& range);
  /// Takes these bytes out. What is known of the others stays known.
  void unbind(const BoundRange& gone);

  [[nodiscard]] bool overlaps(const BoundRange& other) const {
    return std::ranges::any_of(ranges_, [&](const BoundRange& range) {
      return range.offset < other.offset + other.bytes && other.offset < range.offset + range.bytes;
    });
  }
  [[nodiscard]] const std::vector<BoundRange>& ranges() const { return ranges_; }
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::uint32_t blocks() const { return static_cast<std::uint32_t>(versions_.size()); }

  /// Blocks [first, last) of one page, in the order of their numbers; a page may come more than once.
  struct Piece {
    PageId page{};
    std::uint32_t first = 0;
    std::uint32_t last = 0;
  };
  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }
  /// Calls visit(block, place(block)) for the blocks of a piece.
  template <class Visit>
  void each_block_of(const Piece& piece, Visit&& visit) const {
    const BoundRange last = place(piece.last - 1);
    BoundRange where = place(piece.first);
    for (std::uint32_t block = piece.first; block != piece.last; ++block) {
      visit(block, where);
      where.offset += where.bytes;
      where.bytes = std::min(kBlock, last.offset + last.bytes - where.offset);
    }
  }
  /// The blocks that lie inside [offset, offset + bytes), which was bound as a whole or in whole blocks.
  template <class Visit>
  void each_block_in(const BoundRange& where, Visit&& visit) const {
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      const BoundRange& range = ranges_[i];
      const std::uint64_t begin = std::max(where.offset, range.offset);
      const std::uint64_t end = std::min(where.offset + where.bytes, range.offset + range.bytes);
      for (std::uint64_t at = begin; at < end; at = (at / kBlock + 1) * kBlock) {
        visit(first_block_[i] + static_cast<std::uint32_t>(at / kBlock - range.offset / kBlock));
      }
    }
  }
  /// Where a block lies; requires block < blocks().
  [[nodiscard]] BoundRange place(std::uint32_t block) const;
  /// Its bytes as last seen: place(block).bytes of them.
  [[nodiscard]] std::byte* image(std::uint32_t block) { return image_.data() + std::uint64_t{block} * kBlock; }
  [[nodiscard]] const std::byte* image(std::uint32_t block) const { return image_.data() + std::uint64_t{block} * kBlock; }
  [[nodiscard]] std::uint64_t version(std::uint32_t block) const { return versions_[block]; }
  [[nodiscard]] bool is_early(std::uint32_t block) const { return early_[block]; }
  /// Bytes that were heard of, of whole blocks of whoever sent them: what of them is bound here becomes known, in that version.
  void note(const BoundRange& where, const std::byte* bytes, std::uint64_t version, bool early = false);
  void set_version(std::uint32_t block, std::uint64_t version, bool early = false);
  /// Blocks with a version above `after`, in order.
  [[nodiscard]] std::vector<std::uint32_t> changed_after(std::uint64_t after) const;
  [[nodiscard]] bool any_changed_after(std::uint64_t after) const { return newest_ != kNone && versions_[newest_] > after; }
  /// A barrier has made everything coherent but what was early: that is of this epoch now, all other blocks are unknown.
  void pass();
  /// The barrier that is coming, or has come, tells what was early with these versions, after all: it is so no more. Returns where it is.
  std::vector<BoundRange> end_early(std::uint64_t up_to = UINT64_MAX);
  /// All blocks are unknown.
  void forget();
  [[nodiscard]] std::uint64_t memory_bytes() const {
    return image_.capacity() + versions_.capacity() * sizeof(std::uint64_t) + early_.capacity() / 8 +
           neighbours_.capacity() * sizeof(Neighbours) + pieces_.capacity() * sizeof(Piece) + ranges_.capacity() * sizeof(BoundRange);
  }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Neighbours {
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;
  };
  void renumber();
  void take_out(std::uint32_t block);

  std::vector<BoundRange> ranges_;
  std::vector<std::uint32_t> first_block_;  // by range
  std::vector<Piece> pieces_;
  std::vector<std::byte> image_;         // a whole kBlock for each block
  std::vector<std::uint64_t> versions_;  // by block
  std::vector<bool> early_;              // by block
  std::vector<Neighbours> neighbours_;   // by block: the known ones are a list in the order of their versions
  std::uint32_t newest_ = kNone;
};

}  // namespace netvm::dsm
