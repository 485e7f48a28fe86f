#include "apps/splash2/radiosity/solver.hpp"

#include <cmath>

namespace splash2::radiosity {

namespace {

double mean(Vec3 colour) { return (colour.x + colour.y + colour.z) / 3; }

}  // namespace

Solver::Solver(Store& store, const Model& model, const Parameters& parameters)
    : parameters_(parameters),
      bsp_(store, model.patches),
      elements_(store, model.patches, parameters.least_area, parameters.elements),
      queues_{WorkQueues(store), WorkQueues(store)},
      powers_(store.array<Powers>(model.patches.size())),
      newest_(store.array<std::int32_t>(1)) {
  for (const Patch& patch : model.patches) lamps_ += patch.area() * mean(patch.emission);
}

/// Every patch as the phase's task. A barrier at the end; the queue of the next phase is filled before it.
template <class Task>
void Solver::do_tasks(Team& team, int phase, ProcessorTime& time, Task task) const {
  const auto patches = static_cast<std::size_t>(elements_.patches());
  const double start = clock_seconds();
  while (const auto next = queues_[phase % 2].next(team)) task(static_cast<std::int32_t>(*next));
  time.part += clock_seconds() - start;
  queues_[(phase + 1) % 2].fill(team, patches);
  team.barrier();
}

Result Solver::run(Team& team) {
  if (team.rank() == 0) bsp_.fill();
  team.barrier();
  elements_.fill(team, bsp_.patches());
  queues_[0].fill(team, static_cast<std::size_t>(elements_.patches()));
  team.barrier();

  Result result;
  result.lamps = lamps_;
  ElementView view(elements_, team);
  const double start = clock_seconds();
  int phase = 0;
  do_tasks(team, phase++, result.time, [&](std::int32_t patch) { link_patches(view, patch); });
  double before = lamps_;
  for (int iteration = 0; iteration < parameters_.iterations; ++iteration) {
    Visit visit{view, iteration % 2};
    do_tasks(team, phase++, result.time, [&](std::int32_t patch) { refine(visit, patch); });
    view.forget_leaves();
    do_tasks(team, phase++, result.time, [&](std::int32_t patch) {
      Powers powers;
      gather(visit, patch, {}, powers);
      powers_[patch] = powers;
    });
    const Powers all = total();
    result.iterations = iteration + 1;
    result.leaving = mean(all.leaving);
    result.arriving = mean(all.arriving);
    result.absorbed = mean(all.absorbed);
    result.change = std::abs(result.leaving - before) / result.leaving;
    before = result.leaving;  // powers are not written before the next barrier
    if (result.change < parameters_.tolerance) break;
  }
  if (team.rank() == 0) *newest_ = result.iterations % 2;
  team.barrier();
  result.time.total = clock_seconds() - start;
  result.links = team.sum(static_cast<double>(view.links_made()));
  for (int rank = 0; rank < team.count(); ++rank) result.stolen += static_cast<double>(queues_[(phase + 1) % 2].stolen_from(rank));
  return result;
}

void Solver::link_patches(ElementView& view, std::int32_t receiver) const {
  for (std::int32_t source = 0; source < elements_.patches(); ++source) {
    if (source == receiver) continue;
    const FormFactor factor = form_factor(bsp_, view.element(receiver), view.element(source));
    if (factor.weight > 0) view.add_link(receiver, {source, 0, factor.visible, factor.weight});
  }
}

/// A link that is blocked, in part or as it seems, counts as if it were not: its light lies unevenly.
bool Solver::carries_too_much(const Visit& visit, std::int32_t receiver, const Link& link) const {
  const Element& to = visit.view.element(receiver);
  const Patch& patch = bsp_.patches()[static_cast<std::size_t>(to.patch)];
  return mean(elements_.radiosity(visit.view.element(link.source), visit.old)) * link.weight * area(patch, to) > parameters_.share * lamps_;
}

/// All links of an element and of those below it.
void Solver::refine(Visit& visit, std::int32_t receiver) const {
  // The children that are there now: those that this makes have only links that are refined already.
  const std::int32_t children = visit.view.children(receiver);
  for (const Link& link : visit.view.take_links(receiver)) connect(visit, receiver, link);
  if (children < 0) return;
  for (std::int32_t i = 0; i < 4; ++i) refine(visit, children + i);
}

void Solver::connect(Visit& visit, std::int32_t receiver, std::int32_t source) const {
  const FormFactor factor = form_factor(bsp_, visit.view.element(receiver), visit.view.element(source));
  if (factor.weight > 0) connect(visit, receiver, {source, 0, factor.visible, factor.weight});
}

/// Links the two, or parts of them.
void Solver::connect(Visit& visit, std::int32_t receiver, const Link& link) const {
  const Element& to = visit.view.element(receiver);
  const Element& from = visit.view.element(link.source);
  const double to_area = area(bsp_.patches()[static_cast<std::size_t>(to.patch)], to);
  const double from_area = area(bsp_.patches()[static_cast<std::size_t>(from.patch)], from);
  const bool divisible = std::max(to_area, from_area) > parameters_.least_area;
  if (!divisible || !carries_too_much(visit, receiver, link)) {
    visit.view.add_link(receiver, link);
  } else if (to_area >= from_area) {
    const std::int32_t first = visit.view.divide(receiver);
    for (std::int32_t i = 0; i < 4; ++i) connect(visit, first + i, link.source);
  } else {
    const std::int32_t first = visit.view.divide(link.source);
    for (std::int32_t i = 0; i < 4; ++i) connect(visit, receiver, first + i);
  }
}

/// Light that arrives at an element and those below; returns the new radiosity.
Vec3 Solver::gather(Visit& visit, std::int32_t receiver, Vec3 from_above, Powers& powers) const {
  Element& element = visit.view.element(receiver);
  Vec3 arriving = from_above;
  for (std::int32_t next = elements_.links(element); next != 0;) {
    const Link& link = elements_.link(next - 1);
    arriving += elements_.radiosity(visit.view.element(link.source), visit.old) * link.factor;
    next = link.next;
  }
  Vec3 radiosity;
  const std::int32_t children = visit.view.children(receiver);
  if (children >= 0) {
    for (std::int32_t i = 0; i < 4; ++i) radiosity += gather(visit, children + i, arriving, powers) * 0.25;
  } else {
    const Patch& patch = bsp_.patches()[static_cast<std::size_t>(element.patch)];
    const double size = area(patch, element);
    radiosity = patch.emission + patch.reflectance * arriving;
    powers.leaving += radiosity * size;
    powers.arriving += arriving * size;
    powers.absorbed += (Vec3{1, 1, 1} - patch.reflectance) * arriving * size;
  }
  elements_.radiosity(element, 1 - visit.old) = radiosity;
  return radiosity;
}

Solver::Powers Solver::total() const {
  Powers all;
  for (std::int32_t patch = 0; patch < elements_.patches(); ++patch) {
    all.leaving += powers_[patch].leaving;
    all.arriving += powers_[patch].arriving;
    all.absorbed += powers_[patch].absorbed;
  }
  return all;
}

}  // namespace splash2::radiosity
