// lease: logical leases, after Tardis (Yu, Devadas: PACT 2015) in the form for weaker models, where loads and stores have times of their own (Tardis 2.0: Yu,
// Liu, Vijayaraghavan, Devadas, 2015/2016). Nobody is ever told to give up a page. How pages travel is in dsm/home_based.hpp.
//
// Time is logical. A copy of a page comes with a lease, a time up to which it is good. A release places its changes at the homes and gives each changed
// page a time after all its leases. Locks and barriers carry the time on, and who acquires moves to it: copies whose leases have ended by then are read anew, or,
// if nobody has written meanwhile, kept with a new lease.
//
// Invariants
//  1. Two words at the page's home: `time`, not before any lease and any write's time; `version`, the number of writes. Both only grow.
//  2. A writer: changes into the home's frame, then version, then time; the write's time is one more than `time` was. A reader: first `time`, then version,
//     then the bytes. So if a reader's lease does not end before a write's time, it has read the write's bytes; and if a version is unchanged after the
//     lease was taken, so are the bytes, as far as the lease goes.
//  3. A copy with rights has a lease that does not end before seen_, but for those that advance() has taken from leases_ and not come to yet; on_acquire()
//     returns after it has.
//  4. told_ is not before seen_, nor before the time of any write of this node whose release has ended. Grants carry it.
//  5. Releases and acquires of a node's threads happen one after the other (interval_lock()). time_lock_ is never held while blocking.
//  6. A lease or a write moves `time` on by 2^20 at most beyond the node's own time or the page's: no job comes to the end of time (kEndOfLeaseTime).
//  7. Nothing here looks at pages that were not written (release) or whose leases have not ended (acquire).
#pragma once

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "dsm/home_based.hpp"
#include "dsm/home_words.hpp"

namespace netvm::dsm {

class Lease : public HomeBased {
 public:
  explicit Lease(ProtocolEnv& env) : HomeBased(env), words_(env) {}

  static constexpr Traits kTraits{
      .name = "lease",
      .consistency = Consistency::release,
      .summary = "release consistency by logical leases (Tardis): copies expire as time passes, and are renewed without data if unchanged",
      .one_sided = true,
      .outlives_nodes = true};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Lease>(env); }

  void on_release(SyncId object) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;
  void on_detach(PageRange pages) override;
  void on_retire(PageRange pages) override;
  Departure on_evict(PageId page) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

 protected:
  // What the tests replace to prove that they notice.
  [[nodiscard]] bool is_stale(PageId page) override;
  /// Whether a copy of version `mine` may be kept when the home has `theirs`.
  [[nodiscard]] virtual bool is_current(std::uint64_t mine, std::uint64_t theirs) const { return mine == theirs; }
  /// The time of a write, given what `time` was.
  [[nodiscard]] virtual std::uint64_t time_of_write(std::uint64_t time) const { return time + 1; }

 private:
  struct Copy;
  struct Inquiry;
  struct Stamp;
  struct Now {
    std::uint64_t seen;
    std::uint64_t told;
  };

  void fetch(PageId page, PageEntry& entry) override;
  void fetch_run(std::span<const PageId> run, NodeId home) override;
  // The pages' locks are held.
  [[nodiscard]] static bool expects_bytes(const PageEntry& entry, bool first);
  /// Asks for leases of neighbours, and reads their bytes if one of them may need them. `first`: what comes out is remembered, to
  /// foretell the next time. Appends those that must be asked for again.
  void ask(std::span<const PageId> run, NodeId home, bool first, std::vector<PageId>& again);
  /// Whether the page has a lease now, and its bytes.
  bool conclude(PageId page, const Inquiry& inquiry, bool with_data, bool first);
  /// Enters the lease. False: it has ended meanwhile.
  bool take_lease(PageId page, PageEntry& entry, std::uint64_t end);
  [[nodiscard]] Now now();
  [[nodiscard]] std::uint64_t lease_end(const PageEntry& entry);

  // interval_lock() held.
  void close_interval();
  void stamp(std::span<const PageId> pages);
  void settle(PageId page, Stamp& stamp);
  void advance(std::uint64_t time);

  void encode_time(Bytes& out);

  HomeWords words_;

  SpinLock time_lock_;  // guards what follows, and PageEntry::data
  std::uint64_t seen_ = 0;
  std::uint64_t told_ = 0;
  std::set<std::pair<std::uint64_t, PageId>> leases_;  // of copies with rights, by their ends
};

}  // namespace netvm::dsm
