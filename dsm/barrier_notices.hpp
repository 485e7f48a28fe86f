// BarrierNotices: "at a barrier everybody is told which pages were written since the one before", for protocols that say less, or nothing, with locks (scope,
// entry). Numbers the barriers, too.
//
// Wire: a set of intervals (interval_log.hpp), one of each node, whose index is the number of the epoch that begins.
// Threads: not synchronised.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dsm/protocol_env.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::dsm {

class BarrierNotices {
 public:
  explicit BarrierNotices(ProtocolEnv& env) : env_(env) {}

  /// Barriers passed since the protocol was first used by any node: the same number everywhere between two barriers.
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  /// What this node says when it arrives: pages in order, each once; perhaps none. Counts them as sent.
  void encode(std::span<const PageId> written, sync::Bytes& out);
  /// Merges what another subtree says.
  static void merge(sync::Bytes& sum, std::span<const std::byte> other);
  /// The pages that others have written. A malformed sum stops the process. Counts them as received.
  [[nodiscard]] std::vector<PageRange> decode(std::span<const std::byte> sum);
  /// The node leaves.
  void pass() { ++epoch_; }

 private:
  ProtocolEnv& env_;
  std::uint64_t epoch_ = 0;
};

}  // namespace netvm::dsm
