#include "apps/splash2/water/simulation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace splash2::water {

namespace {

constexpr double kMostDrift = 1e-4;       // of the energy, by the kinetic energy: at the default step it is a part in 1e7
constexpr double kMostMomentum = 1e-9;    // by the molecules' magnitudes
constexpr double kMostDifference = 1e-8;  // to the reference: the order of summation of forces, over some thousand steps

}  // namespace

Result Simulation::run(Team& team) {
  Result result;
  make_input(team);
  Energies mine;
  mine.intra = intra(team);
  mine.inter = find_forces(team);
  for_each_of(team.rank(), [&](Sites& /*position*/, Motion& motion, Sites& force) {
    mine.kinetic += gear_.kinetic(motion);
    gear_.set_acceleration(motion, force);
  });
  find_higher_derivatives(team);
  result.first = sum(team, mine);

  const double start = clock_seconds();
  for (int step = 0; step < parameters_.steps; ++step) {
    for_each_of(team.rank(), [&](Sites& position, Motion& motion, Sites& /*force*/) { gear_.predict(position, motion); });
    mine.intra = intra(team);
    const double before = clock_seconds();
    mine.inter = find_forces(team);
    result.time.part += clock_seconds() - before;
    mine.kinetic = 0;
    for_each_of(team.rank(),
                [&](Sites& position, Motion& motion, Sites& force) { mine.kinetic += gear_.correct(position, motion, force); });
    move(team);
  }
  result.last = sum(team, mine);
  result.time.total = clock_seconds() - start;

  Vec3 momentum;
  double magnitudes = 0;
  for_each_of(team.rank(), [&](Sites& /*position*/, Motion& motion, Sites& /*force*/) {
    const Vec3 own = gear_.momentum(motion);
    momentum += own;
    magnitudes += length(own);
  });
  const Vec3 all{team.sum(momentum.x), team.sum(momentum.y), team.sum(momentum.z)};
  const double scale = team.sum(magnitudes);
  result.momentum = scale > 0 ? length(all) / scale : 0;
  return result;
}

/// From the forces a step before and a step after: without third and fourth derivatives, the first steps would lose energy.
void Simulation::find_higher_derivatives(Team& team) {
  std::vector<Sites> start;
  for_each_of(team.rank(), [&](Sites& position, Motion& /*motion*/, Sites& /*force*/) { start.push_back(position); });
  std::vector<Sites> forces[2];
  for (const int side : {0, 1}) {
    for_each_of(team.rank(),
                [&](Sites& position, Motion& motion, Sites& /*force*/) { gear_.displace(position, motion, side == 0 ? -1 : 1); });
    intra(team);
    find_forces(team);
    std::size_t at = 0;
    for_each_of(team.rank(), [&](Sites& position, Motion& /*motion*/, Sites& force) {
      forces[side].push_back(force);
      position = start[at++];
    });
  }
  std::size_t at = 0;
  for_each_of(team.rank(), [&](Sites& /*position*/, Motion& motion, Sites& /*force*/) {
    gear_.set_higher_derivatives(motion, forces[0][at], forces[1][at]);
    ++at;
  });
}

double Simulation::intra(const Team& team) const {
  double energy = 0;
  for_each_of(team.rank(), [&](Sites& position, Motion& /*motion*/, Sites& force) { energy += intra_forces(position, force); });
  return energy;
}

Energies Simulation::sum(Team& team, const Energies& mine) const {
  return {team.sum(mine.kinetic), team.sum(mine.intra), team.sum(mine.inter)};
}

std::vector<Check> self_test(const Parameters& parameters, const Result& result) {
  const double drift = std::abs(result.last.total() - result.first.total()) / result.first.kinetic;
  const bool finite = std::isfinite(drift);
  return {{"energy", finite && drift <= kMostDrift,
           finite ? fmt::format(
                        "kinetic {:.6f}, bonds {:.6f}, between molecules {:.6f} kcal/mol; the sum changed by {:.1e} of the kinetic energy "
                        "in {} steps, {:.0e} allowed",
                        result.last.kinetic, result.last.intra, result.last.inter, drift, parameters.steps, kMostDrift)
                  : std::string("is not finite: the time step is too long; give a smaller --time-step")},
          {"momentum", result.momentum <= kMostMomentum,
           fmt::format("{:.1e} of the molecules' magnitudes, {:.0e} allowed", result.momentum, kMostMomentum)}};
}

Check compare(const Parameters& parameters, const Simulation& simulation, int processors, const Result& result, const Simulation& reference,
              const Result& expected) {
  std::vector<Sites> right(parameters.molecules);
  std::vector<int> seen(parameters.molecules, 0);
  reference.for_each_of(0, [&](Sites& position, Motion& motion, Sites& /*force*/) { right[motion.number] = position; });
  const double side = parameters.side();
  double worst = 0;
  bool finite = true;
  bool known = true;
  for (int rank = 0; rank < processors; ++rank) {
    simulation.for_each_of(rank, [&](Sites& position, Motion& motion, Sites& /*force*/) {
      if (motion.number >= parameters.molecules) {
        known = false;
        return;
      }
      ++seen[motion.number];
      for (int s = 0; s < kSites; ++s) {
        Vec3 apart = position.at[s] - right[motion.number].at[s];
        for (int axis = 0; axis < 3; ++axis) apart[axis] -= side * std::nearbyint(apart[axis] / side);  // at the wall, rounding decides
        finite = finite && std::isfinite(norm2(apart));
        worst = std::max(worst, length(apart));
      }
    });
  }
  const bool complete = known && std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; });
  const double scale = std::abs(expected.last.kinetic);
  double energies = 0;
  for (const double Energies::*part : {&Energies::kinetic, &Energies::intra, &Energies::inter}) {
    const double difference = std::abs(result.last.*part - expected.last.*part) / scale;
    finite = finite && std::isfinite(difference);
    energies = std::max(energies, difference);
  }
  return {"reference", complete && finite && worst <= kMostDifference && energies <= kMostDifference,
          complete ? fmt::format("positions differ from the sequential run's by {:.1e} Angstrom, energies by {:.1e} of the kinetic energy, "
                                 "{:.0e} allowed",
                                 worst, energies, kMostDifference)
                   : std::string("molecules are missing, or there twice")};
}

}  // namespace splash2::water
