// Where a program's shared data lie: options that every program with data of its own per processor has, and memory that obeys them.
//
// 1. With --placement owner and --padding pages a processor's part lies on pages of its own, at its node: no page is written by two nodes without need.
// 2. The other values are there to measure what that is worth; the answer never depends on them.
#pragma once

#include <netvm/netvm.hpp>

#include <algorithm>
#include <string>

#include "apps/splash2/common/options.hpp"
#include "apps/splash2/common/partition.hpp"

namespace splash2 {

struct LayoutOptions {
  std::string placement = "owner";
  std::string padding = "pages";

  void add_to(Options& options);
  [[nodiscard]] netvm::AllocationOptions allocation(netvm::Consistency needs = netvm::Consistency::any) const;
  /// Objects of `bytes` each that a processor's part takes if it holds `count` of them.
  [[nodiscard]] std::size_t padded(std::size_t count, std::size_t bytes) const;
};

/// Number of processors of a job.
inline int processors_of(const netvm::Job& job) { return job.nodes() * job.threads_per_node(); }

/// Shared memory in equal parts, one a processor. Cheap to copy; the memory lives until the job ends.
template <class T>
class SharedParts {
 public:
  SharedParts() = default;
  /// Collective. Each part has room for `count` objects.
  SharedParts(netvm::Job& job, std::size_t count, const LayoutOptions& layout, netvm::Consistency needs = netvm::Consistency::any)
      : stride_(std::max<std::size_t>(1, layout.padded(count, sizeof(T)))),
        memory_(job.allocate_all<T>(stride_ * static_cast<std::size_t>(processors_of(job)), layout.allocation(needs))) {}

  [[nodiscard]] T* of(int rank) const { return memory_ + static_cast<std::size_t>(rank) * stride_; }
  [[nodiscard]] T* all() const { return memory_; }
  /// Objects from one part's begin to the next one's.
  [[nodiscard]] std::size_t stride() const { return stride_; }

 private:
  std::size_t stride_ = 0;
  T* memory_ = nullptr;
};

}  // namespace splash2
