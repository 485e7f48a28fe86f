#include "apps/splash2/water/spatial.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace splash2::water {

namespace {

/// Three factors of `count`, as equal as can be.
std::array<int, 3> box_of_processors(int count) {
  std::array<int, 3> best{count, 1, 1};
  for (int x = 1; x <= count; ++x) {
    if (count % x != 0) continue;
    for (int y = 1; y <= count / x; ++y) {
      if (count / x % y != 0) continue;
      const std::array<int, 3> tried{x, y, count / x / y};
      if (tried[0] + tried[1] + tried[2] < best[0] + best[1] + best[2]) best = tried;
    }
  }
  return best;
}

/// Which of `parts` parts of 0 .. items-1 holds `index`.
int part_with(std::size_t index, std::size_t items, int parts) {
  int part = 0;
  while (index >= Part::of(items, part, parts).last) ++part;
  return part;
}

}  // namespace

Spatial::Spatial(Store& store, const Parameters& parameters)
    : Simulation(parameters),
      cells_a_side_(std::max<std::size_t>(1, static_cast<std::size_t>(parameters.side() / (parameters.cutoff_used() + kSkin)))),
      processors_(store.processors()) {
  const std::size_t m = cells_a_side_;
  const std::array<int, 3> box = box_of_processors(processors_);
  cells_of_.resize(static_cast<std::size_t>(processors_));
  numbers_.resize(static_cast<std::size_t>(processors_));
  for (std::size_t index = 0; index < m * m * m; ++index) {
    const std::array<std::size_t, 3> at{index % m, index / m % m, index / m / m};
    const int owner = (part_with(at[2], m, box[2]) * box[1] + part_with(at[1], m, box[1])) * box[0] + part_with(at[0], m, box[0]);
    owner_.push_back(owner);
    place_.push_back(cells_of_[static_cast<std::size_t>(owner)].size());
    cells_of_[static_cast<std::size_t>(owner)].push_back(index);
    std::vector<std::size_t>& next_to = neighbours_.emplace_back();
    for (std::size_t around = 0; around < 27; ++around) {
      const std::size_t x = (at[0] + m + around % 3 - 1) % m;
      const std::size_t y = (at[1] + m + around / 3 % 3 - 1) % m;
      const std::size_t z = (at[2] + m + around / 9 - 1) % m;
      const std::size_t other = (z * m + y) * m + x;
      if (other != index) next_to.push_back(other);
    }
    std::sort(next_to.begin(), next_to.end());  // in a narrow box one cell lies on several sides
    next_to.erase(std::unique(next_to.begin(), next_to.end()), next_to.end());
  }

  const Input input(parameters);
  std::size_t most = 0;
  std::size_t most_cells = 0;
  for (std::size_t number = 0; number < parameters.molecules; ++number) {
    Sites position;
    Motion motion;
    input.make(number, position, motion);
    numbers_[static_cast<std::size_t>(owner_[cell_at(position.at[0])])].push_back(number);
  }
  for (std::size_t rank = 0; rank < numbers_.size(); ++rank) {
    most = std::max(most, numbers_[rank].size());
    most_cells = std::max(most_cells, cells_of_[rank].size());
  }
  cells_ = store.parts<Cell>(most_cells);
  // Slots number all arrays alike, so their strides must agree: the largest stride of all is that of what is smallest.
  next_ = store.parts<std::int64_t>(most);
  positions_ = store.parts<Sites>(next_.stride());
  forces_ = store.parts<Sites>(next_.stride());
  motions_ = store.parts<Motion>(next_.stride());
  for (std::size_t index = 0; index < owner_.size(); ++index) store.bind(cell(index).lock, &cell(index).first);
}

std::size_t Spatial::cell_at(const Vec3& oxygen) const {
  const double scale = static_cast<double>(cells_a_side_) / parameters().side();
  const auto along = [&](double x) { return std::min(cells_a_side_ - 1, static_cast<std::size_t>(std::max(0.0, x * scale))); };
  return (along(oxygen.z) * cells_a_side_ + along(oxygen.y)) * cells_a_side_ + along(oxygen.x);
}

void Spatial::for_each_of(int rank, const Visit& visit) const {
  for (const std::size_t index : cells_of_[static_cast<std::size_t>(rank)])
    for_each_in(index, [&](std::size_t slot) { visit(positions_.all()[slot], motions_.all()[slot], forces_.all()[slot]); });
}

void Spatial::make_input(Team& team) {
  const Input input(parameters());
  std::size_t slot = static_cast<std::size_t>(team.rank()) * next_.stride();
  for (const std::size_t number : numbers_[static_cast<std::size_t>(team.rank())]) {
    input.make(number, positions_.all()[slot], motions_.all()[slot]);
    Cell& home = cell(cell_at(positions_.all()[slot].at[0]));
    next_.all()[slot] = home.first;
    home.first = static_cast<std::int64_t>(++slot);
  }
}

double Spatial::find_forces(Team& team) {
  team.barrier();
  double energy = 0;
  for (const std::size_t mine : cells_of_[static_cast<std::size_t>(team.rank())]) {
    for (std::int64_t a = cell(mine).first; a != 0; a = next_.all()[a - 1]) {
      for (std::int64_t b = next_.all()[a - 1]; b != 0; b = next_.all()[b - 1])
        energy += pair()(positions_.all()[a - 1], positions_.all()[b - 1], forces_.all()[a - 1], forces_.all()[b - 1]);
    }
    for (const std::size_t other : neighbours_[mine]) {
      if (owner_[other] != team.rank() || mine < other) energy += between(team, mine, other);
    }
  }
  team.barrier();
  return energy;
}

double Spatial::between(Team& team, std::size_t mine, std::size_t other) const {
  const bool both = owner_[other] == team.rank();
  Sites ignored;
  double energy = 0;
  for_each_in(mine, [&](std::size_t a) {
    for_each_in(other, [&](std::size_t b) {
      energy += pair()(positions_.all()[a], positions_.all()[b], forces_.all()[a], both ? forces_.all()[b] : ignored);
    });
  });
  return both ? energy : energy / 2;
}

void Spatial::move(Team& team) {
  std::vector<std::int64_t> leavers;
  for (const std::size_t index : cells_of_[static_cast<std::size_t>(team.rank())]) {
    std::int64_t* link = &cell(index).first;
    while (*link != 0) {
      const std::int64_t at = *link;
      std::int64_t* const next = next_.all() + (at - 1);
      if (cell_at(positions_.all()[at - 1].at[0]) == index) {
        link = next;
      } else {
        leavers.push_back(at);
        *link = *next;
      }
    }
  }
  team.barrier();
  for (const std::int64_t at : leavers) {
    Cell& to = cell(cell_at(positions_.all()[at - 1].at[0]));
    const TeamLock guard(team, to.lock);
    next_.all()[at - 1] = to.first;
    to.first = at;
  }
  team.barrier();
}

}  // namespace splash2::water
