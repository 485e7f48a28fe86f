// Placement: on which node the next thread of a pthreads program runs (NETVM_PLACE, netvmrun --place).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace netvm::kit {

class Placement {
 public:
  /// "cyclic": one node after the other, from node 0 on. "block" or "block:N": N threads (NETVM_THREADS of them) to a node, then the next.
  /// "0,1,1,3": these nodes in turn. Throws Error with what is right.
  static Placement parse(std::string_view text, int nodes, int threads_per_node);
  /// Of the n-th thread that the program creates, from 0 on.
  [[nodiscard]] int node_of(std::uint64_t n) const { return turn_[n % turn_.size()]; }

 private:
  std::vector<int> turn_;
};

}  // namespace netvm::kit
