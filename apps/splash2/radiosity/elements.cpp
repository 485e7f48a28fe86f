#include "apps/splash2/radiosity/elements.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace splash2::radiosity {

namespace {

constexpr std::size_t kLinks = std::size_t{1} << 21;  // of a processor; room that is not used costs nothing
constexpr double kClose = 8;                          // how much more a link between close elements weighs, whose form factor is inexact
constexpr int kSamples = 4;                           // a side

/// Elements of all patches, if everything is divided as far as it may be.
std::size_t most_elements(const std::vector<Patch>& patches, double least_area) {
  std::size_t count = 0;
  for (const Patch& patch : patches) {
    std::size_t width = 1;
    for (double area = patch.area(); area > least_area; area /= 4) {
      width *= 4;
      count += width;
    }
  }
  // So that parts of elements, of radiosities and of heads have the same stride, and begin on pages all the same.
  constexpr std::size_t kUnit = 1024;
  return (count + kUnit - 1) / kUnit * kUnit;
}

}  // namespace

Elements::Elements(Store& store, const std::vector<Patch>& patches, double least_area, ElementLayout layout)
    : layout_(layout),
      patches_(static_cast<std::int32_t>(patches.size())),
      capacity_(most_elements(patches, least_area)),
      roots_(store.array<Element>(patches.size())),
      pool_(store.parts<Element>(capacity_)),
      links_(store.parts<Link>(kLinks)) {
  if (pool_.stride() * static_cast<std::size_t>(store.processors()) + patches.size() > INT32_MAX)
    throw std::runtime_error("so small elements need more room than there is: give a larger --area");
  if (layout == ElementLayout::together) return;
  for (int turn = 0; turn < 2; ++turn) {
    root_light_[turn] = store.array<Vec3>(patches.size());
    light_[turn] = store.parts<Vec3>(capacity_);
  }
  root_heads_ = store.array<Head>(patches.size());
  heads_ = store.parts<Head>(capacity_);
}

void Elements::fill(const Team& team, std::span<const Patch> patches) const {
  for (std::int32_t index = team.rank(); index < patches_; index += team.count()) {
    Element& root = element(index);
    const Vec3 emission = patches[static_cast<std::size_t>(index)].emission;
    root.patch = index;
    root.edge = 1;
    radiosity(root, 0) = radiosity(root, 1) = emission;
  }
}

std::int32_t ElementView::find_children(std::int32_t index, bool divide) {
  if (const auto known = divided_.find(index); known != divided_.end()) return known->second;
  if (!divide && leaves_.contains(index)) return -1;
  Element& element = elements_.element(index);
  std::int32_t first = 0;
  {
    const TeamLock guard(team_, element.lock);
    if (element.children == 0 && divide) element.children = make_children(element) + 1;
    first = element.children - 1;
  }
  if (first >= 0) {
    divided_[index] = first;
  } else {
    leaves_[index] = -1;
  }
  return first;
}

/// Under the parent's lock.
std::int32_t ElementView::make_children(const Element& parent) {
  if (used_ + 4 > elements_.capacity_) throw std::runtime_error("a processor's room for elements is used up: give a larger --area");
  const std::size_t slot = static_cast<std::size_t>(team_.rank()) * elements_.pool_.stride() + used_;
  used_ += 4;
  const auto first = static_cast<std::int32_t>(slot) + elements_.patches_;
  for (std::int32_t i = 0; i < 4; ++i) {
    Element& child = elements_.element(first + i);
    child.patch = parent.patch;
    child.edge = parent.edge / 2;
    const std::int32_t row = i / 2;
    child.s = parent.s + child.edge * (i % 2);
    child.t = parent.t + child.edge * row;
    for (int turn = 0; turn < 2; ++turn) elements_.radiosity(child, turn) = elements_.radiosity(parent, turn);
  }
  return first;
}

void ElementView::add_link(std::int32_t receiver, Link link) {
  std::int32_t& head = elements_.links(elements_.element(receiver));
  std::int32_t index = 0;
  if (free_links_.empty()) {
    if (used_links_ == kLinks) throw std::runtime_error("a processor's room for links is used up: give a larger --share or --area");
    index = static_cast<std::int32_t>(static_cast<std::size_t>(team_.rank()) * elements_.links_.stride() + used_links_++);
  } else {
    index = free_links_.back();
    free_links_.pop_back();
  }
  link.next = head;
  elements_.link(index) = link;
  head = index + 1;
  ++links_made_;
}

std::vector<Link> ElementView::take_links(std::int32_t receiver) {
  std::int32_t& head = elements_.links(elements_.element(receiver));
  std::vector<Link> links;
  for (std::int32_t next = head; next != 0; next = links.back().next) {
    links.push_back(elements_.link(next - 1));
    free_links_.push_back(next - 1);
  }
  head = 0;
  links_made_ -= static_cast<std::int64_t>(links.size());
  return links;
}

Vec3 middle(const Patch& patch, const Region& region) { return patch.at(region.s + region.edge / 2, region.t + region.edge / 2); }

double area(const Patch& patch, const Region& region) { return patch.area() * region.edge * region.edge; }

namespace {

/// Both sides of a form factor, cut into pieces by a grid; the kernel between pieces.
class Pieces {
 public:
  Pieces(const Patch& to, const Region& receiver, const Patch& from, const Region& source)
      : to_(to), receiver_(receiver), from_(from), source_(source), to_normal_(to.normal()), from_normal_(from.normal()) {
    const double areas[] = {area(to, receiver), area(from, source)};
    // A piece is a disc, so that the kernel stays finite where they touch; of such a size that two squares which meet at a right angle are seen right.
    disc_ = 0.75 * std::sqrt(areas[0] * areas[1]) / (kSamples * kSamples);
    const double distance = norm2(middle(to, receiver) - middle(from, source));
    near_ = distance < 4 * std::max(longest(to, receiver), longest(from, source));
  }
  [[nodiscard]] bool near() const { return near_; }
  [[nodiscard]] Vec3 here(int i, int j) const { return place(to_, receiver_, i, j); }
  [[nodiscard]] Vec3 there(int i, int j) const { return place(from_, source_, i, j); }
  [[nodiscard]] double kernel(Vec3 here, Vec3 there) const {
    const Vec3 way = there - here;
    const double leaving = -dot(way, from_normal_);
    const double arriving = dot(way, to_normal_);
    const double square = norm2(way);
    return leaving <= 0 || arriving <= 0 ? 0 : leaving * arriving / (square * (M_PI * square + disc_));
  }

 private:
  /// The square of an element's longer edge.
  static double longest(const Patch& patch, const Region& region) {
    return std::max(norm2(patch.u), norm2(patch.v)) * region.edge * region.edge;
  }
  static Vec3 place(const Patch& patch, const Region& region, int i, int j) {
    return patch.at(region.s + region.edge * (i + 0.5) / kSamples, region.t + region.edge * (j + 0.5) / kSamples);
  }
  const Patch& to_;
  const Region& receiver_;
  const Patch& from_;
  const Region& source_;
  Vec3 to_normal_;
  Vec3 from_normal_;
  double disc_;
  bool near_;
};

/// Times the generator of the field of four numbers, whose sum is the exclusive or.
constexpr int times_generator(int x) { return x == 0 ? 0 : x % 3 + 1; }

}  // namespace

/// Pieces that see each other are counted with 16 pairs. Piece (i, j) there goes with the image of (i, j) here under a matrix over the field of four numbers, which is its
/// own inverse: the pairs are the same ones, whoever receives. None of its entries is 0: each row and column here goes with each row and column there. Close elements
/// are summed over all pairs, and only what is in between is found with the 16.
FormFactor form_factor(const Bsp& bsp, const Region& receiver, const Region& source) {
  static_assert(kSamples == 4 && times_generator(1) == 2 && times_generator(2) == 3 && times_generator(3) == 1);
  const Patch& to = bsp.patches()[static_cast<std::size_t>(receiver.patch)];
  const Patch& from = bsp.patches()[static_cast<std::size_t>(source.patch)];
  const Pieces pieces(to, receiver, from, source);
  double visible = 0;
  double open = 0;
  for (int i = 0; i < kSamples; ++i) {
    for (int j = 0; j < kSamples; ++j) {
      const Vec3 here = pieces.here(i, j);
      const Vec3 there = pieces.there(times_generator(i) ^ j, times_generator(i) ^ times_generator(j));
      const double kernel = pieces.kernel(here, there);
      if (kernel == 0) continue;
      open += kernel;
      if (!bsp.first(here, there)) visible += kernel;
    }
  }
  double scale = area(from, source) / (kSamples * kSamples);
  if (pieces.near() && visible > 0) {
    double all = 0;
    for (int i = 0; i < kSamples * kSamples; ++i) {
      const Vec3 here = pieces.here(i % kSamples, i / kSamples);
      for (int j = 0; j < kSamples * kSamples; ++j) all += pieces.kernel(here, pieces.there(j % kSamples, j / kSamples));
    }
    scale *= all / (kSamples * kSamples) / open;
  }
  return {visible * scale, open * scale * (pieces.near() ? kClose : 1)};
}

}  // namespace splash2::radiosity
