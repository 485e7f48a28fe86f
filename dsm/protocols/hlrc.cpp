#include "dsm/protocols/hlrc.hpp"

#include <mutex>

#include "runtime/check.hpp"

namespace netvm::dsm {

// ---- release -------------------------------------------------------------------------------------------------------------------

void Hlrc::on_release(SyncId) {
  const std::scoped_lock guard(interval_lock());
  close_interval();
}

void Hlrc::close_interval() {
  const std::vector<PageId> written = flush();
  const std::scoped_lock guard(log_lock_);
  log_.close(written);
}

// ---- acquire -------------------------------------------------------------------------------------------------------------------

void Hlrc::append_acquire_request(SyncId, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  log_.encode_clock(out);
}

void Hlrc::append_grant(SyncId, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  VectorClock theirs;
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.decode_clock(request, &theirs), "node %u asks for a lock with a malformed vector clock", acquirer.value);
  env().count(Stat::notices_sent, log_.encode_lacking(theirs, out));
}

void Hlrc::decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out) {
  NETVM_CHECK(decode_intervals(wire, env().nodes(), env().table().range(), out), "malformed write notices came with a %s", from);
}

void Hlrc::on_acquire(SyncId, NodeId, std::span<const std::byte> payload) {
  if (payload.empty()) return;
  std::vector<IntervalView> intervals;
  decode(payload, "lock", intervals);
  const std::scoped_lock guard(interval_lock());
  act_upon(intervals);
}

void Hlrc::act_upon(std::span<const IntervalView> intervals) {
  std::vector<PageRange> ranges;
  std::uint64_t fresh = 0;
  {
    const std::scoped_lock guard(log_lock_);
    for (const IntervalView& interval : intervals) {
      if (log_.covers(interval.node, interval.index)) continue;
      ++fresh;
      NETVM_CHECK(decode_pages(interval.pages, env().table().range(), ranges), "write notices changed under decoding");
    }
  }
  if (fresh == 0) return;
  env().count(Stat::notices_received, fresh);
  invalidate(ranges);
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.add(intervals), "write notices leave a gap: an interval was lost");
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

void Hlrc::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  close_interval();
  const std::scoped_lock log_guard(log_lock_);
  env().count(Stat::notices_sent, log_.encode_own_since_barrier(out));
}

void Hlrc::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) { merge_interval_sets(sum, other); }

void Hlrc::on_barrier_leave(std::span<const std::byte> sum) {
  std::vector<IntervalView> intervals;
  decode(sum, "barrier", intervals);
  const std::scoped_lock guard(interval_lock());
  act_upon(intervals);
  const std::scoped_lock log_guard(log_lock_);
  log_.pass_barrier(intervals);
}

}  // namespace netvm::dsm
