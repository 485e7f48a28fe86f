#include "sync/recovery_plan.hpp"

#include <algorithm>

namespace netvm::sync {

namespace {

/// One lock, as all survivors together know it.
struct Lock {
  std::vector<NodeId> known_to;            // but those who know already that it is lost
  std::map<NodeId, NodeId> queued_behind;  // node -> its predecessor
  std::optional<NodeId> holder;
  std::uint64_t epoch = 0;
  std::uint64_t holder_epoch = 0;
  std::uint64_t lost_epoch = 0;  // of those who know it as lost
  bool lost = false;
  bool used = false;
};

/// The queued nodes: behind the holder first, then each run whose first was behind a node that died. Several may name one predecessor: those who asked it in a
/// life of the lock that has ended, and have heard of the next one, but not of that end.
std::vector<NodeId> order_of(const Lock& lock) {
  std::multimap<NodeId, NodeId> behind;  // predecessor -> node
  for (const auto& [node, predecessor] : lock.queued_behind) behind.emplace(predecessor, node);
  std::vector<NodeId> order;
  const auto follow = [&](NodeId from) {
    for (auto next = behind.find(from); next != behind.end(); next = behind.find(from)) {
      from = next->second;
      behind.erase(next);
      order.push_back(from);
    }
  };
  follow(*lock.holder);
  while (!behind.empty()) {
    const auto starts_run = [&](const auto& link) { return !lock.queued_behind.contains(link.first); };
    const auto first = std::find_if(behind.begin(), behind.end(), starts_run);
    follow((first == behind.end() ? behind.begin() : first)->first);
  }
  return order;
}

}  // namespace

RecoveryPlan plan_recovery(const std::map<NodeId, std::vector<LockReport>>& reports, const std::map<std::uint64_t, std::uint64_t>& tails,
                           const std::function<bool(std::uint64_t)>& kept_before, std::uint32_t deaths) {
  RecoveryPlan plan;
  std::map<std::uint64_t, Lock> locks;
  for (const auto& [offset, tail] : tails) {
    locks[offset].used = true;
    if ((tail & kLostTail) == 0) continue;
    locks[offset].lost = true;
    locks[offset].epoch = locks[offset].lost_epoch = tail & ~kLostTail;
  }
  for (const auto& [node, said] : reports) {
    for (const LockReport& report : said) {
      Lock& lock = locks[report.offset];
      lock.epoch = std::max(lock.epoch, report.epoch);
      lock.used = lock.used || report.place != LockReport::Place::away;
      if (report.place == LockReport::Place::lost) {
        lock.lost = true;
        lock.lost_epoch = std::max(lock.lost_epoch, report.epoch);
        continue;
      }
      lock.known_to.push_back(node);
      if (report.place == LockReport::Place::queued) lock.queued_behind[node] = report.predecessor;
      if (report.place != LockReport::Place::here) continue;
      if (lock.holder) plan.conflict = report.offset;
      lock.holder = node;
      lock.holder_epoch = report.epoch;
    }
  }
  for (const auto& [offset, lock] : locks) {
    if (!lock.used && kept_before(offset)) continue;
    const bool recovered = lock.holder && lock.holder_epoch > lock.lost_epoch;  // some have not heard of it
    if (!lock.holder || (lock.lost && !recovered)) {
      const std::uint64_t epoch = lock.lost ? lock.epoch : std::max(lock.epoch + kLostEpochs, deaths * kLostEpochs);
      plan.tails[offset] = kLostTail | epoch;
      for (const NodeId node : lock.known_to) plan.verdicts[node].push_back({offset, epoch, {}, LockVerdict::Fate::lost});
      continue;
    }
    NodeId last = *lock.holder;
    for (const NodeId node : order_of(lock)) {
      plan.verdicts[node].push_back({offset, 0, last, LockVerdict::Fate::ask});
      last = node;
    }
    plan.tails[offset] = last.value + 1;
  }
  return plan;
}

}  // namespace netvm::sync
