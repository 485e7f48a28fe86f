#include "apps/gas/hashtable/table.hpp"

#include <fmt/format.h>

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

Client::Client(netvm::Job& job, const Table& table) : table_(table), transfers_(job) {}

void Client::add(std::uint64_t key, std::uint64_t by) {
  const auto [node, first] = home_of(key, table_.nodes(), table_.buckets());
  for (std::size_t step = 0; step < table_.buckets(); ++step) {
    const std::size_t index = (first + step) % table_.buckets();
    Bucket seen;
    netvm::get(node, table_.bucket(index), &seen);
    ++fetched_;
    if (add_to_bucket(node, index, seen, key, by)) return;
  }
  throw std::runtime_error(
      fmt::format("the table of node {} is full: {} slots; give it more room with --load", node, table_.buckets() * kSlots));
}

bool Client::add_to_bucket(int node, std::size_t index, const Bucket& seen, std::uint64_t key, std::uint64_t by) {
  for (std::size_t i = 0; i < kSlots; ++i) {
    Slot& slot = (*table_.bucket(index))[i];
    std::uint64_t owner = seen[i].key;
    if (owner == 0) {
      owner = netvm::compare_swap(node, &slot.key, 0, key);
      if (owner == 0) {
        owner = key;  // taken
      } else {
        ++lost_;  // to somebody else, maybe with the same key
      }
    }
    if (owner == key) {
      transfers_.fetch_add_async(node, &slot.count, by);
      return true;
    }
  }
  return false;
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
