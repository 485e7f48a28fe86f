// Dsm::Impl: the parts of a node's DSM and how they hang together. Private to dsm.cpp, dsm_fault.cpp and dsm_hook.cpp.
#pragma once

#include <atomic>
#include <bit>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsm/allocation_service.hpp"
#include "dsm/dsm.hpp"
#include "dsm/homes.hpp"
#include "dsm/page_table.hpp"
#include "dsm/payload.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "dsm/read_ahead.hpp"
#include "dsm/regions.hpp"
#include "dsm/sharing_map.hpp"
#include "dsm/small_objects.hpp"
#include "dsm/twin_pool.hpp"

namespace netvm::dsm {

class Dsm::Impl final : public ExtentKeeper, public nic::MessageHandler, public PageOwner, public ExtentSource {
 public:
  Impl(const DsmConfig& config, Env& env, HostVm& vm, nic::Nic& nic, Stats& stats);
  ~Impl() override;

  // ---- ExtentKeeper ------------------------------------------------------------------------------------------------------
  void forget(const Extent& extent) override;
  [[nodiscard]] bool needs_drain(const Extent& extent) const override;
  void withdraw(const Extent& extent) override;
  void detach(const Extent& extent) override;
  [[nodiscard]] std::optional<Extent> known_extent(PageId page) override;
  [[nodiscard]] std::optional<NodeId> known_home(PageId page) override;

  // ---- messages of protocols -------------------------------------------------------------------------------------------------
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;

  // ---- ExtentSource ------------------------------------------------------------------------------------------------------
  bool meet(PageId page) override { return extent_of(page).has_value(); }
  std::optional<NodeId> ask_home(PageId page) override { return service_.ask_home(page); }

  // ---- PageOwner ---------------------------------------------------------------------------------------------------------
  Departure on_evict(PageId page) noexcept override;

  /// Takes every right to the extent's pages; returns those of units that were touched here at all, as runs.
  std::vector<PageRange> withdraw_units(const Extent& extent);
  void deliver(unsigned protocol, NodeId from, std::span<const std::byte> body);

  /// The live extent of a page: what this node knows, else node 0's answer, else what another knows (AllocationService::describe()). Blocks.
  Result<RegionDirectory::Found> extent_of(PageId page);
  /// A page that is used now must belong to an allocation. False if it does not; ends the job if nobody who lives can tell.
  bool must_know(PageId page, Status status);
  /// The head of the coherence unit that the page lies in; none if it belongs to no allocation. Blocks where this node has not met the page.
  std::optional<PageId> head_of(PageId page);
  /// The unit becomes its protocol's here. Its long lock is held. False if it belongs to no allocation. Blocks.
  bool attach(PageId head, PageEntry& entry);
  /// `wanted`: how many pages behind it the caller is going to read for sure; 0: see read_ahead.hpp.
  bool fault(PageId page, bool write, std::uint64_t wanted = 0);
  /// The right to a unit, under its long lock; *missed: it was not there. False if it belongs to no allocation.
  bool serve(PageId head, bool write, bool* missed);
  /// After a read fault of that unit: fetches what comes next, as far as nobody else works on it.
  void read_ahead(PageId head, std::uint64_t wanted);
  /// Takes the long locks of units that can be read ahead; in ascending order.
  std::vector<PageId> take_for_read_ahead(const Extent& extent, PageId head, std::int64_t step, std::uint64_t count);
  /// Whether the application may access the page already.
  [[nodiscard]] bool has_access(PageId page, Access wanted);

  /// Writes zeros as the application does.
  void write_zeros(std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] bool inside_shared(std::uint64_t offset, std::uint64_t bytes) const;

  /// The numbers of the bits that are set, rising.
  class Numbers {
   public:
    explicit Numbers(std::uint32_t bits) : left_(bits) {}
    unsigned operator*() const { return static_cast<unsigned>(std::countr_zero(left_)); }
    Numbers& operator++() {
      left_ &= left_ - 1;
      return *this;
    }
    bool operator==(const Numbers&) const = default;
    [[nodiscard]] Numbers begin() const { return *this; }
    [[nodiscard]] Numbers end() const { return Numbers(0); }

   private:
    std::uint32_t left_;
  };
  /// The protocols that this node has met, in an allocation or in a payload. The others cost nothing.
  [[nodiscard]] Numbers in_use() const { return Numbers(in_use_.load(std::memory_order_acquire)); }  // acquire: partner is use()
  void use(unsigned protocol) {
    if (protocols_[protocol]->watches_unlocks())
      watches_unlocks_.store(true, std::memory_order_relaxed);  // relaxed: who uses it synchronises
    if (const std::uint32_t bit = std::uint32_t{1} << protocol; (in_use_.load() & bit) == 0) in_use_.fetch_or(bit);
    if (dead_.load() != kNobody) require_outlives(protocol);  // after the store: either this or declare_dead() sees both
  }
  /// Ends the job unless the protocol can do without the node that has died.
  void require_outlives(unsigned protocol);
  [[nodiscard]] bool alone() const { return nic_.nodes() == 1; }
  /// Bytes of a protocol's in a message of sync/.
  void count_payload(unsigned protocol, std::uint64_t bytes);
  /// Whether there is anything to flush since this was asked last, roughly: for what is too short to be timed if there is not.
  [[nodiscard]] bool has_written() {
    return wrote_.load(std::memory_order_relaxed) && wrote_.exchange(false);  // relaxed: a statistic
  }
  /// The same for what others have written.
  [[nodiscard]] bool has_heard() {
    return heard_.load(std::memory_order_relaxed) && heard_.exchange(false);  // relaxed: a statistic
  }
  /// Whether a grant of a lock need not carry anything. False: it may.
  [[nodiscard]] bool tells_nothing(std::span<const std::byte> request) const;
  /// Looks how much memory the protocols have now.
  void note_memory();
  /// Splits a payload of another node; a malformed one stops the process.
  std::vector<PayloadSection> sections_of(std::span<const std::byte> payload, const char* what) const;

  const DsmConfig config_;
  sync::Waits* waits_ = nullptr;            // where who waits for a page says so; null: nowhere
  std::atomic<bool> threads_go_on_{false};  // some of those that have arrived at the barrier under way
  std::atomic<std::uint64_t> barriers_left_{0};
  Env& env_;
  HostVm& vm_;
  nic::Nic& nic_;
  Stats& stats_;
  PageTable table_;
  TwinPool twins_{&vm_};
  RegionDirectory regions_;
  Homes homes_;
  SharingMap sharing_;
  SmallObjects small_objects_;
  ReadAhead read_ahead_;
  TaskGroup background_;                              // of the protocols
  std::vector<std::unique_ptr<ProtocolEnv>> envs_;    // by protocol
  std::vector<std::unique_ptr<Protocol>> protocols_;  // by protocol
  std::atomic<std::uint32_t> in_use_{0};              // a bit for each protocol
  static constexpr std::uint32_t kNobody = UINT32_MAX;
  std::atomic<std::uint32_t> dead_{kNobody};  // the node that died last
  std::atomic<bool> watches_unlocks_{false};  // one of those in use does
  unsigned default_protocol_ = 0;
  std::atomic<bool> heard_{false};                      // of what others have written, since the last look at the protocols' memory
  std::atomic<bool> wrote_{false};                      // there was a write fault since the last release that was timed
  std::vector<std::atomic<std::uint64_t>> peak_bytes_;  // by protocol: the most that it had in logs and directories
  AllocationService service_;
};

}  // namespace netvm::dsm
