#include "apps/splash2/radix/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "apps/splash2/common/random.hpp"

namespace splash2::radix {

namespace {

struct Digest {
  std::uint64_t inversions = 0;  ///< neighbours in the wrong order
  std::uint64_t input_sum = 0;
  std::uint64_t input_mix = 0;
  std::uint64_t sum = 0;
  std::uint64_t mix = 0;
};

Digest combine(const Digest& a, const Digest& b) {
  return {a.inversions + b.inversions, a.input_sum + b.input_sum, a.input_mix + b.input_mix, a.sum + b.sum, a.mix + b.mix};
}

std::uint64_t mixed(Key key) { return mix64(1, static_cast<std::uint64_t>(key)); }

std::vector<Key> make_input(const Problem& problem) {
  std::vector<Key> keys(problem.keys);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = problem.key(i);
  return keys;
}

/// Sorts `from`; the outcome is in it or in `other`, by the number of passes.
void sequential_sort(const Problem& problem, std::vector<Key>& from, std::vector<Key>& other, std::vector<std::size_t>& ranks) {
  const Key mask = static_cast<Key>(problem.radix - 1);
  for (int pass = 0; pass < problem.passes(); ++pass) {
    const unsigned shift = static_cast<unsigned>(pass) * problem.digit_bits();
    std::fill(ranks.begin(), ranks.end(), std::size_t{0});
    for (const Key key : from) ++ranks[static_cast<std::size_t>((key >> shift) & mask)];
    std::size_t before = 0;
    for (std::size_t& rank : ranks) before += std::exchange(rank, before);
    for (const Key key : from) other[ranks[static_cast<std::size_t>((key >> shift) & mask)]++] = key;
    from.swap(other);
  }
}

}  // namespace

Check self_test(netvm::Thread& me, const Problem& problem, std::span<const Key> sorted) {
  const Part part = Part::of(problem.keys, me.rank(), me.count());
  Digest mine;
  for (std::size_t i = part.first; i < part.last; ++i) {
    const Key key = sorted[i];
    const Key input = problem.key(i);
    if (i > 0 && sorted[i - 1] > key) ++mine.inversions;
    mine.sum += static_cast<std::uint64_t>(key);
    mine.mix += mixed(key);
    mine.input_sum += static_cast<std::uint64_t>(input);
    mine.input_mix += mixed(input);
  }
  const Digest all = me.reduce(mine, combine);
  const bool permutation = all.sum == all.input_sum && all.mix == all.input_mix;
  return {"self-test", all.inversions == 0 && permutation,
          all.inversions != 0 ? fmt::format("{} of {} neighbours out of order", all.inversions, problem.keys)
          : permutation       ? fmt::format("{} keys in order, checksum {:016x}", problem.keys, all.mix)
                              : fmt::format("not the keys of the input: checksum {:016x}, input's {:016x}", all.mix, all.input_mix)};
}

Check compare_with_std_sort(const Problem& problem, std::span<const Key> sorted) {
  std::vector<Key> expected = make_input(problem);
  std::sort(expected.begin(), expected.end());
  std::size_t different = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (sorted[i] != expected[i] && different++ == 0) first = i;
  }
  return {"reference", different == 0,
          different == 0 ? std::string("equal to std::sort's, key by key")
                         : fmt::format("{} keys differ from std::sort's, the first at {}: {} instead of {}", different, first,
                                       sorted[first], expected[first])};
}

double sequential_seconds(const Problem& problem, std::int64_t runs) {
  const std::vector<Key> input = make_input(problem);
  std::vector<Key> keys(problem.keys);
  std::vector<Key> other(problem.keys);
  std::vector<std::size_t> ranks(problem.radix);
  return median_seconds(
      runs, [&] { std::copy(input.begin(), input.end(), keys.begin()); }, [&] { sequential_sort(problem, keys, other, ranks); });
}

}  // namespace splash2::radix
