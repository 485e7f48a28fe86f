// SPLASH-2's water-spatial: the box is divided into cells with edges of at least the cut-off, and each processor has a block of cells. A processor
// looks only at pairs within its cells and with the cells next to them; so the work grows with the molecules, not with their square.
//
// 1. A pair within a processor's cells is computed once. A pair with another's cell is computed by both, each for its own molecule: so forces
//    are written by their processor alone and need no locks; each counts half of the energy.
// 2. A molecule's data stay where they were made; the lists of the cells link them. A list is read by all while forces are found, and changed
//    in two phases with a barrier between: each processor unlinks what has left its cells; then links it into the new cell, under that cell's lock.
// 3. Cells are wider than the cut-off by kSkin: a molecule is listed by its corrected place, and its predicted one may be a little outside.
#pragma once

#include "apps/splash2/water/simulation.hpp"

namespace splash2::water {

class Spatial final : public Simulation {
 public:
  /// Collective, as the store is.
  Spatial(Store& store, const Parameters& parameters);
  void for_each_of(int rank, const Visit& visit) const override;

  [[nodiscard]] std::size_t cells_a_side() const { return cells_a_side_; }

 private:
  static constexpr double kSkin = 0.1;  // Angstrom
  struct Cell {
    netvm::mutex lock;
    std::int64_t first;  ///< slot of the first molecule, plus one; 0: none
  };
  void make_input(Team& team) override;
  double find_forces(Team& team) override;
  void move(Team& team) override;
  [[nodiscard]] std::size_t cell_at(const Vec3& oxygen) const;
  [[nodiscard]] Cell& cell(std::size_t index) const { return cells_.of(owner_[index])[place_[index]]; }
  /// next_[slot]: like Cell::first.
  template <class F>
  void for_each_in(std::size_t cell_index, F f) const {
    for (std::int64_t at = cell(cell_index).first; at != 0; at = next_.all()[at - 1]) f(static_cast<std::size_t>(at - 1));
  }
  double between(Team& team, std::size_t mine, std::size_t other) const;

  std::size_t cells_a_side_;
  int processors_;
  std::vector<int> owner_;                            ///< of each cell
  std::vector<std::size_t> place_;                    ///< of each cell, among its owner's
  std::vector<std::vector<std::size_t>> cells_of_;    ///< of each processor
  std::vector<std::vector<std::size_t>> neighbours_;  ///< of each cell, each once, without itself
  std::vector<std::vector<std::size_t>> numbers_;     ///< of the molecules that each processor makes
  Parts<Cell> cells_;
  Parts<std::int64_t> next_;
  Parts<Sites> positions_;
  Parts<Sites> forces_;
  Parts<Motion> motions_;
};

}  // namespace splash2::water
