#include "dsm/page_changes.hpp"

#include <algorithm>
#include <utility>

#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

namespace {

using Offset = decltype(DiffRun::offset);
using Mask = std::vector<std::uint64_t>;  // a bit for each byte up to the last one set

bool is_set(const Mask& mask, std::size_t byte) { return byte / 64 < mask.size() && (mask[byte / 64] >> (byte % 64) & 1) != 0; }

void set_run(Mask& mask, const DiffRun& run) {
  for (std::size_t at = run.offset; at < std::size_t{run.offset} + run.bytes;) {
    const std::size_t low = at % 64;
    const std::size_t count = std::min<std::size_t>(64 - low, std::size_t{run.offset} + run.bytes - at);
    const std::uint64_t ones = count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    mask[at / 64] |= ones << low;
    at += count;
  }
}

bool touches(const Mask& mask, const DiffRun& run) {
  for (std::size_t at = run.offset; at < std::size_t{run.offset} + run.bytes; ++at) {
    if (is_set(mask, at)) return true;
  }
  return false;
}

}  // namespace

// Takes the bytes of the mask out of the change.
void PageChanges::subtract(Change& change, const std::vector<std::uint64_t>& mask) {
  if (std::none_of(change.runs.begin(), change.runs.end(), [&mask](const DiffRun& run) { return touches(mask, run); })) return;
  std::vector<DiffRun> runs;
  std::vector<std::byte> data;
  std::size_t from = 0;  // in change.data
  for (const DiffRun& run : change.runs) {
    bool inside = false;
    for (std::size_t i = 0; i < run.bytes; ++i) {
      const std::size_t at = std::size_t{run.offset} + i;
      if (is_set(mask, at)) {
        inside = false;
        continue;
      }
      if (!inside) runs.push_back({static_cast<Offset>(at), 0});
      inside = true;
      ++runs.back().bytes;
      data.push_back(change.data[from + i]);
    }
    from += run.bytes;
  }
  change.runs = std::move(runs);
  change.data = std::move(data);
}

void PageChanges::add(const ChangeTime& time, std::span<const DiffRun> runs, const std::byte* page) {
  if (runs.empty()) return;
  Mask mask((std::size_t{runs.back().offset} + runs.back().bytes + 63) / 64);
  for (const DiffRun& run : runs) set_run(mask, run);
  for (Change& older : changes_) {
    bytes_ -= size_of(older);
    subtract(older, mask);
    bytes_ += size_of(older);
  }
  std::erase_if(changes_, [this](const Change& change) {
    if (!change.runs.empty()) return false;
    bytes_ -= size_of(change);
    return true;
  });
  Change& change = changes_.emplace_back(Change{++newest_, time, {runs.begin(), runs.end()}, {}});
  for (const DiffRun& run : runs) change.data.insert(change.data.end(), page + run.offset, page + run.offset + run.bytes);
  bytes_ += size_of(change);
}

void PageChanges::close_open(std::uint64_t interval) {
  for (auto change = changes_.rbegin(); change != changes_.rend() && change->time.open; ++change) change->time.close(interval);
}

template <class Taken>
std::uint64_t PageChanges::encode(std::uint64_t after, Taken&& taken, std::vector<std::byte>& out) const {
  const auto goes = [&](const Change& change) { return change.ordinal > after && taken(change.time); };
  put_varint(out, static_cast<std::uint64_t>(std::count_if(changes_.begin(), changes_.end(), goes)));
  std::uint64_t newest = after;
  std::vector<std::byte> diff;
  for (const Change& change : changes_) {
    if (!goes(change)) continue;
    diff.clear();
    encode_packed_diff(change.runs, change.data, diff);
    put_varint(out, change.ordinal);
    put_varint(out, change.time.order);
    put_varint(out, diff.size());
    out.insert(out.end(), diff.begin(), diff.end());
    newest = change.ordinal;
  }
  return newest;
}

std::uint64_t PageChanges::encode_told(std::uint64_t after, std::uint64_t up_to, std::vector<std::byte>& out) const {
  return encode(
      after, [up_to](const ChangeTime& time) { return time.first != 0 && time.first <= up_to; }, out);
}

void PageChanges::encode_all(std::uint64_t after, std::vector<std::byte>& out) const {
  (void)encode(
      after, [](const ChangeTime&) { return true; }, out);
}

void PageChanges::drop_through(std::uint64_t interval) {
  while (!changes_.empty() && !changes_.front().time.open && changes_.front().time.last <= interval) {
    bytes_ -= size_of(changes_.front());
    changes_.pop_front();
  }
}

bool decode_changes(std::span<const std::byte>& wire, NodeId node, std::vector<ChangeView>& out) {
  WireReader reader(wire);
  const std::uint64_t count = reader.varint();
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    ChangeView change;
    change.node = node;
    change.ordinal = reader.varint();
    change.order = reader.varint();
    change.diff = reader.bytes(reader.varint());
    if (reader.ok()) out.push_back(change);
  }
  wire = reader.rest();
  return reader.ok();
}

}  // namespace netvm::dsm
