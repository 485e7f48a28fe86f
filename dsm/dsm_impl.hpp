// Dsm::Impl: the parts of a node's DSM and how they hang together. Private to dsm.cpp and dsm_hook.cpp.
#pragma once

#include <atomic>
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
#include "dsm/regions.hpp"
#include "dsm/sharing_map.hpp"
#include "dsm/small_objects.hpp"
#include "dsm/twin_pool.hpp"

namespace netvm::dsm {

class Dsm::Impl final : public ExtentKeeper, public nic::MessageHandler {
 public:
  Impl(const DsmConfig& config, Env& env, HostVm& vm, nic::Nic& nic, Stats& stats);
  ~Impl() override;

  // ---- ExtentKeeper ------------------------------------------------------------------------------------------------------
  void forget(const Extent& extent) override;
  [[nodiscard]] bool needs_drain(const Extent& extent) const override;
  void withdraw(const Extent& extent) override;
  void detach(const Extent& extent) override;

  // ---- messages of protocols -------------------------------------------------------------------------------------------------
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;

  /// The live extent of a page: what this node knows, else node 0's answer. Blocks.
  std::optional<RegionDirectory::Found> extent_of(PageId page);
  /// The page becomes its protocol's here. Its long lock is held. False if it belongs to no allocation. Blocks.
  bool attach(PageId page, PageEntry& entry);
  bool fault(PageId page, bool write);

  /// Writes zeros as the application does.
  void write_zeros(std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] bool inside_shared(std::uint64_t offset, std::uint64_t bytes) const;

  [[nodiscard]] bool in_use(unsigned protocol) const {
    return in_use_[protocol].load(std::memory_order_acquire);  // acquire: partner is use()
  }
  void use(unsigned protocol) {
    in_use_[protocol].store(true, std::memory_order_release);  // release: partner is in_use()
  }
  /// Splits a payload of another node; a malformed one stops the process.
  std::vector<PayloadSection> sections_of(std::span<const std::byte> payload, const char* what) const;

  const DsmConfig config_;
  Env& env_;
  HostVm& vm_;
  nic::Nic& nic_;
  Stats& stats_;
  PageTable table_;
  TwinPool twins_;
  RegionDirectory regions_;
  Homes homes_;
  SharingMap sharing_;
  SmallObjects small_objects_;
  TaskGroup background_;                              // of the protocols
  std::vector<std::unique_ptr<ProtocolEnv>> envs_;    // by protocol
  std::vector<std::unique_ptr<Protocol>> protocols_;  // by protocol
  /// By protocol: whether this node met it, in an allocation or in a payload. Those it did not meet cost nothing.
  std::vector<std::atomic<bool>> in_use_;
  unsigned default_protocol_ = 0;
  AllocationService service_;
};

}  // namespace netvm::dsm
