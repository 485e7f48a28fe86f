// ProtocolEnv: everything that a coherence protocol may use; one object per node and protocol, handed to its factory.
//
// Invariants
//  1. Pages of a protocol's regions are touched through this object only: rights through set_access(), bytes through frame(), which are there
//     only while the page is pinned. Of a page that faults, the Dsm holds a pin until the fault is over.
//  2. A PageId names a coherence unit (extent.hpp) by its head, and calls that take one act on the whole unit. Ranges are widened to whole units. So a
//     protocol need not know how large its units are: it treats what it is given as pages. Neighbouring units are not neighbouring page numbers:
//     what acts on many takes a list. A unit whose extent this node never met counts as one page (messages may come before).
//  3. Calls marked "blocks" drive the NIC while they wait; never from Protocol::on_message().
//  4. A remote operation that fails has lost a node of the job: there is no coherent memory without it, and the process stops with a
//     message that names the page, the node and the status.
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "dsm/diff.hpp"
#include "dsm/page_table.hpp"
#include "nic/nic.hpp"
#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/stats.hpp"
#include "runtime/task_group.hpp"

namespace netvm::dsm {

struct DsmConfig;
struct Extent;
class Homes;
class TwinPool;
class RegionDirectory;
class SharingMap;

/// Before the body of a protocol's message on the wire: the protocol's number, seven bytes of 0.
inline constexpr std::size_t kProtocolHeaderBytes = 8;

/// Who knows the allocations, or asks.
class ExtentSource {
 public:
  virtual ~ExtentSource() = default;
  /// Makes the page's extent known here if it lives. Blocks.
  virtual bool meet(PageId page) = 0;
  /// The page's home as far as another living node knows it, where the one that would has died. Blocks.
  virtual std::optional<NodeId> ask_home(PageId page) = 0;
};

/// What all protocols of a node share; owned by Dsm.
struct DsmParts {
  const DsmConfig& config;
  Env& env;
  HostVm& vm;
  nic::Nic& nic;
  Stats& stats;
  PageTable& table;
  Homes& homes;
  TwinPool& twins;
  RegionDirectory& regions;
  SharingMap& sharing;
  TaskGroup& background;
  ExtentSource& extents;
  const std::atomic<bool>& threads_go_on;           ///< see CoherenceHook::threads_go_on()
  const std::atomic<std::uint64_t>& barriers_left;  ///< see ProtocolEnv::barriers_left()
};

class ProtocolEnv final {
 public:
  ProtocolEnv(const DsmParts& parts, unsigned protocol) : parts_(parts), protocol_(protocol) {}

  [[nodiscard]] NodeId node() const { return parts_.nic.node(); }
  [[nodiscard]] std::uint32_t nodes() const { return parts_.nic.nodes(); }
  [[nodiscard]] Env& env() { return parts_.env; }
  [[nodiscard]] nic::Nic& nic() { return parts_.nic; }
  /// This protocol's number: PageEntry::protocol() of its pages.
  [[nodiscard]] unsigned protocol() const { return protocol_; }

  // ---- pages ---------------------------------------------------------------------------------------------------------
  [[nodiscard]] PageTable& table() { return parts_.table; }
  [[nodiscard]] PageEntry& entry(PageId page) { return parts_.table[page]; }
  /// Whether the page is this protocol's, so that its words (state, data), twin and right may be looked at. Names on lists and in notices outlive pages: the
  /// memory is freed, and soon another protocol's. Ask under a lock that on_detach() takes; elsewhere the answer may be old.
  [[nodiscard]] bool owns(const PageEntry& entry) const { return entry.attached() && entry.protocol() == protocol_; }
  /// Whether the page lies in the shared area: check page numbers of messages with it before entry().
  [[nodiscard]] bool is_shared(PageId page) const { return parts_.table.contains(page); }
  /// The unit that the page lies in: its pages, and how many bytes they have.
  [[nodiscard]] PageRange unit(PageId page) const { return whole_units({page, 1}); }
  [[nodiscard]] std::size_t unit_bytes(PageId page) const { return parts_.table[page].unit_pages() * kPageSize; }
  /// The page's bytes on this node, readable and writable whatever the application's rights, while the page is pinned.
  [[nodiscard]] std::byte* frame(PageId page) { return parts_.vm.frame(page); }
  /// Brings the pages in (zeros the first time) and keeps them until the pins end; `write`: their bytes are going to change other than by the
  /// application. At most most_pins() pages. Blocks for the disk, not for the network: never from on_message(). Stops the process if the host fails.
  [[nodiscard]] FramePins pin(PageRange pages, bool write);
  /// The same if it takes no waiting; for handlers. Also a way to bring a page in that costs nothing, where it need not succeed.
  [[nodiscard]] FramePins try_pin(PageRange pages, bool write);
  [[nodiscard]] std::uint64_t most_pins() const;
  /// For handlers: runs what may block in a context of its own, soon. False: the job is ending, and the task is dropped.
  bool spawn(std::function<void()> task);

  /// Sets the application's rights; complete on return. Of a page that is not in memory only the right changes. Pages that have the right already are skipped, neighbours with equal old rights
  /// share one system call. Serialise calls for one page (page_table.hpp, invariant 4). Does not wait for the network.
  void set_access(PageRange pages, Access to);
  void set_access(PageId page, Access to) { set_access(PageRange{page, 1}, to); }
  /// The same for units named by their heads, in ascending order: those that lie side by side share one system call.
  void set_access(std::span<const PageId> units, Access to);

  // ---- homes ---------------------------------------------------------------------------------------------------------
  /// The page's home; learns it if unknown (first touch: one atomic on another node, and this node may become the home). Blocks.
  NodeId home_of(PageId page);
  /// Whether the home is known, or becomes it without anybody's becoming the home. Blocks.
  bool look_up_home(PageId page);
  /// For handlers: somebody who knows addressed this node, or told us. First-touch homes may be addressed before they know that they won.
  void learn_home(PageId page, NodeId home) { entry(page).learn_home(home); }
  /// The serial number of the allocation that the page lies in, as far as this node knows; 0: none.
  [[nodiscard]] std::uint64_t serial_of(PageId page) const;
  /// The unit's home is another node from now on, also for who meets the unit later. False, and nothing happens, if the allocation of that serial number
  /// is gone. Every node must do it, while nobody uses the unit. Blocks where this node has not met the allocation.
  bool move_home(PageId page, std::uint64_t serial, NodeId home);
  /// Whether, while this node waits in a barrier, no thread of it uses shared memory.
  [[nodiscard]] bool all_threads_wait() const;
  /// How many barriers have ended for this node, those included that nobody told anything (no on_barrier_leave()).
  [[nodiscard]] std::uint64_t barriers_left() const { return parts_.barriers_left.load(); }
  /// Which pages at home here others have ever read (sharing_map.hpp). For protocols that use it at all.
  [[nodiscard]] SharingMap& sharing() { return parts_.sharing; }
  /// And how a reader says so, before it reads: SharingMap::post_announce(). Neighbouring units; returns how many completions it used.
  std::size_t post_announce(PageRange pages, NodeId home, nic::Completion* completions);

  // ---- twins and diffs -----------------------------------------------------------------------------------------------
  /// Copies the page's frame (pinned) aside, into entry(page).twin; there must be none. Under the page's long lock.
  void make_twin(PageId page);
  /// Gives it back; there may be none.
  void drop_twin(PageId page);
  /// Compares frame (pinned) and twin. Revoke write access first. What differs is in *runs afterwards. Counts Stat::diffs and diff_bytes.
  void diff(PageId page, std::vector<DiffRun>* runs);
  /// The same as masks (masked_diff.hpp) of the whole unit: true if anything differs. Counts Stat::diffs; diff_bytes is up to who encodes it.
  bool diff(PageId page, std::vector<std::uint64_t>* masks);
  /// Reads one encoded diff (dsm::encode_diff) from the front of `wire` into the frame (pinned for writing) and the twin, if there is one. Returns the
  /// bytes consumed; 0 if it is malformed, and then nothing was written.
  [[nodiscard]] std::size_t apply_diff(PageId page, std::span<const std::byte> wire);

  // ---- one-sided transfers: other nodes' frames ------------------------------------------------------------------------
  /// Reads the page from `from`'s frame into this node's frame. Blocks. Counts pages_fetched.
  void fetch_page(PageId page, NodeId from);
  /// Reads contiguous pages (whole units) from one node's frames at once. Blocks.
  void fetch_pages(PageRange pages, NodeId from);
  /// The same without waiting: the completion ends when the bytes are here. The caller keeps the pages pinned until then.
  void post_fetch(PageRange pages, NodeId from, nic::Completion* completion);
  /// For a thread that waits for leave to fetch the unit (pinned) from there: brings the beginning of both frames near (nic/look_at.hpp). A hint.
  void look_at(PageId page, NodeId from);
  /// Reads bytes of the page's frame at its home, which is known and another node, from `offset` in the unit. Blocks.
  void read_bytes(PageId page, std::uint64_t offset, std::span<std::byte> to);
  /// Writes this node's frame (pinned) of the page over the frame at `to`; blocks until placed.
  void put_page(PageId page, NodeId to);
  /// The same without waiting. The source may change, and need be pinned no longer, when the call returns.
  void post_put(PageRange pages, NodeId to, nic::Completion* completion);
  /// Writes pieces into `to`'s frames: Segment::offset counts from the start of the shared area, see offset_of(); they have `bytes` in all. Does not wait. The
  /// caller counts the bytes (Stat::data_bytes), by page.
  void post_segments(NodeId to, std::span<const nic::Segment> segments, std::uint64_t bytes, nic::Completion* completion);
  /// Offset of a page in every node's shared region.
  [[nodiscard]] std::uint64_t offset_of(PageId page) const { return (page.value - parts_.table.range().first.value) * kPageSize; }
  /// Stops the process, or ends the job with a sentence where a death is expected, unless the status is ok.
  void must(Status status, const char* what, NodeId peer) const;
  /// Blocks until the completion's end; stops the process if the operation failed. `what` and `peer` are for the message.
  void wait(nic::Completion& completion, const char* what, NodeId peer);

  // ---- messages: to Protocol::on_message of the same protocol on another node (or on this one) --------------------------------
  /// Never blocks. Messages between two nodes arrive in the order of sending. The handler sees `body` followed by `more`, at an
  /// 8-byte aligned address.
  void send(NodeId to, std::span<const std::byte> body, std::span<const std::byte> more = {});

  /// Blocks until changed() is true. Whoever makes it true (a handler) announces on `word` afterwards: word.announce(env()).
  template <class Changed>
  void wait_until(WaitWord& word, Changed&& changed, const char* what) {
    const Status status = parts_.nic.wait_until(word, changed);
    if (!ok(status)) stop(status, what);
  }
  /// The same; meanwhile() runs once, unless it is over before: for what can be done while another node is at work.
  template <class Changed, class Meanwhile>
  void wait_until(WaitWord& word, Changed&& changed, const char* what, Meanwhile&& meanwhile) {
    int looks = 0;
    const auto look = [&] {
      if (changed()) return true;
      if (++looks != 2) return false;  // the first look comes before others know that this thread polls
      meanwhile();
      return changed();
    };
    wait_until(word, look, what);
  }

  // ---- statistics ------------------------------------------------------------------------------------------------------
  // What the NIC counts for the node (messages, operations on other nodes' memory) is counted for the protocol here, by the calls above.
  void count(Stat stat, std::uint64_t by = 1) {
    parts_.stats.add(stat, by);
    own_.add(stat, by);
  }
  /// Counts for the node, for the protocol and for the region that the page belongs to.
  void count(PageId page, Stat stat, std::uint64_t by = 1);
  /// The same, once for each of them.
  void count(std::span<const PageId> pages, Stat stat);
  /// Contents of the page that travel in a message or with a lock: data, and not the protocol's own bytes, as which what carries them is counted.
  void count_carried(PageId page, std::uint64_t bytes);
  /// Operations on another node's memory that were not posted by the calls above (nothing if `to` is this node).
  void count_one_sided(NodeId to, std::uint64_t bytes, std::uint64_t operations = 1);
  /// What this protocol did on this node.
  [[nodiscard]] Stats& own_stats() { return own_; }
  [[nodiscard]] const Stats& own_stats() const { return own_; }

  [[nodiscard]] const DsmParts& parts() const { return parts_; }

 private:
  [[noreturn]] void stop(Status status, const char* what) const;
  [[nodiscard]] PageRange whole_units(PageRange pages) const;
  [[nodiscard]] const PageEntry& to_be_compared(PageId page);
  void note_access(PageRange units, Access to);
  void count_transfer(PageRange pages, NodeId peer, bool fetched);
  DsmParts parts_;
  unsigned protocol_;
  Stats own_;
};

}  // namespace netvm::dsm
