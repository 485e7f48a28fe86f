// SPLASH-2's radiosity: the light in a closed room of matt surfaces, by hierarchical radiosity (Hanrahan, Salzman, Aupperle, SIGGRAPH 1991; Singh, Gupta, Levoy,
// IEEE Computer 27, 1994; Woo et al., 1995). A surface's radiosity is what it emits and reflects: B = E + R sum of F B over what it sees.
//
// 1. An iteration refines: a link that carries more than a share of the lamps' power is replaced by links between parts of its ends, whichever is larger; then
//    each patch gathers light along the links of all its elements, hands it down to the leaves, and averages radiosities upwards. It ends when the
//    light in the room changes little.
// 2. Both are one task a patch, the receiver, in queues with stealing (work_queues.hpp). Gathering reads radiosities of the last iteration and writes those of this.
// 3. What a link needs depends on radiosities of the last iteration alone, so elements, links and their order, and all radiosities are the same at any number
//    of processors; sums over the room are made patch by patch.
// 4. Patches see each other through a tree of planes (bsp.hpp); elements and links: elements.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/work_queues.hpp"
#include "apps/splash2/radiosity/elements.hpp"

namespace splash2::radiosity {

struct Parameters {
  double share = 3e-4;       ///< of the lamps' power that a link may carry
  double least_area = 0.02;  ///< square metres: no element with less is divided
  double tolerance = 1e-3;   ///< ends when the light in the room changes by less
  int iterations = 50;       ///< at most
  ElementLayout elements = ElementLayout::apart;
};

/// The same at all members, but for the time.
struct Result {
  int iterations = 0;
  double change = 0;    ///< in the last iteration, relative
  double lamps = 0;     ///< power that the lamps emit (mean of three colours)
  double leaving = 0;   ///< power that leaves all surfaces
  double arriving = 0;  ///< power that arrives at all surfaces
  double absorbed = 0;
  double links = 0;
  double stolen = 0;   ///< patches, in the last phase
  ProcessorTime time;  ///< all iterations, and tasks in them
};

class Solver {
 public:
  /// Collective, as the store is.
  Solver(Store& store, const Model& model, const Parameters& parameters);
  /// Every member.
  Result run(Team& team);

  [[nodiscard]] const Bsp& bsp() const { return bsp_; }
  [[nodiscard]] const Elements& elements() const { return elements_; }
  /// After run(): an element's radiosity.
  [[nodiscard]] Vec3 radiosity(const Element& element) const { return elements_.radiosity(element, *newest_); }
  [[nodiscard]] std::int32_t children(const Element& element) const { return element.children - 1; }

 private:
  /// Sums of a patch: powers, as in Result.
  struct Powers {
    Vec3 leaving;
    Vec3 arriving;
    Vec3 absorbed;
  };
  struct Visit {
    ElementView& view;
    int old;  ///< which of the two radiosities is the last iteration's
  };

  void link_patches(ElementView& view, std::int32_t receiver) const;
  void refine(Visit& visit, std::int32_t receiver) const;
  void connect(Visit& visit, std::int32_t receiver, std::int32_t source) const;
  void connect(Visit& visit, std::int32_t receiver, const Link& link) const;
  [[nodiscard]] bool carries_too_much(const Visit& visit, std::int32_t receiver, const Link& link) const;
  Vec3 gather(Visit& visit, std::int32_t receiver, Vec3 from_above, Powers& powers) const;
  template <class Task>
  void do_tasks(Team& team, int phase, ProcessorTime& time, Task task) const;
  [[nodiscard]] Powers total() const;

  Parameters parameters_;
  Bsp bsp_;
  Elements elements_;
  WorkQueues queues_[2];  ///< one is filled while the other is worked on
  Powers* powers_;        ///< of each patch
  std::int32_t* newest_;  ///< which of the two radiosities is the last one's
  double lamps_ = 0;
};

}  // namespace splash2::radiosity
