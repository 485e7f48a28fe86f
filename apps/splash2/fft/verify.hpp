// Whether fft's answer is right, and what the same transform costs one processor in private memory.
#pragma once

#include <netvm/netvm.hpp>

#include "apps/splash2/fft/six_step.hpp"

namespace splash2::fft {

/// Errors are relative to the root mean square of what is expected; double rounding stays below 1e-14 at any size that fits a memory.
inline constexpr double kTolerance = 1e-12;

/// The kernel's own test, by all threads, after an inverse transform of the outcome: `back` equals the input.
Check compare_with_input(netvm::Thread& me, const Problem& problem, const RowLayout& layout, const Complex* back);

/// One thread, private memory: the outcome equals that of a plain recursive FFT of all points, another algorithm.
Check compare_with_recursive_fft(const Problem& problem, const RowLayout& layout, const Complex* outcome);

/// Median time of the six steps by one processor in private memory that was touched before.
double sequential_seconds(const Problem& problem, std::int64_t runs);

}  // namespace splash2::fft
