#include "dsm/home_moves.hpp"

#include <algorithm>
#include <map>

#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

void HomeMoves::note_written(std::span<const PageId> units) {
  for (const PageId page : units) {
    PageEntry& entry = env_.entry(page);
    if (!entry.home_known() || entry.home() == env_.node()) continue;
    const PageGuard guard(env_.env(), entry);  // memory that is freed loses its history under the lock
    if (!env_.owns(entry)) continue;           // it was flushed early, and is another protocol's now: `data` is, too
    History seen = history(entry);
    if (seen.written == epoch_) continue;
    seen.written = epoch_;
    set_history(entry, seen);
    written_.push_back(page);
  }
}

bool HomeMoves::wrote_alone_before(PageId page) {
  PageEntry& entry = env_.entry(page);
  const PageGuard guard(env_.env(), entry);
  return env_.owns(entry) && history(entry).alone == epoch_ - 1;
}

void HomeMoves::append_arrival(Bytes& out) {
  std::sort(written_.begin(), written_.end());
  std::map<std::uint64_t, std::vector<PageId>> claims;  // by serial
  for (const PageId page : written_) {
    if (!wrote_alone_before(page)) continue;
    const std::uint64_t serial = env_.serial_of(page);
    if (serial != 0 && keeper_.hold(page)) claims[serial].push_back(page);
  }
  const bool veto = !standing_.empty() && !env_.all_threads_wait();
  if (claims.empty() && standing_.empty()) return;
  put_varint(out, veto ? 1 : 0);
  put_varint(out, claims.size());
  for (const auto& [serial, units] : claims) {
    std::vector<std::byte> pages;
    encode_pages(units, pages);
    put_varint(out, env_.node().value);
    put_varint(out, serial);
    put_varint(out, pages.size());
    out.insert(out.end(), pages.begin(), pages.end());
  }
}

void HomeMoves::merge(Bytes& sum, std::span<const std::byte> other) {
  if (other.empty()) return;
  if (sum.empty()) {
    sum.assign(other.begin(), other.end());
    return;
  }
  WireReader mine(sum);
  WireReader theirs(other);
  const std::uint64_t veto = mine.varint() | theirs.varint();
  const std::uint64_t claims = mine.varint() + theirs.varint();
  Bytes merged;
  put_varint(merged, veto);
  put_varint(merged, claims);
  merged.insert(merged.end(), mine.rest().begin(), mine.rest().end());
  merged.insert(merged.end(), theirs.rest().begin(), theirs.rest().end());
  sum = std::move(merged);
}

HomeMoves::Said HomeMoves::decode(std::span<const std::byte> sum) const {
  Said said;
  if (sum.empty()) return said;
  WireReader reader(sum);
  said.veto = reader.varint() != 0;
  const std::uint64_t count = reader.varint();
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    Claim claim;
    const std::uint64_t node = reader.varint();
    claim.serial = reader.varint();
    const std::span<const std::byte> pages = reader.bytes(reader.varint());
    std::vector<PageRange> ranges;
    const bool right = reader.ok() && node < env_.nodes() && decode_pages(pages, env_.table().range(), ranges);
    NETVM_CHECK(right, "malformed claims to homes came with a barrier");
    claim.node = NodeId{static_cast<std::uint32_t>(node)};
    for (const PageRange& range : ranges) {
      for (std::uint64_t p = range.first.value; p != range.end(); ++p) claim.units.push_back(PageId{p});
    }
    said.claims.push_back(std::move(claim));
  }
  NETVM_CHECK(reader.ok() && reader.at_end(), "malformed claims to homes came with a barrier");
  return said;
}

std::vector<HomeMoves::Write> HomeMoves::writes_of(std::span<const IntervalView> intervals) const {
  std::vector<Write> writes;
  std::vector<PageRange> ranges;
  for (const IntervalView& interval : intervals) {
    ranges.clear();
    NETVM_CHECK(decode_pages(interval.pages, env_.table().range(), ranges), "write notices changed under decoding");
    for (const PageRange& range : ranges) {
      for (std::uint64_t p = range.first.value; p != range.end(); ++p) writes.push_back({PageId{p}, interval.node});
    }
  }
  std::sort(writes.begin(), writes.end());
  return writes;
}

bool HomeMoves::wrote_alone(const std::vector<Write>& writes, PageId page, NodeId node) {
  auto it = std::lower_bound(writes.begin(), writes.end(), Write{page, NodeId{0}});
  for (; it != writes.end() && it->page == page; ++it) {
    if (it->node != node) return false;
  }
  return true;
}

void HomeMoves::move(const Claim& claim, PageId page) {
  // Where the memory is gone the claimant still holds the copy, or its entry is zeros.
  const bool moved = env_.move_home(page, claim.serial, claim.node);
  if (claim.node == env_.node()) keeper_.let_go(page, moved);
}

void HomeMoves::pass_barrier(std::span<const std::byte> sum, std::span<const IntervalView> intervals, bool may_move_shared) {
  Said said = decode(sum);
  if (written_.empty() && standing_.empty() && said.claims.empty()) {
    ++epoch_;
    return;
  }
  const std::vector<Write> writes = writes_of(intervals);
  for (const Claim& claim : standing_) {
    for (const PageId page : claim.units) {
      if (!said.veto && (may_move_shared || wrote_alone(writes, page, claim.node))) {
        move(claim, page);
      } else if (claim.node == env_.node()) {
        keeper_.let_go(page, false);
      }
    }
  }
  standing_.clear();
  for (Claim& claim : said.claims) {
    std::vector<PageId> kept;
    for (const PageId page : claim.units) {
      if (wrote_alone(writes, page, claim.node)) {
        kept.push_back(page);
      } else if (claim.node == env_.node()) {
        keeper_.let_go(page, false);
      }
    }
    claim.units = std::move(kept);
    if (!claim.units.empty()) standing_.push_back(std::move(claim));
  }
  for (const PageId page : written_) {
    PageEntry& entry = env_.entry(page);
    const PageGuard guard(env_.env(), entry);
    if (!env_.owns(entry)) continue;  // freed
    History seen = history(entry);
    if (entry.home() == env_.node() || seen.written != epoch_) continue;  // it came home, or is a later allocation's
    if (wrote_alone(writes, page, env_.node())) seen.alone = epoch_;
    set_history(entry, seen);
  }
  written_.clear();
  ++epoch_;
}

}  // namespace netvm::dsm
