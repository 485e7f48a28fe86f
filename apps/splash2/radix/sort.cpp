#include "apps/splash2/radix/sort.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "apps/splash2/common/random.hpp"

namespace splash2::radix {

unsigned Problem::digit_bits() const { return static_cast<unsigned>(std::bit_width(radix) - 1); }

int Problem::passes() const {
  const auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(max_key - 1)));
  const auto digit = static_cast<int>(digit_bits());
  return std::max(1, (bits + digit - 1) / digit);
}

Key Problem::key(std::size_t i) const { return static_cast<Key>(uniform_below(mix64(0, i), static_cast<std::uint64_t>(max_key))); }

/// A thread's private memory, made once.
struct ParallelSort::Scratch {
  Scratch(std::size_t keys, unsigned radix) : counts(radix), ranks(radix), offsets(radix), grouped(keys) {}
  std::vector<std::uint32_t> counts;   ///< of this processor's keys, by digit
  std::vector<std::size_t> ranks;      ///< where this processor's next key of a digit goes
  std::vector<std::uint32_t> offsets;  ///< where a digit's next key goes in `grouped`
  std::vector<Key> grouped;
};

ParallelSort::ParallelSort(netvm::Job& job, const Problem& problem, Permutation permutation, const LayoutOptions& layout)
    : problem_(problem), permutation_(permutation), processors_(processors_of(job)) {
  const netvm::AllocationOptions placed = layout.allocation();
  for (Key*& array : arrays_) array = job.allocate_all<Key>(problem.keys, placed);
  counts_stride_ = layout.padded(problem.radix, sizeof(std::uint32_t));
  counts_ = job.allocate_all<std::uint32_t>(counts_stride_ * static_cast<std::size_t>(processors_), placed);
}

ProcessorTime ParallelSort::run(netvm::Thread& me) {
  const Part part = Part::of(problem_.keys, me.rank(), processors_);
  for (std::size_t i = part.first; i < part.last; ++i) {
    arrays_[0][i] = problem_.key(i);
    arrays_[1][i] = 0;
  }
  std::fill_n(counts_of(me.rank()), counts_stride_, 0U);
  Scratch scratch(permutation_ == Permutation::grouped ? part.size() : 0, problem_.radix);
  me.barrier();

  ProcessorTime time;
  const double start = clock_seconds();
  for (int pass = 0; pass < problem_.passes(); ++pass) {
    const std::span<const Key> mine{arrays_[pass % 2] + part.first, part.size()};
    Key* const to = arrays_[(pass + 1) % 2];
    const unsigned shift = static_cast<unsigned>(pass) * problem_.digit_bits();
    count_digits(me.rank(), mine, shift, scratch);
    me.barrier();
    rank_digits(me.rank(), scratch);
    const double moving = clock_seconds();
    if (permutation_ == Permutation::grouped) {
      move_grouped(mine, shift, part.first, to, scratch);
    } else {
      move_direct(mine, shift, to, scratch);
    }
    me.barrier();
    time.part += clock_seconds() - moving;
  }
  time.total = clock_seconds() - start;
  return time;
}

void ParallelSort::count_digits(int rank, std::span<const Key> mine, unsigned shift, Scratch& scratch) {
  const Key mask = static_cast<Key>(problem_.radix - 1);
  std::fill(scratch.counts.begin(), scratch.counts.end(), 0U);
  for (const Key key : mine) ++scratch.counts[static_cast<std::size_t>((key >> shift) & mask)];
  std::memcpy(counts_of(rank), scratch.counts.data(), problem_.radix * sizeof(std::uint32_t));
}

/// ranks[d] = keys with a smaller digit anywhere + keys with digit d at processors before this one.
void ParallelSort::rank_digits(int rank, Scratch& scratch) const {
  std::vector<std::size_t> totals(problem_.radix, 0);
  for (int p = 0; p < processors_; ++p) {
    const std::uint32_t* const row = counts_of(p);
    if (p == rank) scratch.ranks.assign(totals.begin(), totals.end());
    for (unsigned digit = 0; digit < problem_.radix; ++digit) totals[digit] += row[digit];
  }
  std::size_t before = 0;
  for (unsigned digit = 0; digit < problem_.radix; ++digit) {
    scratch.ranks[digit] += before;
    before += totals[digit];
  }
}

void ParallelSort::move_grouped(std::span<const Key> mine, unsigned shift, std::size_t start, Key* to, Scratch& scratch) const {
  const Key mask = static_cast<Key>(problem_.radix - 1);
  std::uint32_t before = 0;
  for (unsigned digit = 0; digit < problem_.radix; ++digit) {
    scratch.offsets[digit] = before;
    before += scratch.counts[digit];
  }
  for (const Key key : mine) scratch.grouped[scratch.offsets[static_cast<std::size_t>((key >> shift) & mask)]++] = key;

  const auto first = static_cast<std::size_t>(std::lower_bound(scratch.ranks.begin(), scratch.ranks.end(), start) - scratch.ranks.begin());
  for (unsigned turn = 0; turn < problem_.radix; ++turn) {
    const std::size_t digit = (first + turn) & (problem_.radix - 1);
    const std::uint32_t count = scratch.counts[digit];
    if (count == 0) continue;
    std::memcpy(to + scratch.ranks[digit], scratch.grouped.data() + (scratch.offsets[digit] - count), count * sizeof(Key));
  }
}

void ParallelSort::move_direct(std::span<const Key> mine, unsigned shift, Key* to, Scratch& scratch) const {
  const Key mask = static_cast<Key>(problem_.radix - 1);
  for (const Key key : mine) to[scratch.ranks[static_cast<std::size_t>((key >> shift) & mask)]++] = key;
}

}  // namespace splash2::radix
