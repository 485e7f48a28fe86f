// Liquid water: what the two water programs of SPLASH-2 simulate, molecule by molecule, without parallelism.
//
// Molecules are flexible, with three charged sites (O, H, H) and a Lennard-Jones term between oxygens: SPC/Fw (Wu, Tepper, Voth, J. Chem. Phys.
// 124, 2006). Two molecules interact up to a cut-off between their oxygens; the interaction goes to zero smoothly, as a whole, over the last
// Angstrom. Newton's equations are integrated by Gear's predictor-corrector method with seven values, as in the suite.
//
// Units: Angstrom, picosecond, atomic mass unit, kcal/mol. The box is a cube and periodic; a molecule is moved as a whole when its oxygen leaves.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "apps/splash2/common/vec3.hpp"

namespace splash2::water {

inline constexpr int kSites = 3;        ///< O, H, H
inline constexpr int kDerivatives = 7;  ///< of a position, itself included

/// A vector for each site: positions, or forces.
struct Sites {
  Vec3 at[kSites];
};

/// Derivatives 1 to 6 of the positions, derivative q times dt^q / q!; and which molecule it is.
struct Motion {
  Sites derivative[kDerivatives - 1];
  std::uint64_t number = 0;
};

struct Energies {
  double kinetic = 0;
  double intra = 0;  ///< of bonds and angles
  double inter = 0;  ///< between molecules
  [[nodiscard]] double total() const { return kinetic + intra + inter; }
};

struct Parameters {
  std::size_t molecules = 512;
  int steps = 3;
  double time_step = 0.00015;  ///< ps
  double cutoff = 0;           ///< 0: half the box, at most 6.2

  /// Edge of the box, at the density of water.
  [[nodiscard]] double side() const;
  [[nodiscard]] double cutoff_used() const;
};

/// The first state: molecules on a cubic lattice, turned at random, with velocities of 298 K and no momentum in all.
class Input {
 public:
  explicit Input(const Parameters& parameters);
  void make(std::size_t number, Sites& position, Motion& motion) const;

 private:
  [[nodiscard]] Sites velocities(std::size_t number) const;
  Parameters parameters_;
  std::size_t lattice_;
  Vec3 drift_;
};

/// Forces within a molecule are written to `force`; returns the energy.
double intra_forces(const Sites& position, Sites& force);

/// The interaction of two molecules of a box.
class Pair {
 public:
  explicit Pair(const Parameters& parameters);
  /// Adds to the forces on both; returns the energy. Does nothing beyond the cut-off.
  double operator()(const Sites& a, const Sites& b, Sites& force_a, Sites& force_b) const;

 private:
  double side_;
  double cutoff2_;
  double start2_;  ///< square of the distance where it begins to fade
};

class Gear {
 public:
  explicit Gear(const Parameters& parameters) : dt_(parameters.time_step), side_(parameters.side()) {}
  /// At the start: the second derivatives, from the forces; and the third and fourth, from those where displace() brings the molecules.
  void set_acceleration(Motion& motion, const Sites& force) const;
  void displace(Sites& position, const Motion& motion, int steps) const;
  void set_higher_derivatives(Motion& motion, const Sites& force_before, const Sites& force_after) const;
  void predict(Sites& position, Motion& motion) const;
  /// Also brings the molecule back into the box. Returns its kinetic energy.
  double correct(Sites& position, Motion& motion, const Sites& force) const;
  [[nodiscard]] double kinetic(const Motion& motion) const;
  [[nodiscard]] Vec3 momentum(const Motion& motion) const;

 private:
  [[nodiscard]] Vec3 acceleration(const Sites& force, int site) const;
  double dt_;
  double side_;
};

}  // namespace splash2::water
