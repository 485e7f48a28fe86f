// The messages of recovery: bodies of MessageKind::sync_recovery. Little-endian, validated once, in decode.
//
//   RecoveryHeader (16 bytes), the dead nodes (4 bytes each, ascending), then entries (24 bytes each): reports or verdicts
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sync/coherence_hook.hpp"
#include "sync/recovery_plan.hpp"

namespace netvm::sync {

enum class RecoveryStep : std::uint8_t {
  closed = 1,   ///< to all: what I had to say about locks I have said before this
  reports = 2,  ///< to a keeper: how my locks stand
  verdicts = 3  ///< from a keeper: what becomes of them
};

struct RecoveryMessage {
  RecoveryStep step{};
  std::vector<NodeId> dead;
  std::vector<LockReport> reports;    ///< of step reports
  std::vector<LockVerdict> verdicts;  ///< of step verdicts
};

[[nodiscard]] Bytes encode_recovery(const RecoveryMessage& message);
/// Nothing if the body is not one of ours, or names a node that there is not.
[[nodiscard]] std::optional<RecoveryMessage> decode_recovery(std::span<const std::byte> body, std::uint32_t nodes);

}  // namespace netvm::sync
