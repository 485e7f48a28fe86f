// Recovery plan: what becomes of the locks whose keeper a node is, when nodes have died. A pure function of what the survivors say of their locks.
//
// A lock whose token a survivor has goes on: the survivors that were queued stay queued, in the order in which they were as far as the survivors know it. A lock
// that somebody used and whose token no survivor has is lost: it was held, or kept, or about to be received by a node that died, and what was written under it
// there may be gone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::sync {

/// What a survivor says of one lock.
struct LockReport {
  enum class Place : std::uint8_t { away, queued, here, lost };
  std::uint64_t offset = 0;
  std::uint64_t epoch = 0;
  NodeId predecessor{};  ///< of a queued one
  Place place = Place::away;
};

/// What its keeper tells a survivor.
struct LockVerdict {
  enum class Fate : std::uint8_t { ask, lost };
  std::uint64_t offset = 0;
  std::uint64_t epoch = 0;  ///< of a lost one
  NodeId predecessor{};     ///< of one that asks
  Fate fate = Fate::ask;
};

/// The tail of a lock that is lost: this bit, and its epoch.
inline constexpr std::uint64_t kLostTail = std::uint64_t{1} << 63;
/// How far the epoch of a lock that is lost lies above all that survivors know: nodes that died may have had the lock since, so many times at most.
inline constexpr std::uint64_t kLostEpochs = std::uint64_t{1} << 32;

struct RecoveryPlan {
  std::map<std::uint64_t, std::uint64_t> tails;         ///< by offset
  std::map<NodeId, std::vector<LockVerdict>> verdicts;  ///< by survivor
  std::optional<std::uint64_t> conflict;                ///< a lock whose token two survivors claim to have: the rest means nothing
};

/// `reports`: by survivor, each lock at most once. `tails`: of the locks that this keeper kept before, those that are not 0. `kept_before`: whether it
/// kept the lock with that offset before; of one that it did not, nobody knows whether the dead had used it. `deaths`: so many nodes have died in all; each may
/// have ended a life of the lock of which no survivor knows.
[[nodiscard]] RecoveryPlan plan_recovery(const std::map<NodeId, std::vector<LockReport>>& reports,
                                         const std::map<std::uint64_t, std::uint64_t>& tails,
                                         const std::function<bool(std::uint64_t)>& kept_before, std::uint32_t deaths = 1);

}  // namespace netvm::sync
