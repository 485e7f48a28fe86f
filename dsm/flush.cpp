#include "dsm/flush.hpp"

#include <algorithm>
#include <span>

namespace netvm::dsm {

void DiffFlush::add(PageId page, NodeId home) {
  FramePins pins = env_.pin({page, 1}, false);
  const bool changed = env_.diff(page, &masks_);
  env_.drop_twin(page);
  if (!changed) return;
  Batch& batch = batches_[home];
  const DiffSize size = measure_diff(masks_);
  if (batch.segments.size() < batch.count + size.runs) batch.segments.resize(batch.count + size.runs);
  batch.count += make_segments(masks_, env_.frame(page), env_.offset_of(page), &batch.segments[batch.count]);
  batch.bytes += size.bytes;
  env_.count(page, Stat::diff_bytes, size.bytes);
  env_.count(page, Stat::data_bytes, size.bytes);
  if (batch.count >= kMaxSegments || batch.bytes >= kMaxBytes) post(home, batch);
  pinned_pages_ += pins.pages().count;
  pins_.push_back(std::move(pins));
  if (pinned_pages_ >= std::clamp<std::uint64_t>(env_.most_pins() / 2, 1, kMaxPins)) post_all();
}

void DiffFlush::post_all() {
  for (auto& [home, batch] : batches_) {
    if (batch.count != 0) post(home, batch);
  }
  pins_.clear();
  pinned_pages_ = 0;
}

void DiffFlush::post(NodeId home, Batch& batch) {
  posted_.emplace_back();
  posted_.back().home = home;
  env_.post_segments(home, std::span(batch.segments).first(batch.count), batch.bytes, &posted_.back().completion);
  batch.count = batch.bytes = 0;
}

void DiffFlush::finish() {
  post_all();
  for (Posted& posted : posted_) env_.wait(posted.completion, "writing changes of pages to their home", posted.home);
  posted_.clear();
}

}  // namespace netvm::dsm
