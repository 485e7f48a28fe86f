// Wire. Request: epoch, version seen in it; nothing from a node that knows of no binding. Grant: the same two, newest early version, then runs: distance of the
// offset from the end of the run before, bytes, serial number of the allocation less that of the run before, twice the version and 1 if it is early, the bytes.
// Barrier: lock_payloads.hpp. Integers are varints.
#include "dsm/protocols/entry.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>

#include "dsm/regions.hpp"
#include "nic/racy_copy.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

namespace {

void append_bound_barrier(const BoundBarrier& barrier, sync::Bytes& out) {
  put_varint(out, barrier.some_run_on ? 1 : 0);
  put_varint(out, barrier.told.size());
  for (const auto& [object, version] : barrier.told) {
    put_varint(out, std::rotl(object.offset, 1));
    put_varint(out, version);
  }
  out.insert(out.end(), barrier.notices.begin(), barrier.notices.end());
}

BoundBarrier bound_barrier(std::span<const std::byte> wire) {
  BoundBarrier barrier;
  NETVM_CHECK(decode_bound_barrier(wire, &barrier), "a malformed message of a barrier has come to entry");
  return barrier;
}

// Word by word: what racy_copy() has just stored comes out of the store buffer in pieces of that size, and not in larger ones.
bool same_block(const std::byte* a, const std::byte* b) {
  std::uint64_t different = 0;
  for (std::size_t i = 0; i < BoundData::kBlock; i += sizeof(std::uint64_t)) {
    std::uint64_t x;
    std::uint64_t y;
    std::memcpy(&x, a + i, sizeof x);
    std::memcpy(&y, b + i, sizeof y);
    different |= x ^ y;
  }
  return different == 0;
}

bool same_bytes(const std::byte* a, const std::byte* b, std::size_t bytes) {
  return bytes == BoundData::kBlock ? same_block(a, b) : std::memcmp(a, b, bytes) == 0;
}

// Serial numbers of allocations; blocks that are neighbours cost one look.
class Serials {
 public:
  explicit Serials(const ProtocolEnv& env) : env_(env) {}
  std::uint64_t of(const BoundRange& where) {
    const PageId page{where.offset / kPageSize};
    if (std::exchange(page_, page) != page) serial_ = env_.serial_of(page);
    return serial_;
  }
  /// Whether the memory that the run was sent for has not been freed since. With the page's lock or Entry's log_lock_ held it is not detached after this look,
  /// which would undo what follows.
  bool alive(const BoundRun& run) { return run.serial != 0 && of(run.where) == run.serial; }

 private:
  const ProtocolEnv& env_;
  PageId page_{UINT64_MAX};  // none
  std::uint64_t serial_ = 0;
};

}  // namespace

// Pieces of images on their way to the homes.
class Entry::Changes {
 public:
  explicit Changes(ProtocolEnv& env) : env_(env) {}
  /// Inside a page.
  void add(NodeId home, const BoundRange& where, const std::byte* from) {
    const std::uint64_t at = where.offset - env_.table().range().first.value * kPageSize;
    Batch& batch = to_[home];
    std::vector<nic::Segment>& segments = batch.segments;
    if (segments.size() == kMostSegments) post(home, batch);
    batch.bytes += where.bytes;
    if (!segments.empty() && at % kPageSize != 0) {
      nic::Segment& last = segments.back();
      if (last.offset + last.bytes == at && last.data + last.bytes == from) {
        last.bytes += static_cast<std::uint32_t>(where.bytes);
        return;
      }
    }
    segments.push_back({at, from, static_cast<std::uint32_t>(where.bytes)});
  }
  /// Blocks until all of them are placed.
  void finish() {
    for (auto& [home, batch] : to_) {
      if (!batch.segments.empty()) post(home, batch);
    }
    for (Posted& posted : posted_) env_.wait(posted.done, "writing bound data to their home", posted.home);
  }

 private:
  static constexpr std::size_t kMostSegments = 1024;  // the list stays in the first cache
  struct Batch {
    std::vector<nic::Segment> segments;
    std::uint64_t bytes = 0;
  };
  struct Posted {
    NodeId home{};
    nic::Completion done;
  };
  void post(NodeId home, Batch& batch) {
    posted_.emplace_back().home = home;
    env_.post_segments(home, batch.segments, std::exchange(batch.bytes, 0), &posted_.back().done);
    batch.segments.clear();
  }

  ProtocolEnv& env_;
  std::map<NodeId, Batch> to_;
  std::deque<Posted> posted_;
};

// What changed in an epoch that is over came with its barrier.
void Entry::Lock::begin(std::uint64_t next, std::uint64_t doubts_since) {
  if (epoch >= next) return;
  if (next == epoch + 1) {
    data.pass();
    version = std::exchange(early_version, 0);
    std::erase_if(unversioned, [](const auto& block) { return !block.second.early; });
    for (auto& [offset, block] : unversioned) block.early = false;
  } else {
    data.forget();
    version = 0;
    early_version = 0;
    unversioned.clear();
  }
  ahead = false;
  epoch = next;
  std::erase_if(doubtful,
                [&](const auto& doubt) { return doubt.second < doubts_since; });  // who wrote such a page has told so at a barrier
}

// ---- locks -----------------------------------------------------------------------------------------------------------------------

void Entry::before_unlock(SyncId object) {
  const std::scoped_lock guard(log_lock_);
  if (locks_.contains(object)) unreleased_.insert(object);
}

void Entry::on_release(SyncId object) {
  const std::scoped_lock guard(interval_lock());
  release(object);
}

void Entry::release(SyncId object) {
  Lock* lock = nullptr;
  {
    const std::scoped_lock log_guard(log_lock_);
    unreleased_.erase(object);
    lock = find(object);
  }
  if (lock == nullptr) return;
  Changes changes(env());
  const std::uint64_t version = lock->version + 1;
  add_unversioned(*lock, version);
  for (const BoundData::Piece& piece : lock->data.pieces()) collect(*lock, piece, version, changes);
  if (lock->data.any_changed_after(lock->version)) {
    lock->version = version;
    if (arrived_) lock->early_version = version;
  }
  changes.finish();
}

// The homes have it since the flush.
void Entry::add_unversioned(Lock& lock, std::uint64_t version) {
  std::map<std::uint64_t, Unversioned> blocks;
  {
    const std::scoped_lock log_guard(log_lock_);
    blocks.swap(lock.unversioned);
  }
  for (auto& kept : blocks) {
    const std::uint64_t offset = kept.first;
    Unversioned& block = kept.second;
    const PageId page = env().unit(PageId{offset / kPageSize}).first;
    PageEntry& entry = env().entry(page);
    const PageGuard guard(env().env(), entry);
    if (!env().owns(entry)) continue;
    if (entry.home() == env().node()) {
      const FramePins pins = env().pin({page, 1}, false);
      nic::racy_copy(block.bytes.data(), env().frame(page) + (offset - page.value * kPageSize), block.where.bytes);
    } else {  // of bytes beside the changed ones what came with the lock may be newer
      lock.data.each_block_in(block.where, [&](std::uint32_t known) {
        if (lock.data.version(known) == 0 || lock.data.place(known) != block.where) return;
        for (std::size_t b = 0; b < block.where.bytes; ++b) {
          if ((block.changed >> b & 1) == 0) block.bytes[b] = lock.data.image(known)[b];
        }
      });
    }
    lock.data.note(block.where, block.bytes.data(), version, block.early);
  }
}

// What this node has changed of the piece. The holder alone writes it, so it stands still, whatever happens to the rest of the page; unless the program
// uses it without the lock between two barriers, which it may: then a thread of this node may be writing it now. So each byte is looked at once: what is
// sent, kept and taken for known is the same, and what is written after the look is found by the next one.
void Entry::collect(Lock& lock, const BoundData::Piece& piece, std::uint64_t version, Changes& changes) {
  const PageId page = env().unit(piece.page).first;
  PageEntry& entry = env().entry(page);
  const PageGuard guard(env().env(), entry);
  if (!env().owns(entry) || entry.access() != Access::write) return;
  const FramePins pins = env().pin({page, 1}, false);
  const std::uint64_t base = page.value * kPageSize;
  const bool sends = entry.home() != env().node();
  std::uint64_t changed = 0;
  lock.data.each_block_of(piece, [&](std::uint32_t block, const BoundRange& where) {
    std::array<std::byte, BoundData::kBlock> looked_at;
    const std::byte* const now = looked_at.data();
    nic::racy_copy(looked_at.data(), env().frame(page) + (where.offset - base), where.bytes);
    std::byte* before = entry.twin + (where.offset - base);
    if (same_bytes(now, before, where.bytes)) return;
    nic::racy_copy(lock.data.image(block), now, where.bytes);
    lock.data.set_version(block, version, arrived_);
    if (settles_twins()) nic::racy_copy(before, now, where.bytes);
    if (!sends) return;
    changes.add(entry.home(), where, lock.data.image(block));
    changed += where.bytes;
  });
  if (changed == 0) return;
  env().count(page, Stat::diff_bytes, changed);
  env().count(page, Stat::data_bytes, changed);
}

void Entry::append_acquire_request(SyncId object, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  const Lock* lock = find(object);
  if (lock == nullptr) return;
  put_varint(out, lock->epoch);
  put_varint(out, lock->version);
}

void Entry::append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  SeenVersion theirs;
  NETVM_CHECK(decode_seen_version(request, &theirs), "node %u asks for a lock with a malformed version of its data", acquirer.value);
  const std::scoped_lock guard(log_lock_);
  Lock* lock = find(object);
  if (lock == nullptr) return;
  put_varint(out, lock->epoch);
  put_varint(out, lock->version);
  put_varint(out, lock->early_version);
  std::uint64_t end = 0;
  std::uint64_t serial = 0;
  Serials serials(env());
  std::uint64_t count = 0;
  for (const std::uint32_t block : lock->data.changed_after(theirs.epoch == lock->epoch ? theirs.version : 0)) {
    const bool early = lock->data.is_early(block);
    if (theirs.epoch > lock->epoch && !early) continue;
    const BoundRange where = lock->data.place(block);
    const std::uint64_t before = std::exchange(serial, serials.of(where));
    put_varint(out, where.offset - end);  // modulo 2^64, as the next but one: ranges may have been bound in any order
    put_varint(out, where.bytes);
    put_varint(out, serial - before);
    put_varint(out, lock->data.version(block) * 2 + (early ? 1 : 0));
    out.insert(out.end(), lock->data.image(block), lock->data.image(block) + where.bytes);
    end = where.offset + where.bytes;
    env().count_carried(PageId{where.offset / kPageSize}, where.bytes);
    ++count;
  }
  env().count(Stat::notices_sent, count);
}

void Entry::on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) {
  BoundGrant grant;
  NETVM_CHECK(decode_bound_grant(payload, env().table().range(), &grant), "malformed bound data came with a lock from node %u",
              granter.value);
  Serials known(env());
  for (const BoundRun& run : grant.runs) {
    if (known.of(run.where) == 0) (void)env().parts().extents.meet(PageId{run.where.offset / kPageSize});
  }
  await_epoch(grant.epoch);
  const std::scoped_lock guard(interval_lock());
  const bool ahead = grant.epoch > barriers_.epoch();
  if (ahead) {  // all of it is of the next epoch
    for (BoundRun& run : grant.runs) run.early = true;
    grant.early_version = grant.version;
  }
  if (grant.epoch < barriers_.epoch()) {  // what the barrier brought is newer, but for what was early
    const bool just_over = grant.epoch + 1 == barriers_.epoch();
    const auto told = ended_.find(object);
    const std::uint64_t ended = told == ended_.end() ? 0 : told->second;
    std::erase_if(grant.runs, [&](BoundRun& run) { return !std::exchange(run.early, false) || !just_over || run.version <= ended; });
    grant.version = just_over && grant.early_version > ended ? grant.early_version : 0;
    grant.early_version = 0;
  }
  Lock* lock = nullptr;
  std::map<PageId, std::uint64_t> doubtful;
  {
    const std::scoped_lock log_guard(log_lock_);
    locks_.try_emplace(object);
    lock = find(object);
    doubtful.swap(lock->doubtful);
    if (ahead) {  // versions of this epoch mean nothing in the next
      lock->data.forget();
      lock->version = 0;
      lock->early_version = 0;
      lock->ahead = true;
    }
  }
  std::erase_if(grant.runs, [&](const BoundRun& run) { return run.version <= lock->version; });  // invariant 8
  const bool keeps = object.is_object() && !grant.runs.empty() && (!lock->unversioned.empty() || !env().all_threads_wait());
  for (const BoundRun& run : grant.runs) patch(*lock, run, keeps);
  for (const auto& [page, since] : doubtful) read_again(lock->data, page);
  env().count(Stat::notices_received, grant.runs.size());
  const std::scoped_lock log_guard(log_lock_);
  lock->version = std::max(lock->version, grant.version);
  lock->early_version = std::max(lock->early_version, grant.early_version);
  if (!passes_on()) return;
  Serials now(env());
  std::erase_if(grant.runs, [&](const BoundRun& run) { return !now.alive(run); });
  for (const BoundRun& run : grant.runs) {
    lock->data.bind(run.where);  // bindings travel with the lock
    index(object, run.where);
  }
  std::ranges::stable_sort(grant.runs, {}, &BoundRun::version);  // as BoundData likes them
  for (const BoundRun& run : grant.runs) lock->data.note(run.where, run.bytes, run.version, run.early);
  if (std::ranges::any_of(grant.runs, &BoundRun::early)) told_early_.insert(object);
  count_memory(*lock);
}

// Whoever has left has seen everybody arrive: what ends the barrier here is on its way, and needs no lock. Unless this node had not met the protocol when it arrived
// (arrived_): then a thread that is to wait for the barrier's end may have run on to here.
void Entry::await_epoch(std::uint64_t epoch) {
  NETVM_CHECK(epoch <= left_.load() + 1, "a lock comes from more than one barrier ahead");
  const auto reached = [&] {
    const bool left = left_.load(std::memory_order_acquire) >= epoch;  // acquire: partner is on_barrier_leave()'s release
    return left || !arrived_.load();
  };
  if (!reached()) env().wait_until(leaves_, reached, "leaving the barrier that a lock's last holder has left");
}

// ---- copies that were fetched while somebody had a lock ---------------------------------------------------------------------------

void Entry::fetch(PageId page, PageEntry& entry) {
  note_fetched(env().unit(page));
  HomeBased::fetch(page, entry);
}

void Entry::fetch_run(std::span<const PageId> run, NodeId home) {
  for (const PageId page : run) note_fetched(env().unit(page));
  HomeBased::fetch_run(run, home);
}

void Entry::note_fetched(PageRange unit) {
  const std::scoped_lock guard(log_lock_);
  for (auto at = locks_of_.lower_bound(unit.first); at != locks_of_.end() && unit.contains(at->first); ++at) {
    for (const SyncId object : at->second) {
      Lock& lock = locks_[object];
      lock.begin(barriers_.epoch(), doubts_since_);
      lock.doubtful[unit.first] = lock.epoch;
    }
  }
}

// The holder changes what is bound to the lock no more, nor does anybody else: the home's frame has it.
void Entry::read_again(const BoundData& data, PageId page) {
  PageEntry& entry = env().entry(page);
  const PageGuard guard(env().env(), entry);
  if (!env().owns(entry) || entry.access() == Access::none || entry.home() == env().node()) return;
  const PageRange unit = env().unit(page);
  const FramePins pins = env().pin(unit, true);
  // Of a reader-writer lock a thread of this node may be the writer already: it waits, and what it wrote stays.
  const Access right = entry.access();
  if (right == Access::write) env().set_access(page, Access::read);
  std::vector<std::byte> fresh;
  for (const BoundRange& range : data.ranges()) {
    const std::uint64_t first = std::max(range.offset, page.value * kPageSize);
    const std::uint64_t end = std::min(range.offset + range.bytes, unit.end() * kPageSize);
    if (first >= end) continue;
    const std::uint64_t into = first - page.value * kPageSize;
    fresh.resize(end - first);
    env().read_bytes(page, into, fresh);
    std::byte* const frame = env().frame(page) + into;
    for (std::size_t b = 0; b < fresh.size(); ++b) {
      if (frame[b] == fresh[b] || (entry.twin != nullptr && entry.twin[into + b] != frame[b])) continue;
      nic::racy_copy(frame + b, &fresh[b], 1);
      if (entry.twin != nullptr) entry.twin[into + b] = fresh[b];
    }
  }
  if (right == Access::write) env().set_access(page, Access::write);
}

void Entry::patch(const Lock& lock, const BoundRun& run, bool keeps) {
  const PageId page = env().unit(PageId{run.where.offset / kPageSize}).first;
  PageEntry& entry = env().entry(page);
  const PageGuard guard(env().env(), entry);
  if (!env().owns(entry) || entry.access() == Access::none || !Serials(env()).alive(run)) return;
  const std::uint64_t into = run.where.offset - page.value * kPageSize;
  const bool has_twin = entry.twin != nullptr && patches_twins();
  if (keeps) {
    const FramePins pins = env().pin({page, 1}, true);
    const Access right = entry.access();
    if (right == Access::write) env().set_access(page, Access::read);  // the writer waits
    const auto own = lock.unversioned.find(run.where.offset);
    const std::uint64_t changed = own == lock.unversioned.end() ? 0 : own->second.changed;
    std::byte* const frame = env().frame(page) + into;
    for (std::size_t b = 0; b < run.where.bytes; ++b) {
      if ((changed >> b & 1) != 0) continue;
      const bool written = entry.twin != nullptr && entry.twin[into + b] != frame[b];
      if (!written && entry.home() != env().node()) nic::racy_copy(frame + b, run.bytes + b, 1);
      if (has_twin) entry.twin[into + b] = run.bytes[b];
    }
    if (right == Access::write) env().set_access(page, Access::write);
    return;
  }
  const bool at_home = entry.home() == env().node();
  const FramePins pins = env().pin({page, 1}, true);
  std::byte* const frame = env().frame(page) + into;
  if (!has_twin) {
    if (!at_home) nic::racy_copy(frame, run.bytes, run.where.bytes);
    return;
  }
  // A thread of this node may be writing what is bound to the lock without it, as it may between two barriers (invariant 12). Nobody else changes those bytes
  // then, so they come as they are known: not a store may touch them.
  std::byte* const known = entry.twin + into;
  for (std::size_t b = 0; b < run.where.bytes; ++b) {
    if (known[b] == run.bytes[b]) continue;
    if (!at_home) nic::racy_copy(frame + b, run.bytes + b, 1);
    known[b] = run.bytes[b];
  }
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

void Entry::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  if (sees_to_locks_before_flushes()) {
    std::set<SyncId> due;
    {
      const std::scoped_lock log_guard(log_lock_);
      due.swap(unreleased_);
    }
    for (const SyncId object : due) release(object);
  }
  std::vector<PageId> written = flush();
  BoundBarrier mine;
  take_early(written, mine);
  arrived_ = true;
  mine.some_run_on = others_run();
  append_bound_barrier(mine, out);
  barriers_.encode(written, out);
}

// What others wrote after they had arrived, and this node has heard of before: it happened before this barrier, which tells it now.
void Entry::take_early(std::vector<PageId>& pages, BoundBarrier& told) {
  if (told_early_.empty()) return;
  const std::scoped_lock guard(log_lock_);
  for (const SyncId object : std::exchange(told_early_, {})) {
    Lock* const lock = find(object);
    if (lock == nullptr || lock->early_version == 0) continue;
    told.told.emplace(object, lock->version);
    for (const BoundRange& range : lock->data.end_early()) {
      const PageId page{range.offset / kPageSize};
      // A notice names a unit by its head, and this node has perhaps never touched it: then only the allocation says where it begins.
      if (const auto known = env().parts().regions.find(page)) pages.push_back(known->extent.head_of(page));
    }
  }
  put_in_order(pages);
}

// As many know of a lock's versions up to one as had it before: all must forget the same.
void Entry::end_early(const BoundBarrier& sum) {
  for (const auto& [object, version] : sum.told) {
    Lock* const lock = find(object);
    if (lock == nullptr || lock->ahead) continue;
    (void)lock->data.end_early(version);
    if (lock->early_version <= version) lock->early_version = 0;
  }
}

// Whether a thread that is not in the barrier may have written what its lock has not told. One that is gone has unlocked before.
bool Entry::others_run() {
  {
    const std::scoped_lock guard(log_lock_);
    if (locks_.empty()) return false;
  }
  if (!env().all_threads_wait()) return true;
  const std::scoped_lock guard(log_lock_);
  return !unreleased_.empty();
}

void Entry::before_flushed(std::span<const PageId> dirty) {
  if (dirty.empty() || !sees_to_locks_before_flushes() || !others_run()) return;
  for (const PageId page : dirty) {
    std::vector<std::pair<SyncId, BoundRange>> blocks;
    const PageRange unit = env().unit(page);
    {
      const std::scoped_lock guard(log_lock_);
      for (auto at = locks_of_.lower_bound(unit.first); at != locks_of_.end() && unit.contains(at->first); ++at) {
        for (const SyncId object : at->second) {
          const Lock* const lock = find(object);
          if (lock == nullptr) continue;
          lock->data.each_block_in({at->first.value * kPageSize, kPageSize},
                                   [&](std::uint32_t block) { blocks.emplace_back(object, lock->data.place(block)); });
        }
      }
    }
    const PageEntry& entry = env().entry(page);
    if (blocks.empty() || entry.twin == nullptr) continue;
    const FramePins pins = env().pin({page, 1}, false);
    for (const auto& [object, where] : blocks) {
      Unversioned now{where, arrived_, 0, {}};
      const std::byte* const before = entry.twin + (where.offset - page.value * kPageSize);
      nic::racy_copy(now.bytes.data(), env().frame(page) + (where.offset - page.value * kPageSize), where.bytes);
      if (same_bytes(now.bytes.data(), before, where.bytes)) continue;
      for (std::size_t b = 0; b < where.bytes; ++b) now.changed |= std::uint64_t{now.bytes[b] != before[b]} << b;
      const std::scoped_lock guard(log_lock_);
      Unversioned& kept = find(object)->unversioned[where.offset];
      now.changed |= kept.changed;
      kept = now;
    }
  }
}

void Entry::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) {
  BoundBarrier both = bound_barrier(sum);
  const BoundBarrier theirs = bound_barrier(other);
  both.some_run_on = both.some_run_on || theirs.some_run_on;
  for (const auto& [object, version] : theirs.told) {
    std::uint64_t& told = both.told[object];
    told = std::max(told, version);
  }
  Bytes notices(both.notices.begin(), both.notices.end());
  BarrierNotices::merge(notices, theirs.notices);
  both.notices = notices;
  Bytes merged;
  append_bound_barrier(both, merged);
  sum = std::move(merged);
}

void Entry::on_barrier_leave(std::span<const std::byte> sum) {
  BoundBarrier all = bound_barrier(sum);
  const std::scoped_lock guard(interval_lock());
  invalidate(barriers_.decode(all.notices));
  const std::scoped_lock log_guard(log_lock_);
  end_early(all);
  ended_ = std::move(all.told);
  doubts_since_ = barriers_.epoch() + (all.some_run_on ? 0 : 1);
  barriers_.pass();
  arrived_ = false;
  drop_empty();
  left_.store(barriers_.epoch(), std::memory_order_release);  // release: partner is await_epoch()'s look
  leaves_.announce(env().env());
}

}  // namespace netvm::dsm
