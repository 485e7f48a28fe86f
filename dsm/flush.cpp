#include "dsm/flush.hpp"

#include <algorithm>
#include <span>

namespace netvm::dsm {

void DiffFlush::add(PageId page, NodeId home) {
  FramePins pins = env_.pin({page, 1}, false);
  const std::size_t count = env_.diff(page, &runs_);
  env_.drop_twin(page);
  if (count == 0) return;
  Batch& batch = batches_[home];
  const std::size_t bytes = append_segments(std::span(runs_).first(count), env_.frame(page), env_.offset_of(page), batch.segments);
  env_.count(page, Stat::data_bytes, bytes);
  batch.bytes += bytes;
  if (batch.segments.size() >= kMaxSegments || batch.bytes >= kMaxBytes) post(home, batch);
  pinned_pages_ += pins.pages().count;
  pins_.push_back(std::move(pins));
  if (pinned_pages_ >= std::clamp<std::uint64_t>(env_.most_pins() / 2, 1, kMaxPins)) post_all();
}

void DiffFlush::post_all() {
  for (auto& [home, batch] : batches_) {
    if (!batch.segments.empty()) post(home, batch);
  }
  pins_.clear();
  pinned_pages_ = 0;
}

void DiffFlush::post(NodeId home, Batch& batch) {
  posted_.emplace_back();
  posted_.back().home = home;
  env_.post_segments(home, batch.segments, &posted_.back().completion);
  batch.segments.clear();
  batch.bytes = 0;
}

void DiffFlush::finish() {
  post_all();
  for (Posted& posted : posted_) env_.wait(posted.completion, "writing changes of pages to their home", posted.home);
  posted_.clear();
}

}  // namespace netvm::dsm
