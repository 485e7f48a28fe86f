// What is done with the table: all processors count keys of one stream, then all look keys up, half of which are there.
#pragma once

#include <netvm/netvm.hpp>

#include <cstdint>
#include <vector>

#include "apps/gas/hashtable/table.hpp"
#include "apps/splash2/common/job.hpp"

namespace gas::hashtable {

struct Parameters {
  std::uint64_t inserts = 1 << 18;
  std::uint64_t keys = 1 << 16;  ///< different ones
  double load = 0.5;             ///< share of the slots that is taken if keys spread evenly

  /// For each of `nodes`, with room for those that get more keys than others.
  [[nodiscard]] std::size_t buckets(int nodes) const;
};

/// The k-th key; and one that is not among them. Never 0.
std::uint64_t key_of(std::uint64_t k);
std::uint64_t missing_key_of(std::uint64_t k);
/// The key of the i-th insertion.
std::uint64_t inserted_key(const Parameters& parameters, std::uint64_t i);

/// What was done; the same at all processors, but for the time.
struct Result {
  splash2::ProcessorTime time;  ///< both phases, and this processor's own operations in them: what is left is waiting for others
  double insert_seconds = 0;
  double find_seconds = 0;
  std::uint64_t found = 0;     ///< of the keys that were inserted
  std::uint64_t phantoms = 0;  ///< of those that were not
  std::uint64_t fetched = 0;
  std::uint64_t lost = 0;
};

/// Every thread of parallel(); counts in the result are of all together.
Result run(netvm::Job& job, netvm::Thread& me, const Table& table, const Parameters& parameters);

/// The same by one processor in private memory.
class SequentialRun {
 public:
  /// Runs `runs` times and keeps the median time.
  SequentialRun(const Parameters& parameters, std::int64_t runs);
  [[nodiscard]] double seconds() const { return seconds_; }
  [[nodiscard]] std::uint64_t found() const { return found_; }
  /// The contents of all nodes' tables, key by key.
  [[nodiscard]] splash2::Check compare(std::vector<Slot> contents) const;

 private:
  std::vector<Slot> contents_;
  std::uint64_t found_ = 0;
  double seconds_ = 0;
};

/// The program's own test: what must hold of any right table.
std::vector<splash2::Check> self_test(const Parameters& parameters, const std::vector<Slot>& contents, const Result& result);

}  // namespace gas::hashtable
