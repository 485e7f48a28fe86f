// Wire. Request: epoch, version seen in it. Grant: epoch, version, then groups: version, bytes of its pages, its pages (interval_log.hpp). All integers are varints.
#include "dsm/protocols/scope.hpp"

#include <mutex>

#include "dsm/interval_log.hpp"
#include "dsm/protocols/lock_payloads.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

std::pair<Scope::Notices*, std::uint64_t> Scope::newest(SyncId lock) {
  if (const auto ahead = next_.find(lock); ahead != next_.end()) return {&ahead->second, barriers_.epoch() + 1};
  return {&now_.try_emplace(lock, Notices{0, at_epoch_, {}}).first->second, barriers_.epoch()};
}

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
  Notices& notices = *newest(object).first;
  const std::uint64_t since = tells_flushed_elsewhere() ? notices.since : std::max(notices.since, flushes_ - (written.empty() ? 0 : 1));
  notices.since = flushes_;
  std::uint64_t version = notices.version + 1;
  noted_pages_ -= notices.pages.size();
  own_.each_after(since, [&](std::uint64_t, const std::vector<PageId>& pages) {
    for (const PageId page : pages) notices.pages.note(page, version);
    notices.version = version;
  });
  noted_pages_ += notices.pages.size();
}

void Scope::append_acquire_request(SyncId object, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  const auto [notices, epoch] = newest(object);
  put_varint(out, epoch);
  put_varint(out, notices->version);
}

void Scope::append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  SeenVersion theirs;
  NETVM_CHECK(decode_seen_version(request, &theirs), "node %u asks for a lock with a malformed version of its scope", acquirer.value);
  const std::scoped_lock guard(log_lock_);
  const auto [notices, epoch] = newest(object);
  put_varint(out, epoch);
  put_varint(out, notices->version);
  const std::uint64_t seen = theirs.epoch == epoch ? theirs.version : 0;
  std::uint64_t count = 0;
  notices->pages.each_after(seen, [&](std::uint64_t version, const std::vector<PageId>& pages) {
    Bytes encoded;
    encode_pages(pages, encoded);
    put_varint(out, version);
    put_varint(out, encoded.size());
    out.insert(out.end(), encoded.begin(), encoded.end());
    count += pages.size();
  });
  env().count(Stat::notices_sent, count);
}

void Scope::on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) {
  ScopeGrant grant;
  NETVM_CHECK(decode_scope_grant(payload, env().table().range(), &grant), "malformed write notices came with a lock from node %u",
              granter.value);
  const std::scoped_lock guard(interval_lock());
  std::vector<PageRange> ranges;
  for (const ScopeGrant::Group& group : grant.groups) ranges.insert(ranges.end(), group.pages.begin(), group.pages.end());
  const std::uint64_t epoch = barriers_.epoch();
  if (grant.epoch >= epoch) invalidate(ranges);  // of an epoch that is over here, a barrier has told all
  const std::scoped_lock log_guard(log_lock_);
  NETVM_CHECK(grant.epoch <= epoch + 1, "node %u is %llu barriers ahead", granter.value,
              static_cast<unsigned long long>(grant.epoch - epoch));
  if (grant.epoch == epoch + 1) next_.try_emplace(object);
  Notices& notices = *newest(object).first;
  if (!object.is_object()) notices.since = flushes_;
  if (grant.epoch < epoch) return;
  notices.version = std::max(notices.version, grant.version);
  noted_pages_ -= notices.pages.size();
  for (const ScopeGrant::Group& group : grant.groups) {
    for (const PageRange& range : group.pages) {
      env().count(Stat::notices_received, range.count);
      if (!passes_on()) continue;
      for (std::uint64_t p = range.first.value; p != range.end(); ++p) notices.pages.note(PageId{p}, group.version);
    }
  }
  noted_pages_ += notices.pages.size();
}

std::uint64_t Scope::memory_bytes() {
  constexpr std::uint64_t kNode = 4 * sizeof(void*);  // of a tree, about
  constexpr std::uint64_t kPage = 2 * (kNode + sizeof(std::pair<std::uint64_t, PageId>));
  const std::scoped_lock guard(interval_lock());
  const std::scoped_lock log_guard(log_lock_);
  return (own_.size() + noted_pages_) * kPage + (now_.size() + next_.size()) * (kNode + sizeof(Scopes::value_type));
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

void Scope::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  note_own(flush());
  barriers_.encode(own_.pages(), out);
  told_ = flushes_;
}

void Scope::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) { BarrierNotices::merge(sum, other); }

void Scope::on_barrier_leave(std::span<const std::byte> sum) {
  const std::scoped_lock guard(interval_lock());
  invalidate(barriers_.decode(sum));
  const std::scoped_lock log_guard(log_lock_);
  now_ = std::exchange(next_, {});
  noted_pages_ = 0;
  for (const auto& [lock, notices] : now_) noted_pages_ += notices.pages.size();
  barriers_.pass();
  // Not before: a lock that was unlocked before the barrier may be released for a node that has not come to it.
  if (flushes_ == told_) own_.clear();
  at_epoch_ = told_;
}

}  // namespace netvm::dsm
