#include "nic/redirect_table.hpp"

#include <algorithm>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

void RedirectTable::queue(PageId page, RedirectedPiece piece) {
  ++piece.write->pieces_left;
  pages_[page.value].pieces.push_back(std::move(piece));
}

void RedirectTable::wait(PageId page, NodeId source) { pages_[page.value].channels.push_back(source); }

RedirectedPiece* RedirectTable::front(PageId page) {
  const auto waiting = pages_.find(page.value);
  return waiting == pages_.end() || waiting->second.pieces.empty() ? nullptr : &waiting->second.pieces.front();
}

void RedirectTable::pop(PageId page) {
  const auto waiting = pages_.find(page.value);
  NETVM_CHECK(waiting != pages_.end() && !waiting->second.pieces.empty(), "nothing waits for page %llu",
              static_cast<unsigned long long>(page.value));
  --waiting->second.pieces.front().write->pieces_left;
  waiting->second.pieces.pop_front();
}

std::vector<NodeId> RedirectTable::release(PageId page) {
  const auto waiting = pages_.find(page.value);
  if (waiting == pages_.end()) return {};
  NETVM_CHECK(waiting->second.pieces.empty(), "page %llu is released with %zu pieces of data in system buffers",
              static_cast<unsigned long long>(page.value), waiting->second.pieces.size());
  std::vector<NodeId> channels = std::move(waiting->second.channels);
  pages_.erase(waiting);
  return channels;
}

bool RedirectTable::covered(PageId page) const {
  const auto covers = [page](const Fault& fault) { return fault.pages.contains(page); };
  return std::any_of(underway_.begin(), underway_.end(), covers) || std::any_of(wanted_.begin(), wanted_.end(), covers);
}

void RedirectTable::want_alone(PageId page) {
  if (!covered(page)) wanted_.push_back({next_id_++, {page, 1}, true, true});
}

void RedirectTable::want(PageId page, PageRange range, bool write) {
  if (covered(page)) return;
  if (!range.contains(page)) range = {page, 1};
  // Not longer than the bound, and with the page in it.
  if (range.count > kMostPages) {
    range.first.value = std::max(range.first.value, page.value - std::min(page.value, kMostPages - 1));
    range.count = kMostPages;
  }
  if (!wanted_.empty() && !wanted_.back().alone) {  // the pieces of a vector are wanted one by one
    Fault& last = wanted_.back();
    const bool follows = range.first.value >= last.pages.first.value && range.first.value <= last.pages.end();
    const std::uint64_t together = std::max(last.pages.end(), range.end()) - last.pages.first.value;
    if (follows && together <= kMostPages) {
      last.pages.count = together;
      last.write |= write;
      return;
    }
  }
  wanted_.push_back({next_id_++, range, write, false});
}

std::optional<RedirectTable::Fault> RedirectTable::start_next() {
  if (wanted_.empty() || underway_.size() == kMostUnderway) return std::nullopt;
  underway_.push_back(wanted_.front());
  wanted_.pop_front();
  return underway_.back();
}

std::vector<PageId> RedirectTable::end_fault(std::uint64_t id) {
  const auto ended = std::find_if(underway_.begin(), underway_.end(), [id](const Fault& fault) { return fault.id == id; });
  NETVM_CHECK(ended != underway_.end(), "fault %llu ends, but is not underway", static_cast<unsigned long long>(id));
  const PageRange range = ended->pages;
  underway_.erase(ended);
  std::vector<PageId> waiting;
  for (auto page = pages_.lower_bound(range.first.value); page != pages_.end() && page->first < range.end(); ++page) {
    waiting.push_back(PageId{page->first});
  }
  return waiting;
}

bool RedirectTable::try_again(PageId page) { return ++pages_[page.value].attempts < kMostAttempts; }

}  // namespace netvm::nic
