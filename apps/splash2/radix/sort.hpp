// The parallel radix sort of SPLASH-2 (Woo et al., ISCA 1995, after Blelloch et al., SPAA 1991): one pass a digit, least significant first.
// A pass: each processor counts the digits of its part of the keys; barrier; each learns, for every digit, the global rank of its first
// such key; it moves its keys there, into the other array; barrier.
//
// 1. Counts of a processor lie on pages of its own: one writer, read by all after the barrier. There is no tree: with whole rows of
//    counts on a page each, reading all rows costs P-1 page fetches and one barrier where a tree costs log2(P) barriers.
// 2. Moving is all-to-all. A processor first groups its keys by digit in private memory and then copies each group in one piece, so a page
//    of the target is written in as few pieces as the data allows; it starts with the digit that lies in its own part and goes round from
//    there, so that processors write to different pages at the same time. (Permutation::direct writes key by key, as the suite does.)
// 3. A processor's part of both arrays has its home at its node.
#pragma once

#include <netvm/netvm.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/layout.hpp"
#include "apps/splash2/common/partition.hpp"

namespace splash2::radix {

using Key = std::int32_t;

/// What is sorted, and in which steps.
struct Problem {
  std::size_t keys = 1'048'576;
  unsigned radix = 1024;          ///< power of two
  std::int64_t max_key = 524288;  ///< keys lie in [0, max_key)

  [[nodiscard]] unsigned digit_bits() const;
  /// Passes over the keys: digits of the largest key, at least one.
  [[nodiscard]] int passes() const;
  /// Key i of the input.
  [[nodiscard]] Key key(std::size_t i) const;
};

enum class Permutation : std::uint8_t { grouped, direct };

class ParallelSort {
 public:
  /// Collective.
  ParallelSort(netvm::Job& job, const Problem& problem, Permutation permutation, const LayoutOptions& layout = {});

  /// Makes the input and sorts it; every thread of a parallel(). Returns the time of the sort, and of its moving of keys.
  ProcessorTime run(netvm::Thread& me);

  /// The outcome, once run() is over.
  [[nodiscard]] std::span<const Key> sorted() const { return {arrays_[problem_.passes() % 2], problem_.keys}; }

 private:
  struct Scratch;
  void count_digits(int rank, std::span<const Key> mine, unsigned shift, Scratch& scratch);
  void rank_digits(int rank, Scratch& scratch) const;
  void move_grouped(std::span<const Key> mine, unsigned shift, std::size_t start, Key* to, Scratch& scratch) const;
  void move_direct(std::span<const Key> mine, unsigned shift, Key* to, Scratch& scratch) const;
  [[nodiscard]] std::uint32_t* counts_of(int rank) const { return counts_ + static_cast<std::size_t>(rank) * counts_stride_; }

  Problem problem_;
  Permutation permutation_;
  int processors_;
  Key* arrays_[2] = {};
  std::uint32_t* counts_;
  std::size_t counts_stride_;  ///< in words: a row of counts, on whole pages unless padding is off
};

}  // namespace splash2::radix
