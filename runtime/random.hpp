// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014): one word of state, passes
// BigCrush, and any seed is a good one. For seeds, jitter and tests; not for secrets.
#pragma once

#include <cstdint>

namespace netvm {

inline constexpr std::uint64_t kSplitMixStep = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, odd

/// A bijection of 64 bits in which every input bit changes every output bit with probability one half.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// A reproducible stream of 64-bit words. One thread at a time.
class SplitMix64 {
 public:
  explicit constexpr SplitMix64(std::uint64_t seed) : state_(seed) {}
  constexpr std::uint64_t next() { return mix64(state_ += kSplitMixStep); }
  /// 0 .. bound-1; bound must not be 0. The bias of the remainder is below 2^-32 for bounds below 2^32.
  constexpr std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t state_;
};

}  // namespace netvm
