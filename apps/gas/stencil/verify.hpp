// Whether the field is right.
#pragma once

#include <vector>

#include "apps/gas/stencil/block.hpp"
#include "apps/splash2/common/job.hpp"

namespace gas::stencil {

/// The program's own test: the waves that the field is made of have kept their shape and shrunk as the scheme demands.
splash2::Check check_exact(const Parameters& parameters, const std::vector<double>& field);

/// The same steps by one processor.
class SequentialRun {
 public:
  /// Runs `runs` times and keeps the median time.
  SequentialRun(const Parameters& parameters, std::int64_t runs);
  [[nodiscard]] double seconds() const { return seconds_; }
  /// Cell by cell, bit by bit.
  [[nodiscard]] splash2::Check compare(const std::vector<double>& field) const;

 private:
  Parameters parameters_;
  Block block_;
  double seconds_ = 0;
};

}  // namespace gas::stencil
