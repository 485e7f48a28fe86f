#include "nic/held_memory.hpp"

#include <algorithm>
#include <utility>

#include "nic/racy_copy.hpp"

namespace netvm::nic {

namespace {

PageRange pages_of(std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t first = offset / kPageSize;
  return {PageId{first}, (offset + bytes + kPageSize - 1) / kPageSize - first};
}

/// Why they could not be pinned; somebody is told where it is the host's fault.
Status failed(const HostVm& vm, PageRange pages, Status why) {
  if (why == Status::fault_failed) vm.tell_of_failure(pages.first, "requests of this node to or from this memory end with E_FAULT_FAILED");
  return why;
}

}  // namespace

void HeldMemory::hold(const OwnMemory& own, std::uint64_t bytes, As as) {
  HostVm& vm = own.vm();
  const std::uint64_t offset = own.offset_of(at_);
  if (bytes > own.bytes() - offset) {  // it runs out of the memory
    status_ = Status::range;
    return;
  }
  Result<FramePins> pins = vm.pin(pages_of(offset, bytes), as == As::landing || as == As::landing_later);
  if (pins) {
    pins_ = std::move(pins).value();
    at_ = vm.frame_base() + offset;
    return;
  }
  status_ = failed(vm, pages_of(offset, bytes), pins.status());
  if (status_ != Status::exhausted || as == As::landing_later || as == As::source_later) return;
  stage_.reset(new Stage{vm, offset, bytes, std::vector<std::byte>(bytes)});
  status_ = as == As::source ? stage_->move(true) : Status::ok;
  at_ = stage_->memory.data();
}

Status HeldMemory::finish(Status read) { return stage_ == nullptr || !ok(read) ? read : stage_->move(false); }

Status HeldMemory::Stage::move(bool out) {
  const std::uint64_t step = std::max<std::uint64_t>(vm.most_pins() / 2, 1) * kPageSize;
  for (std::uint64_t done = 0; done < bytes;) {
    const std::uint64_t at = offset + done;
    const std::uint64_t n = std::min(bytes - done, step - at % kPageSize);
    const Result<FramePins> pins = vm.pin(pages_of(at, n), !out);
    if (!pins) return failed(vm, pages_of(at, n), pins.status());
    if (out) {
      racy_copy(memory.data() + done, vm.frame_base() + at, n);
    } else {
      racy_copy(vm.frame_base() + at, memory.data() + done, n);
    }
    done += n;
  }
  return Status::ok;
}

HeldSegments::HeldSegments(const OwnMemory& own, std::span<const Segment> segments) : segments_(segments) {
  const auto covered = [&own](const Segment& segment) { return own.covers(segment.data); };
  if (own.bytes() != 0 && !own.ended() && std::any_of(segments.begin(), segments.end(), covered)) hold(own);
}

void HeldSegments::hold(const OwnMemory& own) {
  moved_.assign(segments_.begin(), segments_.end());
  segments_ = moved_;
  PageRange pinned{};
  for (Segment& segment : moved_) {
    if (segment.bytes == 0 || !own.covers(segment.data)) continue;
    const std::uint64_t offset = own.offset_of(segment.data);
    const PageRange pages = pages_of(offset, segment.bytes);
    if (pinned.contains(pages.first) && pages.end() <= pinned.end()) {  // a diff has many pieces of one page
      segment.data = own.vm().frame_base() + offset;
      continue;
    }
    HeldMemory held(own, segment.data, segment.bytes, HeldMemory::As::source);
    if (!ok(held.status())) {
      status_ = held.status();
      return;
    }
    segment.data = held.at();
    if (held.pinned()) pinned = pages;
    held_.push_back(std::move(held));
  }
}

}  // namespace netvm::nic
