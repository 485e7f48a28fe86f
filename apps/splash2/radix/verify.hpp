// Whether radix's answer is right, and what the same sort costs one processor in private memory.
#pragma once

#include <netvm/netvm.hpp>

#include <span>

#include "apps/splash2/radix/sort.hpp"

namespace splash2::radix {

/// The kernel's own test, by all threads: the keys are in order, and are the input's (count, sum and sum of mixed keys agree).
Check self_test(netvm::Thread& me, const Problem& problem, std::span<const Key> sorted);

/// One thread, private memory: the result equals std::sort's, key by key.
Check compare_with_std_sort(const Problem& problem, std::span<const Key> sorted);

/// Median time of a sequential radix sort with the same digits, in private memory that was touched before.
double sequential_seconds(const Problem& problem, std::int64_t runs);

}  // namespace splash2::radix
