// SPLASH-2's cholesky: blocked sparse Cholesky factorization with dynamic scheduling (Rothberg, Gupta, Supercomputing 1993; Woo et al., ISCA 1995).
//
// 1. A task is a panel that has had all its updates. Its owner completes it, and subtracts what it contributes from its targets, each under the target's
//    lock; the last contribution puts the target into its owner's queue, and gives a permit of its semaphore.
// 2. A panel's values and its count of missing updates belong to its lock; the owner holds it while it completes the panel, after which nobody writes it.
//    So all that is shared is bound to the lock that it is used under: right under every protocol.
// 3. Contributions are computed in private memory, before the lock. They are subtracted in the order in which they come: rounding differs from run to run.
#pragma once

#include "apps/splash2/cholesky/symbolic.hpp"
#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/team.hpp"

namespace splash2::cholesky {

class Factorization {
 public:
  /// Collective, as the store is. The matrix and the structure are private to each node and must outlive this.
  Factorization(Store& store, const Matrix& matrix, const Structure& structure);
  /// Every member; once. Returns the time in all, and that of waiting for tasks.
  ProcessorTime run(Team& team);

  /// The factor; afterwards.
  [[nodiscard]] double* values(std::int32_t panel) const;

 private:
  struct State {
    netvm::mutex lock;
    std::int64_t missing;  ///< updates
  };
  struct Queue {
    netvm::mutex lock;
    std::int64_t count;
  };
  [[nodiscard]] const Panel& panel(std::int32_t index) const { return structure_.panels[static_cast<std::size_t>(index)]; }
  [[nodiscard]] State& state(std::int32_t index) const;
  void make_input(Team& team);
  void push(Team& team, std::int32_t index);
  std::int32_t pop(Team& team);
  void complete(Team& team, std::int32_t index);
  void update_targets(Team& team, std::int32_t index, std::vector<double>& product);
  bool subtract(Team& team, const Panel& from, std::int32_t target, std::size_t begin, std::size_t end, const std::vector<double>& product);

  const Matrix& matrix_;
  const Structure& structure_;
  std::vector<std::size_t> place_;  ///< of each panel among its owner's
  Parts<double> values_;
  Parts<State> states_;
  Parts<Queue> queues_;
  Parts<std::int32_t> ready_;
  Parts<netvm::counting_semaphore<>> tasks_;  ///< permits: tasks in the queue
};

}  // namespace splash2::cholesky
