#include "dsm/protocols/hlrc.hpp"

#include <mutex>

#include "dsm/dsm.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

// ---- release -------------------------------------------------------------------------------------------------------------------

void Hlrc::on_release(SyncId) {
  const std::scoped_lock guard(interval_lock());
  close_interval();
}

void Hlrc::close_interval() {
  const std::vector<PageId> written = flush();
  if (env().parts().config.home_moves) moves_.note_written(written);
  const std::scoped_lock guard(log_lock_);
  log_.close(written);
}

// ---- acquire -------------------------------------------------------------------------------------------------------------------

void Hlrc::append_acquire_request(SyncId, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  log_.encode_clock(out);
}

bool Hlrc::tells_nothing(std::span<const std::byte> request) {
  const std::scoped_lock guard(log_lock_);
  return log_.is_known_by(request);
}

void Hlrc::append_grant(SyncId, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  VectorClock theirs;
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.decode_clock(request, &theirs), "node %u asks for a lock with a malformed vector clock", acquirer.value);
  env().count(Stat::notices_sent, log_.encode_grant(theirs, env().barriers_left(), out));
}

void Hlrc::decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out) {
  NETVM_CHECK(decode_intervals(wire, env().nodes(), env().table().range(), out), "malformed write notices came with a %s", from);
}

void Hlrc::on_acquire(SyncId, NodeId, std::span<const std::byte> payload) {
  if (payload.empty()) return;
  const bool ahead = IntervalLog::take_grant_mark(payload);
  std::vector<IntervalView> intervals;
  decode(payload, "lock", intervals);
  const std::scoped_lock guard(interval_lock());
  act_upon(intervals, ahead);
}

void Hlrc::act_upon(std::span<const IntervalView> intervals, bool pass_on) {
  std::vector<PageRange> ranges;
  std::uint64_t fresh = 0;
  {
    const std::scoped_lock guard(log_lock_);
    for (const IntervalView& interval : log_.unknown(intervals, &fresh)) {
      NETVM_CHECK(decode_pages(interval.pages, env().table().range(), ranges), "write notices changed under decoding");
    }
  }
  if (fresh == 0) return;
  env().count(Stat::notices_received, fresh);
  invalidate(ranges);
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.add(intervals, pass_on), "write notices leave a gap: an interval was lost");
}

std::uint64_t Hlrc::memory_bytes() {
  const std::scoped_lock guard(log_lock_);
  return log_.bytes() + log_.size() * sizeof(std::vector<std::byte>);
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

namespace {

struct BarrierPayload {
  std::span<const std::byte> moves;
  std::span<const std::byte> intervals;
};

BarrierPayload split(std::span<const std::byte> payload) {
  if (payload.empty()) return {};
  WireReader reader(payload);
  BarrierPayload parts;
  parts.moves = reader.bytes(reader.varint());
  NETVM_CHECK(reader.ok(), "malformed write notices came with a barrier");
  parts.intervals = reader.rest();
  return parts;
}

void join(std::span<const std::byte> moves, std::span<const std::byte> intervals, Bytes& out) {
  if (moves.empty() && intervals.empty()) return;
  put_varint(out, moves.size());
  out.insert(out.end(), moves.begin(), moves.end());
  out.insert(out.end(), intervals.begin(), intervals.end());
}

}  // namespace

void Hlrc::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  close_interval();
  Bytes moves;
  moves_.append_arrival(moves);
  Bytes intervals;
  {
    const std::scoped_lock log_guard(log_lock_);
    env().count(Stat::notices_sent, log_.arrive(env().barriers_left(), intervals));
  }
  join(moves, intervals, out);
}

void Hlrc::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) {
  const BarrierPayload mine = split(sum);
  const BarrierPayload theirs = split(other);
  Bytes moves(mine.moves.begin(), mine.moves.end());
  Bytes intervals(mine.intervals.begin(), mine.intervals.end());
  HomeMoves::merge(moves, theirs.moves);
  merge_interval_sets(intervals, theirs.intervals);
  sum.clear();
  join(moves, intervals, sum);
}

void Hlrc::on_barrier_leave(std::span<const std::byte> sum) {
  const BarrierPayload parts = split(sum);
  std::vector<IntervalView> intervals;
  decode(parts.intervals, "barrier", intervals);
  const std::scoped_lock guard(interval_lock());
  act_upon(intervals, false);
  moves_.pass_barrier(parts.moves, intervals, moves_shared_units());
  const std::scoped_lock log_guard(log_lock_);
  log_.pass_barrier(intervals);
}

}  // namespace netvm::dsm
