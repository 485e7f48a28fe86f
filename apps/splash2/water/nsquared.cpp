#include "apps/splash2/water/nsquared.hpp"

#include <algorithm>

namespace splash2::water {

NSquared::NSquared(Store& store, const Parameters& parameters, std::size_t group)
    : Simulation(parameters),
      share_((parameters.molecules + static_cast<std::size_t>(store.processors()) - 1) / static_cast<std::size_t>(store.processors())),
      group_(group),
      positions_(store.parts<Sites>(share_)),
      forces_(store.parts<Sites>(share_)),
      motions_(store.parts<Motion>(share_)),
      locks_(store.parts<netvm::mutex>((share_ + group - 1) / group)) {
  stride_ = positions_.stride();
  for (int rank = 0; rank < store.processors(); ++rank) {
    for (std::size_t first = 0; first < part(rank).size(); first += group_)
      store.bind(locks_.of(rank)[first / group_], forces_.of(rank) + first, std::min(group_, part(rank).size() - first));
  }
}

Part NSquared::part(int rank) const {
  const std::size_t first = std::min(parameters().molecules, share_ * static_cast<std::size_t>(rank));
  return {first, std::min(parameters().molecules, first + share_)};
}

void NSquared::for_each_of(int rank, const Visit& visit) const {
  for (std::size_t i = 0; i < part(rank).size(); ++i) visit(positions_.of(rank)[i], motions_.of(rank)[i], forces_.of(rank)[i]);
}

void NSquared::make_input(Team& team) {
  const Input input(parameters());
  std::size_t number = part(team.rank()).first;
  for_each_of(team.rank(), [&](Sites& position, Motion& motion, Sites& force) {
    input.make(number++, position, motion);
    force = Sites{};
  });
}

double NSquared::find_forces(Team& team) {
  team.barrier();
  const std::size_t n = parameters().molecules;
  std::vector<Sites> forces(n);
  std::vector<char> touched((n + share_ - 1) / share_ * ((share_ + group_ - 1) / group_), 0);
  const std::size_t groups = (share_ + group_ - 1) / group_;
  const auto touch = [&](std::size_t i) { touched[i / share_ * groups + i % share_ / group_] = 1; };
  double energy = 0;
  const Part own = part(team.rank());
  for (std::size_t i = own.first; i < own.last; ++i) {
    const Sites& position = positions_.all()[slot(i)];
    const std::size_t partners = n % 2 == 0 && i >= n / 2 ? n / 2 - 1 : n / 2;
    for (std::size_t ahead = 1; ahead <= partners; ++ahead) {
      const std::size_t j = (i + ahead) % n;
      const double found = pair()(position, positions_.all()[slot(j)], forces[i], forces[j]);
      if (found == 0) continue;
      energy += found;
      touch(i);
      touch(j);
    }
  }
  add_forces(team, forces, touched);
  team.barrier();
  return energy;
}

void NSquared::add_forces(Team& team, const std::vector<Sites>& forces, const std::vector<char>& touched) {
  const std::size_t groups = (share_ + group_ - 1) / group_;
  for (int turn = 0; turn < team.count(); ++turn) {
    const int rank = (team.rank() + turn) % team.count();
    const Part theirs = part(rank);
    for (std::size_t group = 0; group * group_ < theirs.size(); ++group) {
      if (touched[static_cast<std::size_t>(rank) * groups + group] == 0) continue;
      const TeamLock guard(team, locks_.of(rank)[group]);
      const std::size_t end = std::min(theirs.size(), (group + 1) * group_);
      for (std::size_t i = group * group_; i < end; ++i) {
        for (int s = 0; s < kSites; ++s) forces_.of(rank)[i].at[s] += forces[theirs.first + i].at[s];
      }
    }
  }
}

}  // namespace splash2::water
