#include "dsm/barrier_notices.hpp"

#include "dsm/interval_log.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

void BarrierNotices::encode(std::span<const PageId> written, sync::Bytes& out) {
  sync::Bytes pages;
  encode_pages(written, pages);
  put_varint(out, 1);
  append_interval({env_.node(), epoch_ + 1, pages, epoch_ + 1}, out);
  env_.count(Stat::notices_sent, written.size());
}

void BarrierNotices::merge(sync::Bytes& sum, std::span<const std::byte> other) { merge_interval_sets(sum, other); }

std::vector<PageRange> BarrierNotices::decode(std::span<const std::byte> sum) {
  std::vector<IntervalView> intervals;
  NETVM_CHECK(decode_intervals(sum, env_.nodes(), env_.table().range(), intervals), "malformed write notices came with a barrier");
  std::vector<PageRange> ranges;
  for (const IntervalView& interval : intervals) {
    NETVM_CHECK(interval.index == epoch_ + 1, "node %u has passed another number of barriers", interval.node.value);
    if (interval.node == env_.node()) continue;
    NETVM_CHECK(decode_pages(interval.pages, env_.table().range(), ranges), "write notices changed under decoding");
  }
  for (const PageRange& range : ranges) env_.count(Stat::notices_received, range.count);
  return ranges;
}

}  // namespace netvm::dsm
