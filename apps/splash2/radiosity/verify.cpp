#include "apps/splash2/radiosity/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::radiosity {

namespace {

constexpr double kMostLost = 0.05;  // of the power, with links as fine as kFine or finer: form factors are sums over few points
constexpr double kFine = 1e-3;
constexpr double kMostDifference = 1e-9;  // of a radiosity, relative
constexpr double kMostAsymmetry = 1e-9;   // of a form factor, relative
constexpr std::size_t kSample = 300;
constexpr std::uint64_t kStream = 61;

template <class F>
void for_each_element(const Solver& solver, std::int32_t index, F& f) {
  const Element& element = solver.elements().element(index);
  f(index, element);
  const std::int32_t children = solver.children(element);
  for (std::int32_t i = 0; children >= 0 && i < 4; ++i) for_each_element(solver, children + i, f);
}

template <class F>
void for_each_element(const Solver& solver, F f) {
  for (std::int32_t patch = 0; patch < solver.elements().patches(); ++patch) for_each_element(solver, patch, f);
}

Check check_symmetry(const Solver& solver) {
  std::vector<std::pair<std::int32_t, std::int32_t>> links;  // receiver and link
  for_each_element(solver, [&](std::int32_t index, const Element& element) {
    for (std::int32_t next = solver.elements().links(element); next != 0; next = solver.elements().link(next - 1).next)
      links.emplace_back(index, next - 1);
  });
  double worst = 0;
  const auto size = [&](const Element& element) { return area(solver.bsp().patches()[static_cast<std::size_t>(element.patch)], element); };
  for (std::uint64_t i = 0; i < std::min(kSample, links.size()); ++i) {
    const auto& [index, at] = links[uniform_below(mix64(kStream, i), links.size())];
    const Link& link = solver.elements().link(at);
    const Element& receiver = solver.elements().element(index);
    const Element& source = solver.elements().element(link.source);
    const double there = form_factor(solver.bsp(), source, receiver).visible * size(source);
    if (there != link.factor * size(receiver)) worst = std::max(worst, std::abs(link.factor * size(receiver) - there) / there);
  }
  return {"symmetry", worst <= kMostAsymmetry,
          fmt::format("of {} form factors in {} links, times the receiver's area, both directions differ by {:.1e} at most, {:.0e} allowed",
                      std::min(kSample, links.size()), links.size(), worst, kMostAsymmetry)};
}

Check check_lines(const Solver& solver) {
  std::size_t wrong = 0;
  const auto patches = solver.bsp().patches();
  for (std::uint64_t i = 0; i < kSample; ++i) {
    Sequence random((kStream + 1) << 32 | i);
    const auto anywhere = [&] { return patches[uniform_below(random.bits(), patches.size())].at(random.unit(), random.unit()); };
    const Vec3 from = anywhere();
    const Vec3 to = anywhere();
    const auto found = solver.bsp().first(from, to);
    const auto expected = solver.bsp().first_slowly(from, to);
    if (found.has_value() != expected.has_value() || (found && std::abs(found->share - expected->share) > 1e-6)) ++wrong;
  }
  return {"lines", wrong == 0,
          fmt::format("{} of {} lines meet what they do not meet when all {} patches are tried", wrong, kSample, patches.size())};
}

Check check_range(const Solver& solver) {
  std::size_t wrong = 0;
  std::size_t leaves = 0;
  for_each_element(solver, [&](std::int32_t, const Element& element) {
    if (solver.children(element) >= 0) return;
    ++leaves;
    const Vec3 least = solver.bsp().patches()[static_cast<std::size_t>(element.patch)].emission;
    const Vec3 radiosity = solver.radiosity(element);
    for (int colour = 0; colour < 3; ++colour) wrong += radiosity[colour] >= least[colour] && radiosity[colour] < 100 ? 0 : 1;
  });
  return {"range", wrong == 0, fmt::format("{} radiosities of {} leaves are less than what is emitted, or without bound", wrong, leaves)};
}

}  // namespace

std::vector<Check> self_test(const Parameters& parameters, const Solver& solver, const Result& result) {
  const double lost = std::abs(result.arriving / result.leaving - 1);
  const double allowed = kMostLost * std::max(1.0, std::cbrt(parameters.share / kFine));
  const double balance = std::abs(result.absorbed / result.lamps - 1);
  return {{"convergence", result.change < parameters.tolerance,
           fmt::format("light changed by {:.1e} in the last of {} iterations, {:.0e} allowed (if it is more: more --iterations)",
                       result.change, result.iterations, parameters.tolerance)},
          {"energy", lost <= allowed && balance <= allowed,
           fmt::format("of {:.1f} W that leave all surfaces {:.1f} arrive; of {:.1f} that lamps emit {:.1f} are absorbed; {:.0f} % of "
                       "difference allowed",
                       result.leaving, result.arriving, result.lamps, result.absorbed, 100 * allowed)},
          check_symmetry(solver),
          check_lines(solver),
          check_range(solver)};
}

SequentialRun::SequentialRun(const Model& model, const Parameters& parameters, std::int64_t runs)
    : SoloRun(runs, [&](Store& store) { return std::make_unique<Solver>(store, model, parameters); }) {}

Check SequentialRun::compare(const Solver& solver) const {
  const auto list = [](const Solver& of) {
    std::vector<std::pair<const Element*, bool>> all;  // and whether it is divided
    for_each_element(of, [&](std::int32_t, const Element& element) { all.emplace_back(&element, of.children(element) >= 0); });
    return all;
  };
  const auto expected = list(algorithm());
  const auto elements = list(solver);
  bool same = elements.size() == expected.size();
  double worst = 0;
  for (std::size_t i = 0; same && i < elements.size(); ++i) {
    same = elements[i].second == expected[i].second && elements[i].first->patch == expected[i].first->patch;
    const Vec3 right = algorithm().radiosity(*expected[i].first);
    const double difference = length(solver.radiosity(*elements[i].first) - right);
    if (!(difference <= kMostDifference * (1 + length(right)))) worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
  }
  return {"reference", same && worst == 0,
          !same ? fmt::format("{} elements, the sequential run's are {}, or divided elsewhere", elements.size(), expected.size())
                : fmt::format("the same {} elements as the sequential run's; radiosities differ by {:.1e} more than {:.0e} of them",
                              elements.size(), worst, kMostDifference)};
}

}  // namespace splash2::radiosity
