#include "sync/recovery_wire.hpp"

#include "runtime/wire_codec.hpp"

namespace netvm::sync {

namespace {

struct RecoveryHeader {
  std::uint8_t step = 0;
  std::uint8_t reserved[3] = {};
  std::uint32_t dead = 0;
  std::uint64_t entries = 0;
};
static_assert(sizeof(RecoveryHeader) == 16);

/// A report or a verdict.
struct Entry {
  std::uint64_t offset = 0;
  std::uint64_t epoch = 0;
  std::uint32_t predecessor = 0;
  std::uint8_t what = 0;  // LockReport::Place or LockVerdict::Fate
  std::uint8_t reserved[3] = {};
};
static_assert(sizeof(Entry) == 24);

bool is_zero(const std::uint8_t (&bytes)[3]) { return bytes[0] == 0 && bytes[1] == 0 && bytes[2] == 0; }

bool decode_entry(const Entry& entry, std::uint32_t nodes, RecoveryMessage* message) {
  if (!is_zero(entry.reserved) || entry.predecessor >= nodes) return false;
  const NodeId predecessor{entry.predecessor};
  if (message->step == RecoveryStep::reports) {
    if (entry.what > static_cast<std::uint8_t>(LockReport::Place::lost)) return false;
    message->reports.push_back({entry.offset, entry.epoch, predecessor, static_cast<LockReport::Place>(entry.what)});
    return true;
  }
  if (message->step != RecoveryStep::verdicts || entry.what > static_cast<std::uint8_t>(LockVerdict::Fate::lost)) return false;
  message->verdicts.push_back({entry.offset, entry.epoch, predecessor, static_cast<LockVerdict::Fate>(entry.what)});
  return true;
}

}  // namespace

Bytes encode_recovery(const RecoveryMessage& message) {
  RecoveryHeader header;
  header.step = static_cast<std::uint8_t>(message.step);
  header.dead = static_cast<std::uint32_t>(message.dead.size());
  header.entries = message.reports.size() + message.verdicts.size();
  Bytes body;
  body.reserve(sizeof header + message.dead.size() * sizeof(std::uint32_t) + header.entries * sizeof(Entry));
  put_raw(body, header);
  for (const NodeId node : message.dead) put_raw(body, node.value);
  for (const LockReport& r : message.reports) {
    put_raw(body, Entry{r.offset, r.epoch, r.predecessor.value, static_cast<std::uint8_t>(r.place), {}});
  }
  for (const LockVerdict& v : message.verdicts) {
    put_raw(body, Entry{v.offset, v.epoch, v.predecessor.value, static_cast<std::uint8_t>(v.fate), {}});
  }
  return body;
}

std::optional<RecoveryMessage> decode_recovery(std::span<const std::byte> body, std::uint32_t nodes) {
  WireReader reader(body);
  RecoveryHeader header;
  if (!reader.raw(&header) || header.step < static_cast<std::uint8_t>(RecoveryStep::closed) ||
      header.step > static_cast<std::uint8_t>(RecoveryStep::verdicts) || !is_zero(header.reserved) || header.dead > nodes) {
    return std::nullopt;
  }
  RecoveryMessage message;
  message.step = static_cast<RecoveryStep>(header.step);
  for (std::uint32_t i = 0; i < header.dead; ++i) {
    NodeId node{};
    if (!reader.raw(&node.value) || node.value >= nodes || (!message.dead.empty() && node <= message.dead.back())) return std::nullopt;
    message.dead.push_back(node);
  }
  const std::size_t left = reader.rest().size();
  if (left % sizeof(Entry) != 0 || left / sizeof(Entry) != header.entries) return std::nullopt;
  for (Entry entry; reader.raw(&entry);) {
    if (!decode_entry(entry, nodes, &message)) return std::nullopt;
    if (reader.at_end()) break;
  }
  return message;
}

}  // namespace netvm::sync
