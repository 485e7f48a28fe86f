// Offset table: finds what one node knows of each thing in shared memory that one of its threads ever used, by the thing's offset. Entered at first use,
// never removed; the things themselves belong to who makes them.
//
// Invariants
//  1. A lookup takes no lock: states never move, an index is never changed but by filling empty places, and a full one is replaced by a larger one
//     and kept. Who knows that a state was made (it made it, or was told by a message) finds it.
// Threads: any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace netvm::sync {

/// State has a member `offset`.
template <class State>
class OffsetTable {
 public:
  OffsetTable() {
    indices_.push_back(make_index(kFirstBits));
    index_.store(indices_.back().get());
  }
  OffsetTable(const OffsetTable&) = delete;
  OffsetTable& operator=(const OffsetTable&) = delete;

  /// If there is none, make() returns a new state, one at a time. The reference is valid as long as what it returned.
  template <class Make>
  State& at(std::uint64_t offset, Make&& make) {
    State* const found = find(offset);
    return found != nullptr ? *found : enter(offset, std::forward<Make>(make));
  }
  /// Null if there is none.
  [[nodiscard]] State* find(std::uint64_t offset) const {
    const Index& index = *index_.load(std::memory_order_acquire);  // acquire: partner is grow()'s release
    for (std::uint64_t at = hash(offset) >> index.shift;; at = (at + 1) & index.mask) {
      State* const state = index.places[at].load(std::memory_order_acquire);  // acquire: partner is put()'s release
      if (state == nullptr || state->offset == offset) return state;
    }
  }
  [[nodiscard]] std::size_t size() const {
    const std::lock_guard guard(making_);
    return size_;
  }
  /// Every state that there is, in an order that follows from their offsets alone. Not for hot paths.
  [[nodiscard]] std::vector<State*> all() const {
    const std::lock_guard guard(making_);
    std::vector<State*> states;
    states.reserve(size_);
    each(*indices_.back(), [&](State* state) { states.push_back(state); });
    return states;
  }

 private:
  static constexpr unsigned kFirstBits = 8;
  struct Index {
    std::uint64_t mask = 0;
    unsigned shift = 0;  // the hash's high bits are the good ones
    std::unique_ptr<std::atomic<State*>[]> places;
  };
  static std::uint64_t hash(std::uint64_t offset) { return offset * 0x9e3779b97f4a7c15U; }
  static std::unique_ptr<Index> make_index(unsigned bits) {
    auto index = std::make_unique<Index>();
    index->mask = (std::uint64_t{1} << bits) - 1;
    index->shift = 64 - bits;
    index->places = std::make_unique<std::atomic<State*>[]>(std::size_t{1} << bits);
    return index;
  }
  static void put(Index& index, State* state) {
    std::uint64_t at = hash(state->offset) >> index.shift;
    while (index.places[at].load(std::memory_order_relaxed) != nullptr) at = (at + 1) & index.mask;  // relaxed: changed under making_ only
    index.places[at].store(state, std::memory_order_release);                                        // release: partner is find()
  }
  template <class Act>
  static void each(const Index& index, Act&& act) {
    for (std::uint64_t at = 0; at <= index.mask; ++at) {
      if (State* const state = index.places[at].load(std::memory_order_relaxed)) act(state);  // relaxed: changed under making_ only
    }
  }
  template <class Make>
  State& enter(std::uint64_t offset, Make&& make) {
    const std::lock_guard guard(making_);
    if (State* const made_meanwhile = find(offset)) return *made_meanwhile;
    if (size_ * 2 > indices_.back()->mask) grow();
    State& state = make();
    state.offset = offset;
    put(*indices_.back(), &state);
    ++size_;
    return state;
  }
  void grow() {
    auto larger = make_index(64 - indices_.back()->shift + 1);
    each(*indices_.back(), [&](State* state) { put(*larger, state); });
    index_.store(larger.get(), std::memory_order_release);  // release: partner is find()
    indices_.push_back(std::move(larger));
  }

  std::atomic<const Index*> index_{nullptr};
  // Under making_:
  mutable std::mutex making_;
  std::vector<std::unique_ptr<Index>> indices_;  // the last is the one in use
  std::size_t size_ = 0;
};

}  // namespace netvm::sync
