#include "apps/gas/hashtable/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "apps/splash2/common/random.hpp"

namespace gas::hashtable {

namespace {

constexpr std::uint64_t kNodeStream = 31;
constexpr std::uint64_t kBucketStream = 32;

/// Rounds up to whole lines, so that a bucket is one.
Bucket* aligned(void* memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  return reinterpret_cast<Bucket*>((address + sizeof(Bucket) - 1) / sizeof(Bucket) * sizeof(Bucket));
}

}  // namespace

Home home_of(std::uint64_t key, int nodes, std::size_t buckets) {
  const std::uint64_t node = splash2::uniform_below(splash2::mix64(kNodeStream, key), static_cast<std::uint64_t>(nodes));
  return {static_cast<int>(node), splash2::uniform_below(splash2::mix64(kBucketStream, key), buckets)};
}

Table::Table(netvm::Job& job, std::size_t buckets)
    : nodes_(job.nodes()), buckets_(buckets), memory_(aligned(job.symmetric_all<Bucket>(buckets + 1))) {}

std::vector<Slot> Table::contents(int node) const {
  std::vector<Bucket> all(buckets_);
  netvm::get(node, memory_, all.data(), all.size());
  std::vector<Slot> taken;
  for (const Bucket& bucket : all) {
    for (const Slot& slot : bucket) {
      if (slot.key != 0) taken.push_back(slot);
    }
  }
  return taken;
}

struct Client::Insertion {
  std::uint64_t key;
  Home home;
  std::size_t step = 0;     ///< buckets behind the first
  std::size_t slot = 0;     ///< of the bucket, where the search is
  bool fetched = false;     ///< the bucket is in `seen`, or will be by the next quiet()
  std::uint64_t owner = 0;  ///< of the slot, after a compare-and-swap
  bool asked = false;       ///< for the slot
  Bucket seen{};
};

Client::Client(netvm::Job& job, const Table& table) : table_(table), transfers_(job) {}
Client::~Client() = default;

void Client::add(std::span<const std::uint64_t> keys, std::uint64_t by) {
  insertions_.clear();
  for (const std::uint64_t key : keys) insertions_.push_back({.key = key, .home = home_of(key, table_.nodes(), table_.buckets())});
  std::vector<Insertion*> open(insertions_.size());
  std::transform(insertions_.begin(), insertions_.end(), open.begin(), [](Insertion& insertion) { return &insertion; });
  while (!open.empty()) {
    std::erase_if(open, [&](Insertion* insertion) { return !go_on(*insertion, by); });
    transfers_.quiet();
  }
}

bool Client::go_on(Insertion& at, std::uint64_t by) {
  if (at.asked) {
    at.asked = false;
    if (at.owner != 0) ++lost_;  // to somebody else, maybe with the same key
    at.seen[at.slot].key = at.owner == 0 ? at.key : at.owner;
  }
  const auto index = [&] { return (at.home.bucket + at.step) % table_.buckets(); };
  for (; at.fetched && at.slot < kSlots; ++at.slot) {
    Slot& slot = (*table_.bucket(index()))[at.slot];
    const std::uint64_t owner = at.seen[at.slot].key;
    if (owner == at.key) {
      transfers_.fetch_add_async(at.home.node, &slot.count, by);
      return false;
    }
    if (owner == 0) {
      transfers_.compare_swap_async(at.home.node, &slot.key, 0, at.key, &at.owner);
      return at.asked = true;
    }
  }
  if (at.fetched) ++at.step;
  if (at.step == table_.buckets()) {
    transfers_.quiet();
    throw std::runtime_error(
        fmt::format("the table of node {} is full: {} slots; give it more room with --load", at.home.node, table_.buckets() * kSlots));
  }
  at.slot = 0;
  transfers_.get_async(at.home.node, table_.bucket(index()), &at.seen);
  ++fetched_;
  return at.fetched = true;
}

void Client::find(std::span<const std::uint64_t> keys, std::span<std::uint64_t> counts) {
  std::vector<Bucket> seen(keys.size());
  std::vector<std::size_t> searched(keys.size());
  std::iota(searched.begin(), searched.end(), std::size_t{0});
  // Round by round: each bucket that a key may still be in. Nearly all are found in the first.
  for (std::size_t step = 0; step < table_.buckets() && !searched.empty(); ++step) {
    for (const std::size_t i : searched) {
      const auto [node, first] = home_of(keys[i], table_.nodes(), table_.buckets());
      transfers_.get_async(node, table_.bucket((first + step) % table_.buckets()), &seen[i]);
    }
    transfers_.quiet();
    fetched_ += searched.size();
    std::erase_if(searched, [&](std::size_t i) {
      counts[i] = 0;
      for (const Slot& slot : seen[i]) {
        if (slot.key == keys[i]) counts[i] = slot.count;
        if (slot.key == keys[i] || slot.key == 0) return true;
      }
      return false;
    });
  }
}

}  // namespace gas::hashtable
