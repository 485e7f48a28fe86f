// The six-step FFT of SPLASH-2 (Woo et al., ISCA 1995; Bailey, Journal of Supercomputing 1990): n = r * r points as an r x r matrix, rows
// divided among processors. Transpose; FFT of each row; times the roots of unity of n; transpose; FFT of each row; transpose.
//
// 1. Only the transposes communicate: a processor reads from each other one a block of its rows and writes rows of its own. It begins with the
//    processor after itself and goes round (staggered), so no two read from the same one at a time, and ends with its own block.
// 2. Blocks are moved in square patches, read and written row by row, that fit the cache that -n and -l describe.
// 3. Each processor's rows of the three matrices have their home at its node; the roots of unity are written once, before.
// 4. Barriers stand before a transpose, whose source all must have finished, and nowhere else.
#pragma once

#include <netvm/netvm.hpp>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/fft/row_fft.hpp"

namespace splash2::fft {

/// What is transformed.
struct Problem {
  int log2_points = 16;  ///< even
  std::size_t cache_lines = 65536;
  int log2_line = 4;

  [[nodiscard]] std::size_t points() const { return std::size_t{1} << log2_points; }
  [[nodiscard]] std::size_t edge() const { return std::size_t{1} << (log2_points / 2); }
  [[nodiscard]] std::size_t line_elements() const;
  /// Edge of the square patches of a transpose: a power of two, at most `rows`.
  [[nodiscard]] std::size_t patch_edge(std::size_t rows) const;
  /// Point i of the input: both parts uniform in [-1, 1).
  [[nodiscard]] Complex input(std::size_t i) const;
};

/// The three matrices, wherever they lie: `data` holds the input, `other` is used on the way and holds the outcome, `roots` holds at
/// (row j, column k) the root of unity w^(j k).
struct Matrices {
  Complex* data = nullptr;
  Complex* other = nullptr;
  Complex* roots = nullptr;
};

/// One processor's share of the six steps; private to its thread.
class Worker {
 public:
  Worker(const Problem& problem, const RowLayout& layout, int rank);

  void make_input(const Matrices& matrices) const;
  void make_roots(const Matrices& matrices) const;
  /// From the columns of all to the rows of this processor.
  void transpose(const Complex* from, Complex* to);
  /// Steps 2 and 3: the FFT of each own row, and its product with the roots.
  void transform_and_turn(Complex* matrix, const Complex* roots, Direction direction) const;
  /// Step 5: the FFT of each own row; the inverse divides by the number of points.
  void transform(Complex* matrix, Direction direction) const;

 private:
  void transpose_block(const Complex* from, Complex* to, int owner);

  Problem problem_;
  RowLayout layout_;
  int rank_;
  Part rows_;
  RowFft row_fft_;
  std::size_t patch_;
  std::vector<Complex> tile_;
};

/// All six steps: this processor's share. `wait` is called where all must have come. Returns seconds in all and in transposes. Without a
/// barrier at the end: the caller's.
template <class Wait>
ProcessorTime six_steps(Worker& worker, const Matrices& m, Direction direction, Wait wait) {
  ProcessorTime time;
  const double start = clock_seconds();
  const auto transpose = [&](const Complex* from, Complex* to) {
    wait();
    const double before = clock_seconds();
    worker.transpose(from, to);
    time.part += clock_seconds() - before;
  };
  transpose(m.data, m.other);
  worker.transform_and_turn(m.other, m.roots, direction);
  transpose(m.other, m.data);
  worker.transform(m.data, direction);
  transpose(m.data, m.other);
  wait();
  time.total = clock_seconds() - start;
  return time;
}

}  // namespace splash2::fft
