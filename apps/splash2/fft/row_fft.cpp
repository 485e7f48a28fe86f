#include "apps/splash2/fft/row_fft.hpp"

#include <bit>
#include <utility>

namespace splash2::fft {

RowFft::RowFft(std::size_t length) : length_(length) {
  const int bits = std::bit_width(length) - 1;
  for (std::uint32_t i = 0; i < length; ++i) {
    std::uint32_t reversed = 0;
    for (int bit = 0; bit < bits; ++bit) reversed |= ((i >> bit) & 1U) << (bits - 1 - bit);
    if (i < reversed) {
      swaps_.push_back(i);
      swaps_.push_back(reversed);
    }
  }
  for (std::size_t half = 1; half < length; half *= 2) {
    for (std::size_t k = 0; k < half; ++k) roots_.push_back(root_of_unity(k, 2 * half));
  }
}

template <bool kInverse>
void RowFft::stages(Complex* row) const {
  const Complex* roots = roots_.data();
  for (std::size_t half = 1; half < length_; half *= 2) {
    for (std::size_t block = 0; block < length_; block += 2 * half) {
      Complex* const low = row + block;
      Complex* const high = low + half;
      for (std::size_t k = 0; k < half; ++k) {
        const Complex turned = high[k] * (kInverse ? conj(roots[k]) : roots[k]);
        high[k] = low[k] - turned;
        low[k] = low[k] + turned;
      }
    }
    roots += half;
  }
}

void RowFft::operator()(Complex* row, Direction direction) const {
  for (std::size_t i = 0; i < swaps_.size(); i += 2) std::swap(row[swaps_[i]], row[swaps_[i + 1]]);
  if (direction == Direction::inverse) {
    stages<true>(row);
  } else {
    stages<false>(row);
  }
}

}  // namespace splash2::fft
