// The complex numbers and the square matrix that fft works on.
#pragma once

#include <cmath>
#include <cstddef>

#include "apps/splash2/common/partition.hpp"

namespace splash2::fft {

struct Complex {
  double re = 0;
  double im = 0;
};
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
inline Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
inline Complex conj(Complex a) { return {a.re, -a.im}; }
inline double norm(Complex a) { return a.re * a.re + a.im * a.im; }

/// exp(-2 pi i k / n).
inline Complex root_of_unity(std::size_t k, std::size_t n) {
  const double angle = -2 * M_PI * static_cast<double>(k) / static_cast<double>(n);
  return {std::cos(angle), std::sin(angle)};
}

/// Where the rows of a matrix lie: each processor's rows together, starting on a page of their own.
///
/// The suite lengthens each row by some elements, against power-of-two strides in the cache. Here a transpose goes through a small private
/// tile, so strides do not hurt; and a row of whole pages stays so, because then the columns that one processor reads of another's row do not
/// straddle more pages than they fill. Shorter rows are lengthened by one cache line.
class RowLayout {
 public:
  /// `pages`: whether each processor's rows begin on a page of their own.
  RowLayout(std::size_t edge, int processors, std::size_t line_elements, bool pages = true)
      : edge_(edge), processors_(processors), stride_(edge * sizeof(Complex) % kPageBytes == 0 ? edge : edge + line_elements) {
    const std::size_t most_rows = (edge + static_cast<std::size_t>(processors) - 1) / static_cast<std::size_t>(processors);
    part_elements_ = most_rows * stride_;
    if (pages) part_elements_ = whole_pages(part_elements_ * sizeof(Complex)) / sizeof(Complex);
  }

  [[nodiscard]] std::size_t edge() const { return edge_; }
  [[nodiscard]] int processors() const { return processors_; }
  [[nodiscard]] Part rows_of(int processor) const { return Part::of(edge_, processor, processors_); }
  /// Elements of memory for the whole matrix.
  [[nodiscard]] std::size_t elements() const { return part_elements_ * static_cast<std::size_t>(processors_); }
  /// First element of a row of `owner`'s, as an offset.
  [[nodiscard]] std::size_t row(int owner, std::size_t row) const {
    return part_elements_ * static_cast<std::size_t>(owner) + (row - rows_of(owner).first) * stride_;
  }
  [[nodiscard]] std::size_t stride() const { return stride_; }

 private:
  std::size_t edge_;
  int processors_;
  std::size_t stride_;
  std::size_t part_elements_;
};

}  // namespace splash2::fft
