// Redirect table: what waits for pages that are not there (Ong 2003, chapter 3: redirection), and the faults that bring them in.
//
// A write that meets a page which is not resident stays in its packet's buffer, the system buffer, cut at page borders; each piece queues
// at its page. A channel whose next read or atomic meets such a page waits at the page, too. The host brings pages in, a whole work
// request's at once; then the driver makes the one copy, first in, first out.
//
// Invariants
//  1. A page is in the table as long as anything waits for it, and then it is covered: by a fault that is underway or wanted. end_fault()
//     is the one exception, until the driver has served the fault's pages or wanted them again.
//  2. At a page pieces leave in the order in which they came: a later write never goes past an earlier one (pitfall 1, the inversion).
//  3. At most kMostUnderway faults are underway. What is wanted beside them waits, so a flood of faults becomes neither a flood of
//     threads nor one of pins.
//  4. A fault is at most kMostPages long. Faults may overlap; a page's waiters are served by whichever ends first.
// Threads: the driver of the NIC. Run to completion: no clock, no page, no lock in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "nic/wire.hpp"
#include "runtime/ids.hpp"

namespace netvm::nic {

/// A write with bytes that lie in a system buffer.
struct RedirectedWrite {
  PacketHeader header;
  std::vector<std::byte> buffer;  ///< the system buffer: its packet's payload
  std::uint32_t pieces_left = 0;  ///< that are not in their pages yet; 0: it has landed, or `status` says why not
  bool answered = false;
  Status status = Status::ok;  ///< the first error of its pieces
};

/// What of a redirected write goes to one page.
struct RedirectedPiece {
  std::shared_ptr<RedirectedWrite> write;
  std::uint64_t offset = 0;           ///< in the write's region
  const std::byte* source = nullptr;  ///< in the write's buffer
  std::uint32_t bytes = 0;
};

class RedirectTable final {
 public:
  static constexpr std::size_t kMostUnderway = 8;
  static constexpr std::uint64_t kMostPages = 256;
  static constexpr std::uint32_t kMostAttempts = 64;

  struct Fault {
    std::uint64_t id = 0;
    PageRange pages{};
    bool write = false;  ///< a write or an atomic wants it
    bool alone = false;  ///< of one page, and to stay so
  };

  // ---- what waits ------------------------------------------------------------------------------------------------------
  [[nodiscard]] bool holds(PageId page) const { return pages_.contains(page.value); }
  [[nodiscard]] bool empty() const { return pages_.empty(); }
  /// A piece queues at its page. The caller want()s the page.
  void queue(PageId page, RedirectedPiece piece);
  /// The channel from `source` can go on when the page is there. The caller want()s the page.
  void wait(PageId page, NodeId source);
  /// The piece whose turn it is at a page, until pop(). Null: none.
  [[nodiscard]] RedirectedPiece* front(PageId page);
  void pop(PageId page);
  /// Nothing waits for the page any more; its pieces must have left. Returns the channels that waited, in the order in which they came.
  std::vector<NodeId> release(PageId page);

  // ---- faults ----------------------------------------------------------------------------------------------------------
  /// The page is to be brought in, and with it the `range` around it (clipped to kMostPages). Nothing new if it is covered already.
  void want(PageId page, PageRange range, bool write);
  /// The page is to be brought in apart from others: it is their fault's failure, not its own, that has to be ruled out.
  void want_alone(PageId page);
  /// A wanted fault that may start now, and is underway from here on.
  std::optional<Fault> start_next();
  [[nodiscard]] std::size_t underway() const { return underway_.size(); }
  /// The fault has ended. Returns its pages for which anything waits, in order.
  std::vector<PageId> end_fault(std::uint64_t id);
  /// Whether a fault will bring the page in.
  [[nodiscard]] bool covered(PageId page) const;
  /// Counts a fault that brought the page in for nothing: it was gone again before the copy. False after kMostAttempts.
  bool try_again(PageId page);

 private:
  struct Waiting {
    std::deque<RedirectedPiece> pieces;
    std::vector<NodeId> channels;
    std::uint32_t attempts = 0;
  };

  std::map<std::uint64_t, Waiting> pages_;  // ordered: what is walked must not depend on addresses
  std::deque<Fault> wanted_;
  std::vector<Fault> underway_;
  std::uint64_t next_id_ = 1;
};

}  // namespace netvm::nic
