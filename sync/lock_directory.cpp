#include "sync/lock_directory.hpp"

#include <algorithm>
#include <bit>

#include "runtime/check.hpp"
#include "runtime/random.hpp"

namespace netvm::sync {

namespace {
constexpr std::uint64_t kSlotBytes = 16;
constexpr std::uint64_t kTailInSlot = 8;
}  // namespace

LockDirectory::LockDirectory(const SyncConfig& config, nic::Nic& nic) : config_(config), nic_(nic), dead_(nic.nodes(), false) {
  NETVM_CHECK(config.tables.size() == nic.nodes(), "%zu lock tables for %u nodes", config.tables.size(), nic.nodes());
  NETVM_CHECK(std::has_single_bit(config.table_slots) && config.table_slots < UINT32_MAX,
              "a lock table of %llu slots; it must be a power of two, and less than 2^32",
              static_cast<unsigned long long>(config.table_slots));
  for (const nic::RemoteRegion& table : config.tables) {
    NETVM_CHECK(table.length >= config.table_offset && table.length - config.table_offset >= config.table_slots * kSlotBytes,
                "node %u's region of %llu bytes is too small for a lock table of %llu slots", table.node.value,
                static_cast<unsigned long long>(table.length), static_cast<unsigned long long>(config.table_slots));
  }
}

NodeId LockDirectory::home_of(std::uint64_t offset) const {
  std::uint64_t hash = mix64(offset);
  while (dead_[hash % dead_.size()]) hash = mix64(hash);
  return NodeId{static_cast<std::uint32_t>(hash % dead_.size())};
}

bool LockDirectory::has_moved(std::uint64_t offset) const { return dead_[mix64(offset) % dead_.size()]; }

Status LockDirectory::read_tails(std::map<std::uint64_t, std::uint64_t>* tails) {
  constexpr std::uint64_t kSlotsAtOnce = 1024;
  std::vector<std::uint64_t> words;
  for (std::uint64_t first = 0; first < config_.table_slots; first += kSlotsAtOnce) {
    words.resize(2 * std::min(kSlotsAtOnce, config_.table_slots - first));
    const Status status = nic_.read(config_.tables[nic_.node().value], config_.table_offset + first * kSlotBytes, words.data(),
                                    words.size() * sizeof(words[0]));
    if (!ok(status)) return status;
    for (std::size_t i = 0; i < words.size(); i += 2) {
      if (words[i] != 0 && words[i + 1] != 0) (*tails)[words[i] - 1] = words[i + 1];
    }
  }
  return Status::ok;
}

Status LockDirectory::write_tail(std::uint64_t offset, std::uint64_t tail) {
  const Result<LockSlot> slot = find(offset);
  if (!slot) return slot.status();
  return nic_.atomic(config_.tables[slot->home.value], tail_at(*slot), {.op = nic::AtomicOp::swap, .operand = tail}).status();
}

Result<LockSlot> LockDirectory::find(std::uint64_t offset) {
  const NodeId home = home_of(offset);
  const std::uint64_t key = offset + 1;
  const std::uint64_t start = mix64(key);  // not of the same number as home_of(): else all of a home's keys would share low bits
  for (std::uint64_t probe = 0; probe < config_.table_slots; ++probe) {
    const std::uint64_t place = (start + probe) & (config_.table_slots - 1);
    const std::uint64_t at = config_.table_offset + place * kSlotBytes;
    const Result<std::uint64_t> old =
        nic_.atomic(config_.tables[home.value], at, {.op = nic::AtomicOp::compare_swap, .operand = key, .compare = 0});
    if (!old) return old.status();
    if (*old == 0 || *old == key) return LockSlot{home, static_cast<std::uint32_t>(place + 1)};
  }
  return Status::exhausted;
}

std::uint64_t LockDirectory::tail_at(const LockSlot& slot) const {
  return config_.table_offset + (slot.number - 1) * kSlotBytes + kTailInSlot;
}

Result<std::uint64_t> LockDirectory::swap_tail(const LockSlot& slot) {
  return nic_.atomic(config_.tables[slot.home.value], tail_at(slot), {.op = nic::AtomicOp::swap, .operand = nic_.node().value + 1});
}

Result<std::uint64_t> LockDirectory::compare_swap_tail(const LockSlot& slot, std::uint64_t expected) {
  return nic_.atomic(config_.tables[slot.home.value], tail_at(slot),
                     {.op = nic::AtomicOp::compare_swap, .operand = nic_.node().value + 1, .compare = expected});
}

}  // namespace netvm::sync
