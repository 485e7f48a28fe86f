#include "dsm/bindings.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::dsm {

namespace {

std::uint64_t end_of(const BoundRange& range) { return range.offset + range.bytes; }

std::uint64_t blocks_of(const BoundRange& range) { return (end_of(range) - 1) / BoundData::kBlock - range.offset / BoundData::kBlock + 1; }

// What of `range` lies outside of `taken`: up to two parts.
void append_outside(const BoundRange& range, const BoundRange& taken, std::vector<BoundRange>& out) {
  const std::uint64_t begin = std::clamp(taken.offset, range.offset, end_of(range));
  const std::uint64_t end = std::clamp(end_of(taken), range.offset, end_of(range));
  if (begin >= end) return out.push_back(range);
  if (begin > range.offset) out.push_back({range.offset, begin - range.offset});
  if (end < end_of(range)) out.push_back({end, end_of(range) - end});
}

}  // namespace

void BoundData::bind(const BoundRange& range) {
  if (range.bytes == 0) return;
  std::vector<BoundRange> fresh{range};
  for (const BoundRange& known : ranges_) {
    std::vector<BoundRange> rest;
    for (const BoundRange& part : fresh) append_outside(part, known, rest);
    fresh = std::move(rest);
  }
  if (fresh.empty()) return;
  ranges_.insert(ranges_.end(), fresh.begin(), fresh.end());
  renumber();
}

void BoundData::unbind(const BoundRange& gone) {
  std::vector<BoundRange> kept;
  for (const BoundRange& range : ranges_) append_outside(range, gone, kept);
  if (kept == ranges_) return;
  struct Known {
    BoundRange where;
    std::uint64_t version;
    bool early;
    std::array<std::byte, kBlock> bytes;
  };
  std::vector<Known> known;
  for (std::uint32_t block = newest_; block != kNone; block = neighbours_[block].older) {
    const std::byte* bytes = image(block);
    known.push_back({place(block), versions_[block], early_[block], {}});
    std::copy(bytes, bytes + known.back().where.bytes, known.back().bytes.begin());
  }
  forget();
  ranges_ = std::move(kept);
  versions_.clear();
  early_.clear();
  neighbours_.clear();
  renumber();
  for (auto old = known.rbegin(); old != known.rend(); ++old) note(old->where, old->bytes.data(), old->version, old->early);
}

void BoundData::renumber() {
  first_block_.clear();
  pieces_.clear();
  std::uint64_t next = 0;
  for (const BoundRange& range : ranges_) {
    NETVM_CHECK(next + blocks_of(range) < UINT32_MAX, "a lock guards more than %u blocks of %llu bytes", UINT32_MAX,
                static_cast<unsigned long long>(kBlock));
    first_block_.push_back(static_cast<std::uint32_t>(next));
    std::uint64_t at = range.offset;
    while (at < end_of(range)) {
      const std::uint64_t page = at / kPageSize;
      const std::uint64_t end = std::min(end_of(range), (page + 1) * kPageSize);
      const auto first = static_cast<std::uint32_t>(next);
      next += blocks_of({at, end - at});
      pieces_.push_back({PageId{page}, first, static_cast<std::uint32_t>(next)});
      at = end;
    }
  }
  versions_.resize(next, 0);
  early_.resize(next, false);
  neighbours_.resize(next);
  image_.resize(next * kBlock);
}

BoundRange BoundData::place(std::uint32_t block) const {
  const auto above = std::upper_bound(first_block_.begin(), first_block_.end(), block);
  const auto index = static_cast<std::size_t>(above - first_block_.begin()) - 1;
  const BoundRange& range = ranges_[index];
  const std::uint64_t aligned = (range.offset / kBlock + (block - first_block_[index])) * kBlock;
  const std::uint64_t begin = std::max(aligned, range.offset);
  return {begin, std::min(aligned + kBlock, end_of(range)) - begin};
}

void BoundData::note(const BoundRange& where, const std::byte* bytes, std::uint64_t version, bool early) {
  each_block_in(where, [&](std::uint32_t block) {
    const BoundRange mine = place(block);
    const std::uint64_t begin = std::max(mine.offset, where.offset);
    const std::uint64_t end = std::min(end_of(mine), end_of(where));
    std::copy(bytes + (begin - where.offset), bytes + (end - where.offset), image(block) + (begin - mine.offset));
    set_version(block, version, early);
  });
}

void BoundData::take_out(std::uint32_t block) {
  const Neighbours at = std::exchange(neighbours_[block], {});
  if (at.older != kNone) neighbours_[at.older].newer = at.newer;
  (at.newer != kNone ? neighbours_[at.newer].older : newest_) = at.older;
}

void BoundData::set_version(std::uint32_t block, std::uint64_t version, bool early) {
  if (versions_[block] != 0) take_out(block);
  versions_[block] = version;
  early_[block] = early;
  if (version == 0) return;
  std::uint32_t newer = kNone;
  std::uint32_t older = newest_;
  while (older != kNone && versions_[older] > version) {
    newer = older;
    older = neighbours_[older].older;
  }
  neighbours_[block] = {older, newer};
  if (older != kNone) neighbours_[older].newer = block;
  (newer != kNone ? neighbours_[newer].older : newest_) = block;
}

std::vector<std::uint32_t> BoundData::changed_after(std::uint64_t after) const {
  std::vector<std::uint32_t> blocks;
  for (std::uint32_t at = newest_; at != kNone && versions_[at] > after; at = neighbours_[at].older) blocks.push_back(at);
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

void BoundData::pass() {
  for (std::uint32_t block = newest_; block != kNone;) {
    const std::uint32_t older = neighbours_[block].older;
    if (early_[block]) {
      early_[block] = false;
    } else {
      set_version(block, 0);
    }
    block = older;
  }
}

std::vector<BoundRange> BoundData::end_early(std::uint64_t up_to) {
  std::vector<BoundRange> were;
  for (std::uint32_t block = newest_; block != kNone; block = neighbours_[block].older) {
    if (!early_[block] || versions_[block] > up_to) continue;
    early_[block] = false;
    were.push_back(place(block));
  }
  return were;
}

void BoundData::forget() {
  for (std::uint32_t block = std::exchange(newest_, kNone); block != kNone;) {
    versions_[block] = 0;
    early_[block] = false;
    block = std::exchange(neighbours_[block], {}).older;
  }
}

}  // namespace netvm::dsm
