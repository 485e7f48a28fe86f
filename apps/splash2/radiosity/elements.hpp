// The elements into which patches are divided, and the links along which light travels between them (Hanrahan, Salzman, Aupperle, SIGGRAPH 1991).
//
// 1. A patch is a quadtree of elements. An element is divided when a link needs it, by whoever comes first, under its lock, and for good: its four children lie side by
//    side and are written before the lock is free. Nobody reads `children` without the lock; each processor remembers what it has read (ElementView), so that it takes
//    each lock once.
// 2. Links hang on the element that receives. In a phase one task alone changes the links and reads them of a patch's elements.
// 3. Elements and links come from pools, one a processor; an element's index says where it lies. Links that are replaced are used again by the processor that did it.
// 4. What an element is depends on the patch and its place alone, not on who divided it or when.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/radiosity/bsp.hpp"

namespace splash2::radiosity {

/// A part of a patch.
struct Region {
  std::int32_t patch;
  double s;  ///< place and edge, as shares of the patch's edges
  double t;
  double edge;
};

struct Element : Region {
  netvm::mutex lock;
  std::int32_t children;  ///< the first one's index plus one; 0: none
  std::int32_t links;     ///< as Elements::links(), if parts are together
  Vec3 radiosity[2];      ///< as Elements::radiosity(), if parts are together
};

struct Link {
  std::int32_t source;
  std::int32_t next;  ///< as Element::links
  double factor;      ///< share of what the source's radiosity gives that arrives at the receiver: the form factor, with what is in between
  double weight;      ///< what decides whether it is divided: the form factor without what is in between, more for close elements
};

/// Where an element's parts lie. together: in one object. apart: what is written in each phase, the two radiosities and the head of the links, in arrays of their own:
/// who writes the new radiosity does not take the page from those who read the old one, or the element's place.
enum class ElementLayout : std::uint8_t { together, apart };

class Elements {
 public:
  /// For patches that may be divided down to `least_area`. Collective, as the store is.
  Elements(Store& store, const std::vector<Patch>& patches, double least_area, ElementLayout layout);
  /// Makes a member's part of the undivided patches. A barrier must follow.
  void fill(const Team& team, std::span<const Patch> patches) const;

  [[nodiscard]] Element& element(std::int32_t index) const {
    return index < patches_ ? roots_[index] : pool_.all()[static_cast<std::size_t>(index - patches_)];
  }
  /// Of the last iteration or of this one, in turn.
  [[nodiscard]] Vec3& radiosity(Element& element, int turn) const {
    return layout_ == ElementLayout::together ? element.radiosity[turn] : part_of(element, root_light_[turn], light_[turn]);
  }
  [[nodiscard]] const Vec3& radiosity(const Element& element, int turn) const { return radiosity(const_cast<Element&>(element), turn); }
  /// The first link's index plus one; 0: none.
  [[nodiscard]] std::int32_t& links(Element& element) const {
    return layout_ == ElementLayout::together ? element.links : part_of(element, root_heads_, heads_).first;
  }
  [[nodiscard]] std::int32_t links(const Element& element) const { return links(const_cast<Element&>(element)); }
  [[nodiscard]] Link& link(std::int32_t index) const { return links_.all()[static_cast<std::size_t>(index)]; }
  [[nodiscard]] std::int32_t patches() const { return patches_; }

 private:
  friend class ElementView;
  /// The element's in an array for roots, or in parts that have the pool's stride.
  template <class T>
  T& part_of(const Element& element, T* of_roots, const Parts<T>& of_pool) const {
    const bool root = &element >= roots_ && &element < roots_ + patches_;
    return root ? of_roots[&element - roots_] : of_pool.all()[&element - pool_.all()];
  }

  ElementLayout layout_;
  std::int32_t patches_;
  std::size_t capacity_;  ///< elements of a processor
  Element* roots_;
  Parts<Element> pool_;
  Parts<Link> links_;
  // Where parts are apart.
  Vec3* root_light_[2] = {};
  Parts<Vec3> light_[2];
  /// On a line of its own: neighbours in the array may be of patches that other processors work on.
  struct Head {
    std::int32_t first;
    std::int32_t room[15];
  };
  Head* root_heads_ = nullptr;
  Parts<Head> heads_;
};

/// One processor's way to the elements; private to its thread.
class ElementView {
 public:
  ElementView(const Elements& elements, Team& team) : elements_(elements), team_(team) {}

  [[nodiscard]] const Elements& elements() const { return elements_; }
  [[nodiscard]] Element& element(std::int32_t index) const { return elements_.element(index); }
  /// The first of the element's children; -1: it has none.
  std::int32_t children(std::int32_t index) { return find_children(index, false); }
  /// The same, after the element was divided if nobody had.
  std::int32_t divide(std::int32_t index) { return find_children(index, true); }

  void add_link(std::int32_t receiver, Link link);
  /// Takes all links off.
  std::vector<Link> take_links(std::int32_t receiver);
  /// After a barrier others may have divided what had no children when this processor looked.
  void forget_leaves() { leaves_.clear(); }
  [[nodiscard]] std::int64_t links_made() const { return links_made_; }

 private:
  std::int32_t find_children(std::int32_t index, bool divide);
  std::int32_t make_children(const Element& parent);

  const Elements& elements_;
  Team& team_;
  std::unordered_map<std::int32_t, std::int32_t> divided_;  // lookup only
  std::unordered_map<std::int32_t, std::int32_t> leaves_;   // lookup only
  std::size_t used_ = 0;                                    ///< of this processor's elements
  std::size_t used_links_ = 0;
  std::vector<std::int32_t> free_links_;
  std::int64_t links_made_ = 0;
};

Vec3 middle(const Patch& patch, const Region& region);
double area(const Patch& patch, const Region& region);

/// How much of what leaves the source's side arrives at the receiver, by pairs of points on both.
struct FormFactor {
  double visible = 0;
  double weight = 0;  ///< as Link::weight
};
/// Symmetric: the receiver's area times this is the source's area times the factor of the other way, but for rounding.
FormFactor form_factor(const Bsp& bsp, const Region& receiver, const Region& source);

}  // namespace splash2::radiosity
