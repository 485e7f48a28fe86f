// hlrc: home-based lazy release consistency (Zhou, Iftode, Li: OSDI 1996). How pages travel is in dsm/home_based.hpp.
//
// What was written is told lazily, with locks and barriers, as write notices: the acquirer invalidates.
//
// Invariants
//  1. A release returns only after every change made before it is placed at the homes; only then does its interval exist. So whoever knows of an
//     interval finds its changes at the home, and pages need no versions.
//  2. This node's clock covers another's interval only after every page of it was invalidated here: else a second thread of this node could be
//     granted past notices that are still being acted upon. So: invalidate, then log_.add().
//  3. Releases and acquires of a node's threads happen one after the other (interval_lock()). log_lock_ is for handlers and never held while blocking.
//  4. A barrier's payload is that of HomeMoves, preceded by its length, then the intervals.
//  5. Nothing here looks at pages that were not written (release) or not named by a notice (acquire).
#pragma once

#include <memory>
#include <vector>

#include "dsm/home_based.hpp"
#include "dsm/home_moves.hpp"
#include "dsm/interval_log.hpp"

namespace netvm::dsm {

class Hlrc : public HomeBased {
 public:
  explicit Hlrc(ProtocolEnv& env) : HomeBased(env), moves_(env, *this), log_(env.node(), env.nodes()) {}

  static constexpr Traits kTraits{
      .name = "hlrc",
      .consistency = Consistency::release,
      .summary = "home-based lazy release consistency (the default): what was written before an unlock or barrier is seen after",
      .one_sided = true,
      .outlives_nodes = true};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Hlrc>(env); }

  void on_release(SyncId object) override;
  void append_acquire_request(SyncId object, Bytes& out) override;
  [[nodiscard]] bool tells_nothing(std::span<const std::byte> request) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

 protected:
  /// Whether a unit may move that others have written, too. For tests: it may not.
  [[nodiscard]] virtual bool moves_shared_units() const { return false; }

 private:
  // All below: interval_lock() held.
  void close_interval();
  void act_upon(std::span<const IntervalView> intervals, bool pass_on);
  void decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out);

  HomeMoves moves_;  // interval_lock()

  SpinLock log_lock_;
  IntervalLog log_;
};

}  // namespace netvm::dsm
