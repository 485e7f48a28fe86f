#include "sync/lock_directory.hpp"

#include <algorithm>
#include <bit>
#include <mutex>

#include "runtime/check.hpp"
#include "runtime/random.hpp"
#include "sync/recovery_plan.hpp"

namespace netvm::sync {

namespace {
constexpr std::uint64_t kSlotBytes = 16;
constexpr std::uint64_t kTailInSlot = 8;
}  // namespace

Result<std::uint64_t> outcome_of(const nic::Completion& atomic) {
  if (!ok(atomic.status())) return atomic.status();
  return atomic.old_value();
}

LockDirectory::LockDirectory(const SyncConfig& config, nic::Nic& nic)
    : config_(config), nic_(nic), dead_(nic.nodes(), false), rules_(nic.nodes()) {
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

NodeId LockDirectory::hashed_home_of(std::uint64_t offset) const {
  return NodeId{static_cast<std::uint32_t>(mix64(offset) % dead_.size())};
}

NodeId LockDirectory::first_home_of(std::uint64_t offset) const {
  const std::optional<NodeId> chosen = rules_.home_of(SyncId{offset}.address());
  return chosen ? *chosen : hashed_home_of(offset);
}

NodeId LockDirectory::living(NodeId home, std::uint64_t offset) const {
  std::uint64_t hash = offset;
  while (dead_[home.value]) {
    hash = mix64(hash);
    home = NodeId{static_cast<std::uint32_t>(hash % dead_.size())};
  }
  return home;
}

bool LockDirectory::has_moved(std::uint64_t offset) const { return dead_[first_home_of(offset).value]; }

Status LockDirectory::read_tails(std::map<std::uint64_t, std::uint64_t>* tails) {
  constexpr std::uint64_t kSlotsAtOnce = 1024;
  std::vector<std::uint64_t> words;
  for (std::uint64_t first = 0; first < config_.table_slots; first += kSlotsAtOnce) {
    words.resize(2 * std::min(kSlotsAtOnce, config_.table_slots - first));
    const Status status = nic_.read(config_.tables[nic_.node().value], config_.table_offset + first * kSlotBytes, words.data(),
                                    words.size() * sizeof(words[0]));
    if (!ok(status)) return status;
    for (std::size_t i = 0; i < words.size(); i += 2) {
      if (words[i] == 0 || words[i + 1] == 0) continue;
      const std::uint64_t offset = words[i] - 1;
      if ((offset & (SyncId::kObjectBit | kPageBit)) == kPageBit) continue;
      if (home_of(offset) == nic_.node()) (*tails)[offset] = words[i + 1];
    }
  }
  return Status::ok;
}

Status LockDirectory::write_tail(std::uint64_t offset, std::uint64_t tail) {
  const Result<LockSlot> slot = find(offset);
  return slot ? write_tail(*slot, tail) : slot.status();
}

Status LockDirectory::write_tail_under(const MemoryRange& memory, const HomeRule& rule, std::uint64_t offset, std::uint64_t tail) {
  const std::uint64_t at = SyncId{offset}.address();
  const bool chosen = rule.kind != HomeRule::Kind::by_hash;
  const NodeId home = chosen ? rule.home_of(memory, at, static_cast<std::uint32_t>(dead_.size())) : hashed_home_of(offset);
  const Result<LockSlot> slot = probe(offset, living(home, offset), true, nullptr);
  return slot ? write_tail(*slot, tail) : slot.status();
}

Status LockDirectory::write_tail(const LockSlot& slot, std::uint64_t tail) {
  return nic_.atomic(config_.tables[slot.home.value], tail_at(slot), {.op = nic::AtomicOp::swap, .operand = tail}).status();
}

Result<std::uint64_t> LockDirectory::ask(NodeId home, std::uint64_t at, const nic::AtomicArgs& args, Patience* patience) {
  if (patience == nullptr) return nic_.atomic(config_.tables[home.value], at, args);
  const auto answer = std::make_shared<nic::Completion>();
  nic_.post_atomic(config_.tables[home.value], at, args, answer.get());
  const Status status = nic_.wait(*answer, patience->deadline);
  if (answer->done()) return outcome_of(*answer);
  if (status == Status::timeout) patience->late = answer;
  return status;
}

// One compare_swap a place does either: it claims an empty place if it compares with 0, and only looks if it compares with what it would write.
Result<LockSlot> LockDirectory::probe(std::uint64_t offset, NodeId home, bool claims, Patience* patience) {
  const std::uint64_t key = offset + 1;
  const std::uint64_t start = mix64(key);  // not of the same number as home_of(): else all of a home's keys would share low bits
  for (std::uint64_t probed = 0; probed < config_.table_slots; ++probed) {
    const std::uint64_t place = (start + probed) & (config_.table_slots - 1);
    const std::uint64_t at = config_.table_offset + place * kSlotBytes;
    const nic::AtomicArgs args{.op = nic::AtomicOp::compare_swap, .operand = key, .compare = claims ? 0 : key};
    const Result<std::uint64_t> there = ask(home, at, args, patience);
    if (!there) return there.status();
    if (*there == key || (*there == 0 && claims)) return LockSlot{home, static_cast<std::uint32_t>(place + 1)};
    if (*there == 0) return LockSlot{home, 0};
  }
  if (claims) return Status::exhausted;
  return LockSlot{home, 0};
}

// ---- what was ever used ------------------------------------------------------------------------------------------------------

LockDirectory::UsedPage LockDirectory::used_page(std::uint64_t page) const {
  const std::lock_guard guard(used_guard_);
  const auto found = used_.find(page);
  return found == used_.end() ? UsedPage{} : found->second;
}

// Where the page's home is dead nobody marks, and was_used() says yes: what it knew is gone.
Status LockDirectory::mark_used(std::uint64_t offset, Patience* patience) {
  const std::uint64_t at = SyncId{offset}.address();
  const std::uint64_t page = at / kPageSize;
  const NodeId home = hashed_home_of(kPageBit | page);
  if (dead_.size() == 1 || dead_[home.value]) return Status::ok;
  const std::uint64_t bit = std::uint64_t{1} << (at % kPageSize / kLineBytes);
  const UsedPage known = used_page(page);
  if ((known.marked & bit) != 0) return Status::ok;
  LockSlot slot{home, known.slot};
  if (slot.number == 0) {
    const Result<LockSlot> found = probe(kPageBit | page, home, true, patience);
    if (!found) return found.status() == Status::peer_dead ? Status::ok : found.status();
    slot = *found;
  }
  const Status marked = ask(home, tail_at(slot), {.op = nic::AtomicOp::fetch_or, .operand = bit}, patience).status();
  if (!ok(marked)) return marked == Status::peer_dead ? Status::ok : marked;
  const std::lock_guard guard(used_guard_);
  used_[page].slot = slot.number;
  used_[page].marked |= bit;
  return Status::ok;
}

Result<bool> LockDirectory::was_used(const MemoryRange& memory) {
  const std::uint64_t last = (memory.offset + memory.bytes - 1) / kLineBytes;
  for (std::uint64_t line = memory.offset / kLineBytes; line <= last; line += 64 - line % 64) {
    const std::uint64_t page = line / 64;
    const std::uint64_t lines = std::min<std::uint64_t>(last - line + 1, 64 - line % 64);
    const std::uint64_t bits = (lines == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << lines) - 1) << line % 64;
    const NodeId home = hashed_home_of(kPageBit | page);
    if (dead_[home.value]) return true;
    const UsedPage known = used_page(page);
    if ((known.marked & bits) != 0) return true;
    LockSlot slot{home, known.slot};
    if (slot.number == 0) {
      const Result<LockSlot> found = probe(kPageBit | page, home, false, nullptr);
      if (!found && found.status() == Status::peer_dead) return true;
      if (!found) return found.status();
      if (found->number == 0) continue;
      slot = *found;
      const std::lock_guard guard(used_guard_);
      used_[page].slot = slot.number;
    }
    const Result<std::uint64_t> used =
        nic_.atomic(config_.tables[home.value], tail_at(slot), {.op = nic::AtomicOp::fetch_add, .operand = 0});
    if (!used && used.status() == Status::peer_dead) return true;
    if (!used) return used.status();
    if ((*used & bits) != 0) return true;
  }
  return false;
}

std::uint64_t LockDirectory::tail_at(const LockSlot& slot) const {
  return config_.table_offset + (slot.number - 1) * kSlotBytes + kTailInSlot;
}

Result<std::uint64_t> LockDirectory::swap_tail(const LockSlot& slot, Patience* patience) {
  return ask(slot.home, tail_at(slot),
             {.op = nic::AtomicOp::masked_cas, .operand = nic_.node().value + 1, .compare = 0, .compare_mask = kLostTail}, patience);
}

Result<std::uint64_t> LockDirectory::revive_tail(const LockSlot& slot) {
  return nic_.atomic(config_.tables[slot.home.value], tail_at(slot),
                     {.op = nic::AtomicOp::masked_cas, .operand = nic_.node().value + 1, .compare = kLostTail, .compare_mask = kLostTail});
}

Result<std::uint64_t> LockDirectory::compare_swap_tail(const LockSlot& slot, std::uint64_t expected, Patience* patience) {
  return ask(slot.home, tail_at(slot), {.op = nic::AtomicOp::compare_swap, .operand = nic_.node().value + 1, .compare = expected},
             patience);
}

}  // namespace netvm::sync
