// The one-dimensional FFT of one row: in place, radix 2, decimation in time. The roots of all stages lie one after another in a private table,
// so each stage reads its roots in order.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/splash2/fft/matrix.hpp"

namespace splash2::fft {

enum class Direction : std::uint8_t { forward, inverse };

class RowFft {
 public:
  /// `length` is a power of two.
  explicit RowFft(std::size_t length);
  /// Transforms `row` (length elements); the inverse does not divide by the length.
  void operator()(Complex* row, Direction direction) const;

 private:
  template <bool kInverse>
  void stages(Complex* row) const;

  std::size_t length_;
  std::vector<std::uint32_t> swaps_;  ///< pairs of places that bit reversal exchanges
  std::vector<Complex> roots_;        ///< stage by stage
};

}  // namespace splash2::fft
