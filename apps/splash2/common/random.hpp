// The kernels' inputs: element i depends on i alone, so each thread makes its own part and the input is the same at any number of
// processors. The mixing function is splitmix64's (Steele, Lea, Flood, OOPSLA 2014) applied to a counter.
#pragma once

#include <cstdint>

namespace splash2 {

/// 64 well-mixed bits for (stream, index).
constexpr std::uint64_t mix64(std::uint64_t stream, std::uint64_t index) {
  std::uint64_t z = (stream * 0xd1b54a32d192ed03U) + (index + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

/// Uniform in [0, bound): the high half of a 64 x 64 bit product, no division.
constexpr std::uint64_t uniform_below(std::uint64_t bits, std::uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(bits) * bound) >> 64);
}

/// Uniform in [-1, 1), a multiple of 2^-52.
constexpr double uniform_signed(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-52 - 1.0; }

/// Uniform in [0, 1), a multiple of 2^-53.
constexpr double uniform_unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

/// Numbers of one stream, one after the other: for an input that is made as a whole.
class Sequence {
 public:
  explicit constexpr Sequence(std::uint64_t stream) : stream_(stream) {}
  constexpr std::uint64_t bits() { return mix64(stream_, next_++); }
  constexpr double unit() { return uniform_unit(bits()); }
  constexpr double between(double least, double most) { return least + (most - least) * unit(); }

 private:
  std::uint64_t stream_;
  std::uint64_t next_ = 0;
};

}  // namespace splash2
