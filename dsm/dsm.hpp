// Dsm: one node's part of the shared memory: allocator, page table, faults, protocols. See docs/ARCHITECTURE.md for one fault's journey.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dsm/layout.hpp"
#include "nic/nic.hpp"
#include "runtime/host_vm.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::sync {
class Waits;
}

namespace netvm::dsm {

class Protocol;
class ProtocolEnv;
enum class Consistency : std::uint8_t;

/// Which node keeps the master copy of a page.
enum class Placement : std::uint8_t {
  block,        ///< node 0 the first 1/N of the pages, node 1 the next, ...
  cyclic,       ///< page i at node i mod N
  first_touch,  ///< the node that faults first
  at_node,      ///< all at `home`
};

/// What AllocOptions::granularity may be.
inline constexpr std::size_t kMinGranularity = kPageSize;
inline constexpr std::size_t kMaxGranularity = 16 * kPageSize;

/// Bytes of AllocOptions::name that are kept.
inline constexpr std::size_t kMostName = 31;

struct AllocOptions {
  std::string_view protocol = {};  ///< empty: the run's default
  Placement placement = Placement::first_touch;
  NodeId home{};               ///< for Placement::at_node
  std::size_t alignment = 16;  ///< power of two, at most 1 GiB
  /// Bytes that are kept coherent as one: a power of two from 4 KiB to 64 KiB; 0: the run's default. Objects up to 2 KiB ignore it.
  std::size_t granularity = 0;
  /// The program relies on this (protocol.hpp): a protocol that gives less is refused.
  std::optional<Consistency> needs = std::nullopt;
  std::string_view name =
      {};  ///< for reports and messages; objects up to 2 KiB, which share pages, lose it unless they are aligned to a page
};

struct DsmConfig {
  Layout layout;
  std::string default_protocol = "hlrc";
  std::uint32_t default_granularity = kPageSize;  ///< of allocations that name none
  bool read_ahead = true;                         ///< fetch units that a sequential reader will want
  std::uint32_t read_ahead_from = 2;              ///< from which miss in a row on; 1: from every miss (tests)
  std::vector<nic::RemoteRegion> shared;          ///< for each node: the region over its frames of layout.shared
  std::vector<nic::RemoteRegion> system;          ///< for each node: the region over its frames of layout.system (first-touch claims)
  /// Whether only threads that take part in barriers use this node's memory; asked while they wait in one. Empty: so it is.
  std::function<bool()> all_threads_wait = {};
  /// Ends the job with this sentence, never returns: where a node has died and what it had is needed. Empty: a broken invariant, as a job without one of
  /// its nodes is being ended anyway.
  std::function<void(const std::string& why)> end_job = {};
  bool home_moves = true;  ///< homes follow their writers, where the protocol knows how
  /// For tests: makes protocol i by factories[i] instead of protocols()[i].make, where there is one that is not null.
  std::vector<std::unique_ptr<Protocol> (*)(ProtocolEnv&)> factories = {};
};

/// What a node knows of an allocation; for statistics and error messages.
struct RegionReport {
  std::string name;
  bool is_slab = false;  ///< objects up to 2 KiB that share pages
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t granularity = 0;
  std::string protocol;
  std::uint64_t stats[kStatCount] = {};
};

/// What a protocol did on a node, whatever the region: also messages, operations on others' memory, notices, time in handlers, at locks and barriers.
struct ProtocolReport {
  std::string_view name;
  std::uint64_t peak_bytes = 0;  ///< the most that it held in logs and directories
  std::uint64_t stats[kStatCount] = {};
};

class Dsm final : public FaultHandler, public sync::CoherenceHook {
 public:
  Dsm(const DsmConfig& config, Env& env, HostVm& vm, nic::Nic& nic, Stats& stats);
  ~Dsm() override;

  /// Blocks until nothing of this node's runs in the background (retirement of freed memory). Before the destructor where Env::spawn()'s
  /// tasks are threads. Memory freed afterwards is not handed out again.
  void close();

  // ---- allocation: any thread of any node, at any time; blocks (node 0 keeps the map) ---------------------------------------
  /// Returns the global offset of zeroed memory. On failure *why says how much was asked, what is left, and what to do.
  /// E_EXHAUSTED: the range is full; E_INVALID: zero bytes, bad alignment, unknown protocol, no such home, or one that has died; E_PEER_DEAD: node 0 has
  /// died, and it kept the map.
  Result<std::uint64_t> allocate(std::uint64_t bytes, const AllocOptions& options, std::string* why);
  /// The memory may be handed out again (zeroed). Nobody may use it any more; E_INVALID if `offset` was not allocated; E_PEER_DEAD as above.
  Status free(std::uint64_t offset);
  /// Bytes allocated and still free, as node 0 sees them.
  struct Usage {
    std::uint64_t used = 0;
    std::uint64_t available = 0;
  };
  Usage usage();

  /// Takes the faults of a range ahead of time: for buffers of system calls, and to overlap. False on a wild address.
  bool touch(std::uint64_t offset, std::uint64_t bytes, bool write);

  /// Tells this node that a lock guards the bytes [offset, offset + bytes): what `entry` needs to know, and others ignore. Every node that uses
  /// the lock tells before it does, the same each time; more than one range may be bound. False if no allocation is there. May block.
  bool bind(sync::SyncId lock, std::uint64_t offset, std::uint64_t bytes);

  /// Where waits for pages, and for the table of what is allocated, are told from now on; must live until close(). Before the first call that asks other nodes.
  void tell_waits(sync::Waits& waits);

  /// A node has died and the job goes on without it: nobody waits for its answers, and new memory gets homes that live. Ends the job nevertheless (DsmConfig::end_job) if a protocol in use, now or later, cannot. Any thread.
  void declare_dead(NodeId node);

  /// Home of a page, if this node knows it yet.
  Result<NodeId> home_of(std::uint64_t offset);
  /// Of the allocation that lies there: at least what was asked for. E_INVALID: none does. E_PEER_DEAD: node 0 has died, and nobody
  /// who lives has met one.
  Result<std::uint64_t> size_of(std::uint64_t offset);
  /// What the program called it; empty if that is nothing or this node has not met it. Does not block.
  [[nodiscard]] std::string name_of(std::uint64_t offset) const;
  /// What the memory's protocol promises; none if this node has not met it. Does not block.
  [[nodiscard]] std::optional<Consistency> consistency_of(std::uint64_t offset) const;
  /// For a person: "8 bytes into \"grid\" (4096 bytes at 0x..., protocol hlrc)", or beyond its end. Of allocations that this node has met; empty if there is none
  /// before that place. Does not block.
  [[nodiscard]] std::string describe(std::uint64_t offset) const;

  // ---- FaultHandler ------------------------------------------------------------------------------------------------------------
  bool on_fault(PageId page, bool write) noexcept override;
  void describe(std::uint64_t offset, std::span<char> text) const noexcept override;

  // ---- sync::CoherenceHook: fans out to the protocols in use -----------------------------------------------------------------
  void before_unlock(sync::SyncId object) override;
  [[nodiscard]] bool needs_release(sync::SyncId object) override;
  void on_release(sync::SyncId object) override;
  [[nodiscard]] bool tells_ahead() override;
  void append_acquire_request(sync::SyncId object, sync::Bytes& out) override;
  void append_grant(sync::SyncId object, NodeId acquirer, std::span<const std::byte> request, sync::Bytes& out) override;
  void on_acquire(sync::SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void count_sent(std::span<const std::byte> payload, std::uint64_t copies) override;
  [[nodiscard]] bool splits_barriers() override;
  void threads_go_on(bool some) override;
  void on_barrier_arrive(sync::Bytes& out) override;
  void on_barrier_merge(sync::Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;
  void on_death(NodeId node) override;

  [[nodiscard]] std::vector<RegionReport> report() const;
  /// Of those in use.
  [[nodiscard]] std::vector<ProtocolReport> protocol_reports();
  /// The most memory that coherence took on this node, beside the frames: looked at when barriers end and when asked.
  struct MemoryReport {
    std::uint64_t peak_twin_bytes = 0;
    std::vector<std::pair<std::string, std::uint64_t>> peak_protocol_bytes = {};  ///< of protocols in use
  };
  [[nodiscard]] MemoryReport memory_report();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace netvm::dsm
