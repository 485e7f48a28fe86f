#include "apps/gas/hashtable/workload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "apps/splash2/common/partition.hpp"
#include "apps/splash2/common/random.hpp"

namespace gas::hashtable {

namespace {

constexpr std::uint64_t kKeyStream = 33;
constexpr std::uint64_t kMissingStream = 34;
constexpr std::uint64_t kOrderStream = 35;
constexpr std::size_t kBatch = 256;  // keys that are inserted or looked up together

/// The i-th key that is looked up: every second one is there, if it was inserted.
std::uint64_t wanted_key(const Parameters& parameters, std::uint64_t i) {
  const std::uint64_t k = splash2::uniform_below(splash2::mix64(kOrderStream + 1, i), parameters.keys);
  return i % 2 == 0 ? key_of(k) : missing_key_of(k);
}

/// One processor's table: the same buckets without anybody else.
class PrivateTable {
 public:
  explicit PrivateTable(std::size_t buckets) : buckets_(buckets) {}
  void add(std::uint64_t key, std::uint64_t by) {
    Slot& slot = place(key);
    slot.key = key;
    slot.count += by;
  }
  [[nodiscard]] std::uint64_t find(std::uint64_t key) { return place(key).count; }
  [[nodiscard]] std::vector<Slot> contents() const {
    std::vector<Slot> taken;
    for (const Bucket& bucket : buckets_)
      std::copy_if(bucket.begin(), bucket.end(), std::back_inserter(taken), [](Slot s) { return s.key != 0; });
    return taken;
  }

 private:
  /// The key's slot, or the free one where its search ends.
  Slot& place(std::uint64_t key) {
    for (std::size_t index = home_of(key, 1, buckets_.size()).bucket;; index = (index + 1) % buckets_.size()) {
      for (Slot& slot : buckets_[index]) {
        if (slot.key == key || slot.key == 0) return slot;
      }
    }
  }
  std::vector<Bucket> buckets_;
};

std::uint64_t total(const std::vector<Slot>& contents) {
  std::uint64_t sum = 0;
  for (const Slot& slot : contents) sum += slot.count;
  return sum;
}

}  // namespace

std::size_t Parameters::buckets(int nodes) const {
  const double share = static_cast<double>(keys) / nodes;
  const double most = share + 6 * std::sqrt(share) + 1;  // a node gets more than that once in a thousand million tables
  return static_cast<std::size_t>(std::ceil(most / load / kSlots)) + 1;
}

std::uint64_t key_of(std::uint64_t k) { return splash2::mix64(kKeyStream, k) | 1U; }
std::uint64_t missing_key_of(std::uint64_t k) {
  return (splash2::mix64(kMissingStream, k) & ~std::uint64_t{1}) | 2U;
}  // even: no other key is
std::uint64_t inserted_key(const Parameters& parameters, std::uint64_t i) {
  return key_of(splash2::uniform_below(splash2::mix64(kOrderStream, i), parameters.keys));
}

Result run(netvm::Job& job, netvm::Thread& me, const Table& table, const Parameters& parameters) {
  Client client(job, table);
  Result result;
  const auto part = splash2::Part::of(parameters.inserts, me.rank(), me.count());
  me.barrier();
  double start = splash2::clock_seconds();
  std::array<std::uint64_t, kBatch> keys;
  for (std::uint64_t first = part.first; first < part.last; first += kBatch) {
    const std::size_t batch = std::min<std::size_t>(kBatch, part.last - first);
    for (std::size_t i = 0; i < batch; ++i) keys[i] = inserted_key(parameters, first + i);
    client.add(std::span(keys).first(batch), 1);
  }
  result.time.part += splash2::clock_seconds() - start;
  me.barrier();
  result.insert_seconds = me.max(splash2::clock_seconds() - start);

  start = splash2::clock_seconds();
  std::array<std::uint64_t, kBatch> counts;
  for (std::uint64_t first = part.first; first < part.last; first += kBatch) {
    const std::size_t batch = std::min<std::size_t>(kBatch, part.last - first);
    for (std::size_t i = 0; i < batch; ++i) keys[i] = wanted_key(parameters, first + i);
    client.find(std::span(keys).first(batch), std::span(counts).first(batch));
    for (std::size_t i = 0; i < batch; ++i) ((first + i) % 2 == 0 ? result.found : result.phantoms) += counts[i] > 0 ? 1 : 0;
  }
  result.time.part += splash2::clock_seconds() - start;
  me.barrier();
  result.find_seconds = me.max(splash2::clock_seconds() - start);
  result.time.total = result.insert_seconds + result.find_seconds;
  result.found = me.sum(result.found);
  result.phantoms = me.sum(result.phantoms);
  result.fetched = me.sum(client.fetched());
  result.lost = me.sum(client.lost());
  return result;
}

SequentialRun::SequentialRun(const Parameters& parameters, std::int64_t runs) {
  std::vector<double> times;
  for (std::int64_t run = 0; run < runs; ++run) {
    PrivateTable table(parameters.buckets(1));
    found_ = 0;
    const double start = splash2::clock_seconds();
    for (std::uint64_t i = 0; i < parameters.inserts; ++i) table.add(inserted_key(parameters, i), 1);
    for (std::uint64_t i = 0; i < parameters.inserts; ++i) found_ += table.find(wanted_key(parameters, i)) > 0 ? 1 : 0;
    times.push_back(splash2::clock_seconds() - start);
    contents_ = table.contents();
  }
  seconds_ = splash2::median(std::move(times));
  std::sort(contents_.begin(), contents_.end(), [](const Slot& a, const Slot& b) { return a.key < b.key; });
}

splash2::Check SequentialRun::compare(std::vector<Slot> contents) const {
  std::sort(contents.begin(), contents.end(), [](const Slot& a, const Slot& b) { return a.key < b.key; });
  const auto same = [](const Slot& a, const Slot& b) { return a.key == b.key && a.count == b.count; };
  const bool equal = std::equal(contents.begin(), contents.end(), contents_.begin(), contents_.end(), same);
  return {"reference", equal,
          equal ? fmt::format("the same {} keys with the same counts as the sequential run's", contents_.size())
                : fmt::format("{} keys instead of {}, or other counts than the sequential run's", contents.size(), contents_.size())};
}

std::vector<splash2::Check> self_test(const Parameters& parameters, const std::vector<Slot>& contents, const Result& result) {
  std::vector<std::uint64_t> keys(contents.size());
  std::transform(contents.begin(), contents.end(), keys.begin(), [](const Slot& slot) { return slot.key; });
  std::sort(keys.begin(), keys.end());
  const bool once = std::adjacent_find(keys.begin(), keys.end()) == keys.end();
  const std::uint64_t sum = total(contents);
  return {{"counts", sum == parameters.inserts, fmt::format("the table counts {} insertions of {}", sum, parameters.inserts)},
          {"keys", once, once ? fmt::format("each of {} keys has one slot", keys.size()) : std::string("a key has two slots")},
          {"absent keys", result.phantoms == 0, fmt::format("{} keys were found that nobody inserted", result.phantoms)}};
}

}  // namespace gas::hashtable
