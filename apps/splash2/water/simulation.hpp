// A simulation of water by a team: what is common to both programs. A step predicts, finds the forces between molecules (where the programs
// differ), corrects, and brings molecules to where they belong.
#pragma once

#include <functional>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/team.hpp"
#include "apps/splash2/water/model.hpp"

namespace splash2::water {

/// What came out; the same at all members.
struct Result {
  Energies first;       ///< before the first step
  Energies last;        ///< of the last step's forces and corrected velocities
  double momentum = 0;  ///< at the end, by the sum of the molecules' magnitudes
  ProcessorTime time;   ///< of this member: the steps, and the forces between molecules in them
};

class Simulation {
 public:
  explicit Simulation(const Parameters& parameters) : parameters_(parameters), pair_(parameters), gear_(parameters) {}
  virtual ~Simulation() = default;
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  /// Makes the first state and runs all steps; every member calls.
  Result run(Team& team);

  using Visit = std::function<void(Sites& position, Motion& motion, Sites& force)>;
  /// All molecules of a member, in any order.
  virtual void for_each_of(int rank, const Visit& visit) const = 0;

 protected:
  [[nodiscard]] const Parameters& parameters() const { return parameters_; }
  [[nodiscard]] const Pair& pair() const { return pair_; }

  virtual void make_input(Team& team) = 0;
  /// Positions of own molecules are set, and own forces are those within the molecule. On return all have their forces. Returns
  /// a share of the energy between molecules: the shares of all make the whole. A barrier at both ends.
  virtual double find_forces(Team& team) = 0;
  /// Own molecules may have left where they belong.
  virtual void move(Team& team) = 0;

 private:
  void find_higher_derivatives(Team& team);
  double intra(const Team& team) const;
  Energies sum(Team& team, const Energies& mine) const;

  Parameters parameters_;
  Pair pair_;
  Gear gear_;
};

/// The program's own test: energy and momentum are kept.
std::vector<Check> self_test(const Parameters& parameters, const Result& result);
/// The run's molecules and energies beside those of a run by one processor in private memory.
Check compare(const Parameters& parameters, const Simulation& simulation, int processors, const Result& result, const Simulation& reference,
              const Result& expected);

}  // namespace splash2::water
