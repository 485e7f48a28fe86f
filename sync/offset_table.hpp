// Offset table: what one node knows of each thing in shared memory that one of its threads ever used, found by the thing's offset. Made at first use, never
// removed.
//
// Invariants
//  1. A lookup takes no lock: states never move, an index is never changed but by filling empty places, and a full one is replaced by a larger one
//     and kept. Who knows that a state was made (it made it, or was told by a message) finds it.
// Threads: any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace netvm::sync {

/// State has a default constructor and a member `offset`.
template <class State>
class OffsetTable {
 public:
  OffsetTable() {
    indices_.push_back(make_index(kFirstBits));
    index_.store(indices_.back().get());
  }
  OffsetTable(const OffsetTable&) = delete;
  OffsetTable& operator=(const OffsetTable&) = delete;

  /// Makes the state if there is none; prepare(state) then completes it before others find it. The reference is valid as long as the table.
  template <class Prepare>
  State& at(std::uint64_t offset, Prepare&& prepare) {
    State* const found = find(offset);
    return found != nullptr ? *found : make(offset, std::forward<Prepare>(prepare));
  }
  State& at(std::uint64_t offset) {
    return at(offset, [](State&) {});
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
    return states_.size();
  }
  /// Every state that there is, in the order in which they were made. Not for hot paths.
  [[nodiscard]] std::vector<State*> all() const {
    const std::lock_guard guard(making_);
    std::vector<State*> states;
    states.reserve(states_.size());
    for (const State& state : states_) states.push_back(const_cast<State*>(&state));
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
  template <class Prepare>
  State& make(std::uint64_t offset, Prepare&& prepare) {
    const std::lock_guard guard(making_);
    if (State* const made_meanwhile = find(offset)) return *made_meanwhile;
    if (states_.size() * 2 > indices_.back()->mask) grow();
    State& state = states_.emplace_back();
    state.offset = offset;
    prepare(state);
    put(*indices_.back(), &state);
    return state;
  }
  void grow() {
    auto larger = make_index(64 - indices_.back()->shift + 1);
    for (State& state : states_) put(*larger, &state);
    index_.store(larger.get(), std::memory_order_release);  // release: partner is find()
    indices_.push_back(std::move(larger));
  }

  std::atomic<const Index*> index_{nullptr};
  // Under making_:
  mutable std::mutex making_;
  std::vector<std::unique_ptr<Index>> indices_;  // the last is the one in use
  std::deque<State> states_;
};

}  // namespace netvm::sync
