// Offset table: finds what one node knows of each thing in shared memory that one of its threads ever used, by the thing's offset. Entered at first use,
// never removed; the things themselves belong to who makes them (StateBlocks, as a rule).
//
// Chains in the order of a hash's bits, from the lowest: when the number of chains doubles, each falls into two where it stands, so nothing is copied, moved or
// outgrown (Shalev, Shavit 2006; nothing is removed here, so a chain needs no node of its own to begin with). One pointer in each state, and one for each chain.
//
// Invariants
//  1. A lookup takes no lock: states never move, and what a link leads to is reached from it for ever.
//  2. A state is reached from the chain that its hash named when it was entered, and from the one that it has been in since each doubling. So who knows that
//     a state was made (it made it, or was told by a message) finds it: it sees as many chains as there were then, or more.
//  3. In a chain the hashes' reversed bits rise. Behind its own states may follow some of the chain that was split off from it: a lookup ends there.
// Threads: any.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace netvm::sync {

/// States of one kind, next to each other: made one by one, freed together. Not for several threads at once.
template <class State>
class StateBlocks {
 public:
  State& make() {
    if (used_ == size_) {
      size_ = size_ == 0 ? kFirst : std::min(2 * size_, kMost);
      blocks_.push_back(std::make_unique<State[]>(size_));
      used_ = 0;
    }
    return blocks_.back()[used_++];
  }

 private:
  static constexpr std::size_t kFirst = 8;
  static constexpr std::size_t kMost = 256;
  std::vector<std::unique_ptr<State[]>> blocks_;
  std::size_t size_ = 0;  // of the last
  std::size_t used_ = 0;
};

/// State has members `offset` and `std::atomic<State*> chained`, null at first.
template <class State>
class OffsetTable {
 public:
  OffsetTable() = default;
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
    const std::uint64_t mask = mask_.load(std::memory_order_acquire);  // acquire: partner is grow()'s release
    const std::uint64_t chain = hash(offset) & mask;
    State* state = first(chain).load(std::memory_order_acquire);  // acquire: partner is enter()'s release
    while (state != nullptr && state->offset != offset) {
      if (!in_chain(*state, chain, mask)) return nullptr;
      state = next(*state);
    }
    return state;
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
    const std::uint64_t mask = mask_.load();
    for (std::uint64_t chain = 0; chain <= mask; ++chain) {
      for (State* state = first(chain).load(); state != nullptr && in_chain(*state, chain, mask); state = next(*state))
        states.push_back(state);
    }
    return states;
  }

 private:
  using Link = std::atomic<State*>;
  static constexpr unsigned kFirstBits = 8;
  static constexpr std::uint64_t kFirstChains = std::uint64_t{1} << kFirstBits;

  // The product's high bits are the good ones, and chains are named by the low ones.
  static std::uint64_t hash(std::uint64_t offset) { return __builtin_bswap64(offset * 0x9e3779b97f4a7c15U); }
  static bool in_chain(const State& state, std::uint64_t chain, std::uint64_t mask) { return (hash(state.offset) & mask) == chain; }
  static State* next(const State& state) { return state.chained.load(std::memory_order_acquire); }  // acquire: partner is enter()'s release
  static std::uint64_t order(std::uint64_t offset) {
    std::uint64_t bits = __builtin_bswap64(hash(offset));
    bits = (bits & 0x0f0f0f0f0f0f0f0fU) << 4 | (bits >> 4 & 0x0f0f0f0f0f0f0f0fU);
    bits = (bits & 0x3333333333333333U) << 2 | (bits >> 2 & 0x3333333333333333U);
    return (bits & 0x5555555555555555U) << 1 | (bits >> 1 & 0x5555555555555555U);
  }

  Link& first(std::uint64_t chain) const {
    if (chain < kFirstChains) [[likely]]
      return first_chains_[chain];
    const auto doubling = static_cast<unsigned>(std::bit_width(chain >> kFirstBits));
    return later_chains_[doubling - 1][chain - (kFirstChains << (doubling - 1))];
  }
  template <class Make>
  State& enter(std::uint64_t offset, Make&& make) {
    const std::lock_guard guard(making_);
    if (State* const made_meanwhile = find(offset)) return *made_meanwhile;
    std::uint64_t mask = mask_.load();
    if (size_ > mask + mask / 2) mask = grow();
    State& state = make();
    state.offset = offset;
    const std::uint64_t chain = hash(offset) & mask;
    Link* link = &first(chain);
    State* behind = link->load();
    while (behind != nullptr && in_chain(*behind, chain, mask) && order(behind->offset) < order(offset)) {
      link = &behind->chained;
      behind = link->load();
    }
    state.chained.store(behind, std::memory_order_relaxed);  // relaxed: published by the next store
    link->store(&state, std::memory_order_release);          // release: partner is find()
    ++size_;
    return state;
  }
  // Twice as many chains: the new half's are the ends of the old ones. Returns the new mask.
  std::uint64_t grow() {
    const std::uint64_t mask = mask_.load();
    const std::uint64_t chains = mask + 1;
    later_chains_[std::bit_width(chains >> kFirstBits) - 1] = std::make_unique<Link[]>(chains);
    for (std::uint64_t chain = 0; chain < chains; ++chain) {
      State* state = first(chain).load();
      while (state != nullptr && in_chain(*state, chain, 2 * mask + 1)) state = next(*state);
      if (state != nullptr && in_chain(*state, chain, mask)) first(chain + chains).store(state);
    }
    mask_.store(2 * mask + 1, std::memory_order_release);  // release: the new chains; partner is find()
    return 2 * mask + 1;
  }

  std::atomic<std::uint64_t> mask_{kFirstChains - 1};
  mutable std::array<Link, kFirstChains> first_chains_{};
  std::array<std::unique_ptr<Link[]>, 64 - kFirstBits> later_chains_;  // as many as there were before, each
  // Under making_:
  mutable std::mutex making_;
  std::size_t size_ = 0;
};

}  // namespace netvm::sync
