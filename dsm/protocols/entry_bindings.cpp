// Entry: which locks it knows, what is bound to them, and what is let go of when memory is freed.
#include <mutex>
#include <utility>

#include "dsm/protocols/entry.hpp"

namespace netvm::dsm {

Entry::Lock* Entry::find(SyncId object) {
  const auto at = locks_.find(object);
  if (at == locks_.end()) return nullptr;
  Lock& lock = at->second;
  for (const BoundRange& gone : lock.gone) lock.data.unbind(gone);
  lock.gone.clear();
  lock.begin(barriers_.epoch(), doubts_since_);
  return &lock;
}

void Entry::index(SyncId object, const BoundRange& range) {
  for (std::uint64_t page = range.offset / kPageSize; page <= (range.offset + range.bytes - 1) / kPageSize; ++page) {
    if (locks_of_[PageId{page}].insert(object).second) ++indexed_;
    PageEntry& entry = env().entry(PageId{page});
    if (entry.attached() && !env().owns(entry)) continue;
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

// Of a lock to which nothing is bound only the version counts, and that begins anew with the epoch unless something was early.
void Entry::drop_empty() {
  for (const SyncId object : std::exchange(shrunk_, {})) {
    const auto at = locks_.find(object);
    if (at == locks_.end()) continue;
    Lock& lock = *find(object);
    count_memory(lock);
    if (!lock.data.empty()) continue;
    if (lock.version != 0) {
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
         (indexed_ + unreleased_.size() + shrunk_.size()) * (kNode + sizeof(SyncId)) +
         ended_.size() * (kNode + sizeof(std::pair<SyncId, std::uint64_t>));
}

}  // namespace netvm::dsm
