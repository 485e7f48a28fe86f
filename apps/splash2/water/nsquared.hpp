// SPLASH-2's water-nsquared: every processor has a contiguous part of the molecules, and looks at each pair of one of its own and one of the
// next half of all. Forces on others' molecules are gathered in private memory and added to the shared ones once, under locks.
//
// 1. A pair belongs to the processor of its first molecule: i meets i+1 .. i+n/2 (round the end; for even n the last only if i < n/2).
// 2. Positions are written by their processor alone, between barriers; others' forces only under the lock of their group of molecules.
// 3. A processor adds to its own part first and goes round from there, so that no two begin at the same lock.
#pragma once

#include "apps/splash2/water/simulation.hpp"

namespace splash2::water {

class NSquared final : public Simulation {
 public:
  /// Collective, as the store is. A lock guards the forces on `group` molecules.
  NSquared(Store& store, const Parameters& parameters, std::size_t group);
  void for_each_of(int rank, const Visit& visit) const override;

 private:
  void make_input(Team& team) override;
  double find_forces(Team& team) override;
  void move(Team& /*team*/) override {}
  void add_forces(Team& team, const std::vector<Sites>& forces, const std::vector<char>& touched);
  [[nodiscard]] std::size_t slot(std::size_t molecule) const { return molecule / share_ * stride_ + molecule % share_; }
  [[nodiscard]] Part part(int rank) const;

  std::size_t share_;  ///< molecules of a processor, the last ones may have fewer
  std::size_t group_;
  std::size_t stride_ = 0;
  Parts<Sites> positions_;
  Parts<Sites> forces_;
  Parts<Motion> motions_;
  Parts<netvm::mutex> locks_;
};

}  // namespace splash2::water
