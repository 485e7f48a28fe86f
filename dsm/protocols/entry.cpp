// Wire. Request: epoch, version seen in it; nothing from a node that knows of no binding. Grant: the same two, then runs: distance of the offset from the end
// of the run before, bytes, version, the bytes. Integers are varints.
#include "dsm/protocols/entry.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <mutex>

#include "nic/racy_copy.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

namespace {

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
void Entry::Lock::begin(std::uint64_t next) {
  if (epoch >= next) return;
  data.forget();
  version = 0;
  epoch = next;
  doubtful.clear();  // who wrote a page has told so at the barrier
}

// ---- bindings --------------------------------------------------------------------------------------------------------------------

Entry::Lock* Entry::find(SyncId object) {
  const auto at = locks_.find(object);
  if (at == locks_.end()) return nullptr;
  Lock& lock = at->second;
  for (const BoundRange& gone : lock.gone) lock.data.unbind(gone);
  lock.gone.clear();
  lock.begin(barriers_.epoch());
  return &lock;
}

void Entry::index(SyncId object, const BoundRange& range) {
  for (std::uint64_t page = range.offset / kPageSize; page <= (range.offset + range.bytes - 1) / kPageSize; ++page) {
    if (locks_of_[PageId{page}].insert(object).second) ++indexed_;
    PageEntry& entry = env().entry(PageId{page});
    if (entry.attached() && entry.protocol() != env().protocol()) continue;
    entry.data = 1;  // on_detach() is to be told, even if this node never touches the page
  }
}

void Entry::bind(SyncId object, std::uint64_t offset, std::uint64_t bytes) {
  const std::scoped_lock guard(interval_lock());
  const std::scoped_lock log_guard(log_lock_);
  unbind_others(object, {offset, bytes});
  locks_.try_emplace(object);
  Lock& lock = *find(object);
  lock.data.bind({offset, bytes});
  index(object, {offset, bytes});
  count_memory(lock);
}

// Memory of small objects is handed out again without a word to other nodes: what it was bound to then must not carry it on.
void Entry::unbind_others(SyncId object, const BoundRange& range) {
  for (auto at = locks_of_.lower_bound(PageId{range.offset / kPageSize}); at != locks_of_.end(); ++at) {
    if (at->first.value * kPageSize >= range.offset + range.bytes) break;
    for (const SyncId other : at->second) {
      if (other == object || !locks_[other].data.overlaps(range)) continue;
      locks_[other].data.unbind(range);
      shrunk_.insert(other);
    }
  }
}

// The pages' locks are held, so interval_lock() may not be taken: who uses a lock next takes the ranges out.
void Entry::on_detach(PageRange pages) {
  HomeBased::on_detach(pages);
  const std::scoped_lock guard(log_lock_);
  for (auto at = locks_of_.lower_bound(pages.first); at != locks_of_.end() && pages.contains(at->first); at = locks_of_.erase(at)) {
    for (const SyncId object : at->second) {
      locks_[object].gone.push_back({at->first.value * kPageSize, kPageSize});
      shrunk_.insert(object);
    }
    indexed_ -= at->second.size();
  }
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) env().entry(PageId{p}).data = 0;
}

void Entry::count_memory(Lock& lock) {
  const std::uint64_t now = lock.data.memory_bytes();
  memory_ += now - lock.counted;
  lock.counted = now;
}

// Of a lock to which nothing is bound only the version counts, and that begins anew with the epoch.
void Entry::drop_empty() {
  for (const SyncId object : std::exchange(shrunk_, {})) {
    const auto at = locks_.find(object);
    if (at == locks_.end()) continue;
    const bool ahead = at->second.epoch >= barriers_.epoch();
    Lock& lock = *find(object);
    count_memory(lock);
    if (!lock.data.empty()) continue;
    if (ahead) {
      shrunk_.insert(object);
      continue;
    }
    memory_ -= lock.counted;
    locks_.erase(at);
  }
}

std::uint64_t Entry::memory_bytes() {
  constexpr std::uint64_t kNode = 4 * sizeof(void*);  // of a tree, about
  const std::scoped_lock guard(log_lock_);
  return memory_ + locks_.size() * (kNode + sizeof(SyncId) + sizeof(Lock)) +
         locks_of_.size() * (kNode + sizeof(PageId) + sizeof(std::set<SyncId>)) +
         (indexed_ + unreleased_.size() + shrunk_.size()) * (kNode + sizeof(SyncId));
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
  for (const BoundData::Piece& piece : lock->data.pieces()) collect(*lock, piece, lock->version + 1, changes);
  if (lock->data.any_changed_after(lock->version)) ++lock->version;
  changes.finish();
}

// What this node has changed of the piece. The holder alone writes it, so it stands still, whatever happens to the rest of the page; unless the program
// uses it without the lock between two barriers, which it may: then a thread of this node may be writing it now. So each byte is looked at once: what is
// sent, kept and taken for known is the same, and what is written after the look is found by the next one.
void Entry::collect(Lock& lock, const BoundData::Piece& piece, std::uint64_t version, Changes& changes) {
  const PageId page = env().unit(piece.page).first;
  PageEntry& entry = env().entry(page);
  const PageGuard guard(env().env(), entry);
  if (!entry.attached() || entry.protocol() != env().protocol() || entry.access() != Access::write) return;
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
    lock.data.set_version(block, version);
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
  std::uint64_t end = 0;
  std::uint64_t count = 0;
  for (const std::uint32_t block : lock->data.changed_after(theirs.epoch == lock->epoch ? theirs.version : 0)) {
    const BoundRange where = lock->data.place(block);
    put_varint(out, where.offset - end);  // modulo 2^64: ranges may have been bound in any order
    put_varint(out, where.bytes);
    put_varint(out, lock->data.version(block));
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
  const std::uint64_t epoch = grant.epoch;
  const std::scoped_lock guard(interval_lock());
  NETVM_CHECK(epoch <= barriers_.epoch() + 1, "node %u is more than one barrier ahead", granter.value);
  if (epoch < barriers_.epoch() || (epoch == barriers_.epoch() && arrived_)) return;  // what the barrier brings is newer
  Lock* lock = nullptr;
  std::set<PageId> doubtful;
  {
    const std::scoped_lock log_guard(log_lock_);
    locks_.try_emplace(object);
    lock = find(object);
    lock->begin(epoch);
    doubtful.swap(lock->doubtful);
    if (lock->epoch > epoch) return;  // one that has left the barrier has had it since
  }
  std::erase_if(grant.runs, [&](const BoundRun& run) { return run.version <= lock->version; });  // invariant 8
  for (const BoundRun& run : grant.runs) patch(run);
  for (const PageId page : doubtful) read_again(lock->data, page);
  env().count(Stat::notices_received, grant.runs.size());
  const std::scoped_lock log_guard(log_lock_);
  lock->version = std::max(lock->version, grant.version);
  if (!passes_on()) return;
  for (const BoundRun& run : grant.runs) {
    lock->data.bind(run.where);  // bindings travel with the lock
    index(object, run.where);
  }
  std::ranges::stable_sort(grant.runs, {}, &BoundRun::version);  // as BoundData likes them
  for (const BoundRun& run : grant.runs) lock->data.note(run.where, run.bytes, run.version);
  count_memory(*lock);
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
      lock.begin(barriers_.epoch());
      lock.doubtful.insert(unit.first);
    }
  }
}

// The holder changes what is bound to the lock no more, nor does anybody else: the home's frame has it.
void Entry::read_again(const BoundData& data, PageId page) {
  PageEntry& entry = env().entry(page);
  const PageGuard guard(env().env(), entry);
  const bool ours = entry.attached() && entry.protocol() == env().protocol();
  if (!ours || entry.access() == Access::none || entry.home() == env().node()) return;
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

void Entry::patch(const BoundRun& run) {
  const PageId page = env().unit(PageId{run.where.offset / kPageSize}).first;
  PageEntry& entry = env().entry(page);
  const PageGuard guard(env().env(), entry);
  const bool ours = entry.attached() && entry.protocol() == env().protocol();
  if (!ours || entry.access() == Access::none) return;
  const std::uint64_t into = run.where.offset - page.value * kPageSize;
  if (entry.home() != env().node()) {
    const FramePins pins = env().pin({page, 1}, true);
    nic::racy_copy(env().frame(page) + into, run.bytes, run.where.bytes);
  }
  if (entry.twin != nullptr && patches_twins()) std::memcpy(entry.twin + into, run.bytes, run.where.bytes);
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

void Entry::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  if (releases_before_barriers()) {
    std::set<SyncId> due;
    {
      const std::scoped_lock log_guard(log_lock_);
      due.swap(unreleased_);
    }
    for (const SyncId object : due) release(object);
  }
  barriers_.encode(flush(), out);
  arrived_ = true;
}

void Entry::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) { BarrierNotices::merge(sum, other); }

void Entry::on_barrier_leave(std::span<const std::byte> sum) {
  const std::scoped_lock guard(interval_lock());
  invalidate(barriers_.decode(sum));
  const std::scoped_lock log_guard(log_lock_);
  barriers_.pass();
  arrived_ = false;
  drop_empty();
}

}  // namespace netvm::dsm
