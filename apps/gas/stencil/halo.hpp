// The field among all processors, and how neighbours exchange their outermost cells: one-sided, without a barrier and without coherence.
//
// 1. After step k a processor sends its sides, computes the inside of step k + 1, waits for its neighbours' sides of step k, and computes the rim. It waits
//    for its neighbours alone: an event counter for each side counts the steps that have come.
// 2. Two buffers for each side, used in turn, are enough: a neighbour sends step k + 2 only after it has used this processor's step k + 1, which was sent
//    after this processor was through with step k.
// 3. Put: the sender writes into the receiver's inbox; the notification travels behind the data. Get: the sender leaves its side in its own outbox and
//    notifies; the receiver fetches it. By 2. nobody changes it meanwhile.
// 4. Construct, and collect(), on every node; run() on every thread of parallel().
#pragma once

#include <netvm/netvm.hpp>

#include <memory>
#include <vector>

#include "apps/gas/stencil/block.hpp"
#include "apps/splash2/common/job.hpp"

namespace gas::stencil {

/// How processors divide the field: `down` x `across` rectangles, numbered row by row.
struct Division {
  int down = 1;
  int across = 1;
  [[nodiscard]] Rectangle part(const Parameters& parameters, int rank) const;
  /// The processor on that side, or -1 at the field's edge.
  [[nodiscard]] int neighbour(int rank, Side side) const;
  /// The one with the shortest cuts. `processors` at most the larger of rows and columns.
  static Division best(const Parameters& parameters, int processors);
};

enum class Exchange { put, get };

class Field {
 public:
  Field(netvm::Job& job, const Parameters& parameters, Exchange exchange);

  /// All steps. Returns this processor's times: all, and waiting for neighbours.
  splash2::ProcessorTime run(netvm::Thread& me);
  /// The whole field, row by row, by gets: any node, after all have run.
  [[nodiscard]] std::vector<double> collect() const;
  [[nodiscard]] const Division& division() const { return division_; }
  /// Bytes that all processors together send in a step.
  [[nodiscard]] std::size_t bytes_a_step() const;

 private:
  [[nodiscard]] int node_of(int rank) const { return rank / threads_; }
  [[nodiscard]] double* strip(int rank, int step, Side side) const;
  [[nodiscard]] netvm::EventCounter& counter(int rank, Side side) const;
  void send(const Block& block, int rank, int step);
  void receive(Block& block, int rank, int step);

  Parameters parameters_;
  Exchange exchange_;
  int threads_;
  Division division_;
  std::size_t strip_;    ///< cells of the longest side
  std::size_t largest_;  ///< cells of the largest part
  double* strips_;       ///< symmetric: of each thread, step in turn, and side
  double* results_;      ///< symmetric: of each thread
  std::vector<std::unique_ptr<netvm::EventCounter>> counters_;
};

}  // namespace gas::stencil
