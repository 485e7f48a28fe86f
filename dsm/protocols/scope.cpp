// Wire. Request: epoch, version seen in it. Grant: epoch, version, newest early version, then groups: twice the version and 1 if it is early, bytes of its pages,
// its pages (interval_log.hpp). All integers are varints.
#include "dsm/protocols/scope.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "dsm/interval_log.hpp"
#include "dsm/protocols/lock_payloads.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

// What is not early a barrier has told.
void Scope::Notices::pass() {
  version = std::exchange(early_version, 0);
  pages = std::exchange(early, {});
}

Scope::Notices& Scope::notices_of(SyncId lock) { return notices_.try_emplace(lock, Notices{.since = at_epoch_}).first->second; }

void Scope::note_own(const std::vector<PageId>& written) {
  if (written.empty()) return;
  ++flushes_;
  for (const PageId page : written) own_.note(page, flushes_);
}

// ---- locks -----------------------------------------------------------------------------------------------------------------------

void Scope::on_release(SyncId object) {
  const std::scoped_lock guard(interval_lock());
  const std::vector<PageId> written = flush();
  note_own(written);
  const std::scoped_lock log_guard(log_lock_);
  Notices& notices = notices_of(object);
  const std::uint64_t since = tells_flushed_elsewhere() ? notices.since : std::max(notices.since, flushes_ - (written.empty() ? 0 : 1));
  notices.since = flushes_;
  const std::uint64_t version = notices.version + 1;
  own_.each_after(since, [&](std::uint64_t flush, const std::vector<PageId>& pages) {
    const bool early = arrived_ && flush > told_;
    note(notices, pages, version, early);
    notices.version = version;
    if (early) notices.early_version = version;
  });
}

void Scope::note(Notices& notices, const std::vector<PageId>& pages, std::uint64_t version, bool early) {
  PageVersions& of = early ? notices.early : notices.pages;
  std::uint64_t& count = early ? early_pages_ : noted_pages_;
  count -= of.size();
  for (const PageId page : pages) of.note(page, version);
  count += of.size();
}

void Scope::append_acquire_request(SyncId object, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  const Notices& notices = notices_of(object);
  put_varint(out, epoch());
  put_varint(out, notices.version);
}

void Scope::append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  SeenVersion theirs;
  NETVM_CHECK(decode_seen_version(request, &theirs), "node %u asks for a lock with a malformed version of its scope", acquirer.value);
  const std::scoped_lock guard(log_lock_);
  const Notices& notices = notices_of(object);
  put_varint(out, epoch());
  put_varint(out, notices.version);
  put_varint(out, notices.early_version);
  const std::uint64_t seen = theirs.epoch == epoch() ? theirs.version : 0;
  std::uint64_t count = 0;
  const auto append = [&](const PageVersions& of, std::uint64_t early) {
    of.each_after(seen, [&](std::uint64_t version, const std::vector<PageId>& pages) {
      Bytes encoded;
      encode_pages(pages, encoded);
      put_varint(out, version * 2 + early);
      put_varint(out, encoded.size());
      out.insert(out.end(), encoded.begin(), encoded.end());
      count += pages.size();
    });
  };
  append(notices.pages, 0);
  append(notices.early, 1);
  env().count(Stat::notices_sent, count);
}

void Scope::on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) {
  ScopeGrant grant;
  NETVM_CHECK(decode_scope_grant(payload, env().table().range(), &grant), "malformed write notices came with a lock from node %u",
              granter.value);
  await_epoch(grant.epoch);
  const std::scoped_lock guard(interval_lock());
  if (grant.epoch > epoch()) {
    NETVM_CHECK(grant.epoch == epoch() + 1, "node %u is %llu barriers ahead", granter.value,
                static_cast<unsigned long long>(grant.epoch - epoch()));
    const std::scoped_lock log_guard(log_lock_);
    begin_epoch();
    ahead_ = true;
  }
  // What is early is of the epoch after the grant's. The barriers that have ended here have told what is older.
  std::erase_if(grant.groups, [&](const ScopeGrant::Group& group) { return grant.epoch + (group.early ? 1 : 0) < barriers_.epoch(); });
  std::vector<PageRange> ranges;
  for (const ScopeGrant::Group& group : grant.groups) ranges.insert(ranges.end(), group.pages.begin(), group.pages.end());
  invalidate(ranges);
  if (grant.epoch < epoch()) {
    std::erase_if(grant.groups, [](ScopeGrant::Group& group) { return !std::exchange(group.early, false); });
    grant.version = std::exchange(grant.early_version, 0);
  }
  const std::scoped_lock log_guard(log_lock_);
  Notices& notices = notices_of(object);
  if (!object.is_object()) notices.since = flushes_;
  notices.version = std::max(notices.version, grant.version);
  notices.early_version = std::max(notices.early_version, grant.early_version);
  for (const PageRange& range : ranges) env().count(Stat::notices_received, range.count);
  if (!passes_on()) return;
  std::vector<PageId> pages;
  for (const ScopeGrant::Group& group : grant.groups) {
    pages.clear();
    for (const PageRange& range : group.pages) {
      for (std::uint64_t p = range.first.value; p != range.end(); ++p) pages.push_back(PageId{p});
    }
    note(notices, pages, group.version, group.early);
  }
}

// Whoever has left has seen everybody arrive: what ends the barrier here is on its way, and needs no lock. Unless a node has died that should pass it on; or this
// node had not met the protocol when it arrived (arrived_): then a thread that is to wait for the barrier's end may have run on to here.
void Scope::await_epoch(std::uint64_t epoch) {
  const auto reached = [&] {
    const bool left = left_.load(std::memory_order_acquire) >= epoch;  // acquire: partner is on_barrier_leave()'s release
    return left || !arrived_.load() || deaths_.load();
  };
  if (!reached()) env().wait_until(leaves_, reached, "leaving the barrier that a lock's last holder has left");
}

void Scope::on_death(NodeId) {
  deaths_.store(true);
  leaves_.announce(env().env());
}

std::uint64_t Scope::memory_bytes() {
  constexpr std::uint64_t kNode = 4 * sizeof(void*);  // of a tree, about
  constexpr std::uint64_t kPage = 2 * (kNode + sizeof(std::pair<std::uint64_t, PageId>));
  const std::scoped_lock guard(interval_lock());
  const std::scoped_lock log_guard(log_lock_);
  return (own_.size() + noted_pages_ + early_pages_) * kPage + notices_.size() * (kNode + sizeof(std::pair<const SyncId, Notices>));
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

void Scope::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  note_own(flush());
  std::vector<PageId> written = own_.pages();
  {
    const std::scoped_lock log_guard(log_lock_);
    take_early(written);
  }
  put_in_order(written);
  barriers_.encode(written, out);
  told_ = flushes_;
  arrived_ = true;
}

// What others wrote after they had arrived, and this node has heard of before: it happened before this barrier, which tells it now.
void Scope::take_early(std::vector<PageId>& pages) {
  if (early_pages_ == 0) return;
  for (auto& of : notices_) {
    Notices& notices = of.second;
    notices.early.each_after(0, [&](std::uint64_t version, const std::vector<PageId>& early) {
      note(notices, early, version, false);
      pages.insert(pages.end(), early.begin(), early.end());
    });
    notices.early.clear();
  }
  early_pages_ = 0;
}

void Scope::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) { BarrierNotices::merge(sum, other); }

void Scope::on_barrier_leave(std::span<const std::byte> sum) {
  const std::scoped_lock guard(interval_lock());
  invalidate(barriers_.decode(sum));
  const std::scoped_lock log_guard(log_lock_);
  if (!std::exchange(ahead_, false)) begin_epoch();
  barriers_.pass();
  // Not before: a lock that was unlocked before the barrier may be released for a node that has not come to it.
  if (flushes_ == told_) own_.clear();
  left_.store(barriers_.epoch(), std::memory_order_release);  // release: partner is await_epoch()'s look
  leaves_.announce(env().env());
}

void Scope::begin_epoch() {
  arrived_ = false;
  at_epoch_ = told_;
  std::erase_if(notices_, [](const auto& of) { return of.second.early_version == 0; });
  for (auto& [lock, notices] : notices_) {
    notices.pass();
    notices.since = std::max(notices.since, at_epoch_);
  }
  noted_pages_ = std::exchange(early_pages_, 0);
}

}  // namespace netvm::dsm
