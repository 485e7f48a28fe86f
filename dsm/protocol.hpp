// The interface of a coherence protocol and the environment it works in (shared by all: page table, twins, diffs, transfers).
// One object per node and protocol; it serves all regions that chose it. A protocol is one file in dsm/protocols/.
//
// Rules that hold for every protocol (each is a bug that somebody had)
//  1. The page lock is held across fetch, flush and invalidate; message handlers never take it.
//  2. Write access is revoked before the page is diffed. A page flushed early still owes its write notice.
//  3. Frames are filled before access is given; revocation is complete when set_access() returns.
//  4. Diffs are byte-exact: only bytes that changed travel. The receiver of a diff patches its own twin too.
// A PageId here is the head of a coherence unit, which may have several pages: protocol_env.hpp, invariant 2. Only on_detach() names all pages of a unit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "dsm/page_table.hpp"
#include "nic/nic.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/stats.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::dsm {

using sync::Bytes;
using sync::SyncId;

/// What a program may rely on, from the strongest to the weakest. Race-free programs that synchronise by barriers only may under all of them.
enum class Consistency : std::uint8_t {
  sequential,  ///< all accesses, racy ones too, happen in one order
  release,     ///< what was written before a release is seen after every acquire that follows it, directly or through others
  scope,  ///< ... after an acquire of the same lock: what was written while that lock was held (Iftode, Singh, Li 1996); barriers are global
  entry,  ///< ... what is bound to that lock (Bershad, Zekauskas 1991); barriers are global
};
[[nodiscard]] std::string_view to_string(Consistency consistency);

/// What a protocol promises and needs.
struct Traits {
  std::string_view name;
  Consistency consistency = Consistency::release;
  std::string_view summary;  ///< one line for --help
  bool one_sided = false;    ///< sends no messages of its own: pages can be retired without draining channels
  /// A page whose home lives stays usable when another node has died. Where it is not so (the page's owner, or who must be told of its changes, may be
  /// the dead one) a job that outlives its nodes ends with the first death.
  bool outlives_nodes = false;
};

class ProtocolEnv;

class Protocol {
 public:
  virtual ~Protocol() = default;
  [[nodiscard]] virtual Traits traits() const = 0;

  /// The faulting thread; this page's lock is held; may block. Returns with the right given (it may be lost again before the access runs).
  virtual void on_read_fault(PageId page) = 0;
  virtual void on_write_fault(PageId page) = 0;
  /// A thread will probably read these units soon: heads in ascending order, neighbours for the most part. Their long locks are held, they are attached,
  /// pinned, without access and not waited for by anybody, and their homes are known (has_homes()). May fetch them and give the right to read, many with one transfer
  /// and one set_access(); may leave any of them as it was. May block. Dsm asks for it when a node misses one unit after the other (read_ahead.hpp).
  virtual void on_read_ahead(std::span<const PageId> units);
  /// Whether pages have homes at all: else nobody looks for them before a read-ahead.
  [[nodiscard]] virtual bool has_homes() const { return true; }
  /// Whether it does: else it is not asked.
  [[nodiscard]] virtual bool reads_ahead() const { return false; }
  /// With a memory budget: the pager wants this page's frame. Its long lock is held; must not block, nor take other locks but by try_lock. What is
  /// dropped must be there to be had again elsewhere, and needs set_access(page, none) before. Asked for units of one page only: of larger ones
  /// pages come and go one by one, and are saved.
  virtual Departure on_evict(PageId page);
  /// Runs to completion: never blocks, never takes a page lock. `body` is 8-byte aligned.
  virtual void on_message(NodeId from, std::span<const std::byte> body);

  // See sync::CoherenceHook; nothing happens there unless a protocol says what. The payloads of all protocols in use travel together; each sees its own part, which is empty if it (or the other
  // node's) had nothing to say. on_acquire, on_barrier_merge and on_barrier_leave are not called with nothing.
  /// Whether its on_release() ever does anything: if not, a lock that lies idle is granted without it.
  [[nodiscard]] virtual bool has_releases() const { return traits().consistency != Consistency::sequential; }
  /// Whether it wants before_unlock(): else no unlock pays for it.
  [[nodiscard]] virtual bool watches_unlocks() const { return false; }
  /// Whether what on_release() and append_grant() tell depends on which object it is for: then they are called where its token is.
  [[nodiscard]] virtual bool tells_by_object() const { return false; }
  /// Whether threads may run on between on_barrier_arrive() and on_barrier_leave(). Not where what a lock tells counts from barrier to barrier.
  [[nodiscard]] virtual bool splits_barriers() const { return true; }
  virtual void before_unlock(SyncId object);
  virtual void on_release(SyncId object);
  virtual void append_acquire_request(SyncId object, Bytes& out);
  /// Whether append_grant() would append nothing for this request. False: it may. Cheap: asked before every grant, with the next node waiting.
  [[nodiscard]] virtual bool tells_nothing(std::span<const std::byte> /*request*/) { return false; }
  virtual void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out);
  virtual void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload);
  virtual void on_barrier_arrive(Bytes& out);
  virtual void on_barrier_merge(Bytes& sum, std::span<const std::byte> other);
  virtual void on_barrier_leave(std::span<const std::byte> sum);
  virtual void on_death(NodeId node);

  /// The lock guards these bytes: see Dsm::bind(). They lie in one extent of this protocol's. May block.
  virtual void bind(SyncId lock, std::uint64_t offset, std::uint64_t bytes);

  /// A page begins to belong to this protocol here (its table entry names it, access is none): at this node's first fault, with the page's long
  /// lock held. Messages about it may have come before.
  virtual void on_attach(PageRange pages);
  /// Pages cease to: their memory was freed. Drop all state and twins, no flush. The pages' long locks are held. Afterwards access becomes none, the
  /// entries zero. Called for every page of a freed extent that has an entry that is not zero, whether it was attached or only heard of; perhaps twice.
  virtual void on_detach(PageRange pages) = 0;
  /// A freed extent, once on every node, whether it met its pages or not, and after every node's on_detach(): what is kept about them outside of the page table
  /// goes now. No operation about them is on its way.
  virtual void on_retire(PageRange pages);

  /// What it keeps at the moment beside frames: notices, diffs, directories, twins that outlive a release. Any thread.
  [[nodiscard]] virtual std::uint64_t memory_bytes() { return 0; }
};

using ProtocolFactory = std::unique_ptr<Protocol> (*)(ProtocolEnv&);

/// A protocol that can be named on the command line.
struct ProtocolEntry {
  Traits traits;
  ProtocolFactory make;
};
/// All protocols, in the order of their numbers (which travel on the wire and lie in page table entries).
[[nodiscard]] std::span<const ProtocolEntry> protocols();
/// Index into protocols(); -1 if there is none of that name.
[[nodiscard]] int find_protocol(std::string_view name);

}  // namespace netvm::dsm
