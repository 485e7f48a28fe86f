#include "tests/support/drf_plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dsm/protocol.hpp"
#include "runtime/random.hpp"

namespace netvm::test {

namespace {

constexpr std::size_t kMaxObject = 64;
constexpr std::size_t kMaxLargeObject = 2 * kPageSize - 32;
constexpr std::uint32_t kMaxRegions = 3;  // of a rich program
constexpr std::uint32_t kMaxColumns = 10;
constexpr std::uint32_t kMaxColumnBytes = 24;

dsm::Consistency consistency_of(std::string_view protocol) {
  return dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(protocol))].traits.consistency;
}

bool is_transitive(std::string_view protocol) {
  const dsm::Consistency consistency = consistency_of(protocol);
  return consistency == dsm::Consistency::release || consistency == dsm::Consistency::sequential;
}

std::uint32_t choose_bytes(const DrfOptions& options, SplitMix64& random) {
  if (options.rich && random.below(8) == 0) return static_cast<std::uint32_t>(1 + random.below(kMaxLargeObject));
  return static_cast<std::uint32_t>(random.below(3) == 0 ? 1 + random.below(8) : 1 + random.below(kMaxObject));
}

// Objects for one region, at offsets from its start; the same in the ledger, from `ledger_at`. Returns the region's pages.
std::uint64_t add_objects(const DrfOptions& options, std::uint64_t ledger_at, SplitMix64& random, Plan& plan) {
  const std::uint64_t pages = 1 + random.below(options.max_pages);
  const auto wanted = static_cast<std::uint32_t>(3 + random.below(options.max_objects - 2));
  // Half of the programs crowd everything together, the others spread over all pages.
  const std::uint64_t longest_gap = random.below(2) == 0 ? 3 : pages * kPageSize / wanted;
  std::uint64_t at = random.below(2) == 0 ? 0 : kPageSize - random.below(200);
  if (pages == 1) at = random.below(64);
  if (plan.objects.empty()) plan.lock_count = static_cast<std::uint32_t>(1 + random.below(wanted));
  for (std::uint32_t i = 0; i < wanted; ++i) {
    const std::uint32_t bytes = choose_bytes(options, random);
    if (at + bytes > pages * kPageSize) {
      if (options.rich) continue;  // a smaller one may follow
      break;
    }
    plan.objects.push_back({ledger_at + at, at, bytes, static_cast<std::uint32_t>(random.below(plan.lock_count))});
    at += bytes + random.below(longest_gap + 1);
  }
  return pages;
}

// Columns through a region of their own, likewise. Returns its pages.
std::uint64_t add_columns(const DrfOptions& options, std::uint64_t ledger_at, SplitMix64& random, Plan& plan) {
  const std::uint64_t pages = options.run_pages / 4 + random.below(options.run_pages - options.run_pages / 4) + 1;
  const std::uint64_t wanted = 2 + random.below(kMaxColumns - 1);
  const std::uint64_t longest_gap = random.below(2) == 0 ? 3 : kPageSize / wanted - kMaxColumnBytes;
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < wanted; ++i) {
    const auto bytes = static_cast<std::uint32_t>(1 + random.below(kMaxColumnBytes));
    const auto lock = static_cast<std::uint32_t>(random.below(plan.lock_count));
    plan.objects.push_back({ledger_at + at, at, bytes, lock, static_cast<std::uint32_t>(pages)});
    at += bytes + random.below(longest_gap + 1);
  }
  return pages;
}

class Planner {
 public:
  Planner(Machine& machine, const DrfOptions& options) : machine_(machine), options_(options) {}

  Plan make() {
    plan_.text = fmt::format("{} nodes x {} threads", machine_.nodes(), machine_.threads());
    const std::uint64_t regions = options_.rich ? 1 + random_.below(kMaxRegions) : 1;
    plan_.ledger_bytes = (options_.rich ? kMaxRegions : 1) * std::size_t{options_.max_pages} * kPageSize + kPageSize;
    for (std::uint64_t region = 0; region < regions; ++region) {
      const std::size_t first = plan_.objects.size();
      const std::uint64_t pages = add_objects(options_, region * options_.max_pages * kPageSize, random_, plan_);
      dsm::AllocOptions where;
      where.protocol = region == 0 ? options_.protocol : dsm::protocols()[random_.below(dsm::protocols().size())].traits.name;
      if (options_.objects && region != 0 && !is_transitive(where.protocol)) where.protocol = options_.protocol;
      add_region(first, pages, where, random_);
    }
    if (options_.run_pages != 0) {
      const std::size_t first = plan_.objects.size();
      const std::uint64_t pages = add_columns(options_, plan_.ledger_bytes, columns_, plan_);
      plan_.ledger_bytes += pages * kPageSize;
      dsm::AllocOptions where;
      where.protocol = options_.protocol;
      add_region(first, pages, where, columns_);
    }
    plan_.locks = machine_.allocate(std::uint64_t{plan_.lock_count} * 8, {});
    plan_.text += fmt::format("; {} locks", plan_.lock_count);
    if (options_.objects) {
      plan_.transitive = is_transitive(options_.protocol);
      plan_.bound = consistency_of(options_.protocol) == dsm::Consistency::entry;
      plan_.separators = machine_.allocate(options_.phases * kPlacesOfPhase * 8, {});
      dsm::AllocOptions where;
      where.protocol = options_.protocol;
      plan_.busy = machine_.allocate(plan_.lock_count, where);
    }
    return std::move(plan_);
  }

 private:
  // Allocates it, for the objects from `first` on.
  void add_region(std::size_t first, std::uint64_t pages, dsm::AllocOptions where, SplitMix64& random) {
    where.alignment = kPageSize;
    where.placement = static_cast<dsm::Placement>(random.below(4));
    where.home = NodeId{static_cast<std::uint32_t>(random.below(machine_.nodes()))};
    if (options_.any_granularity && units_.below(2) == 0) where.granularity = kPageSize << units_.below(5);
    if (options_.granularity != 0) where.granularity = options_.granularity;
    const Place area = machine_.allocate(pages * kPageSize, where);
    plan_.areas.push_back(area);
    for (std::size_t i = first; i < plan_.objects.size(); ++i) {
      plan_.objects[i].place += area;
      if (!options_.beside || i % 3 != 0) continue;
      plan_.objects[i].always_locked = true;
      plan_.for_all.push_back(static_cast<std::uint32_t>(i));
    }
    plan_.text += fmt::format("; {}: {} pages at {} of units of {} bytes (placement {}), {} objects", where.protocol, pages, area,
                              where.granularity, static_cast<int>(where.placement), plan_.objects.size() - first);
  }

  Machine& machine_;
  const DrfOptions& options_;
  // Of their own: whatever else a seed means stays.
  SplitMix64 random_{mix64(options_.seed ^ 0xd4f)};
  SplitMix64 units_{mix64(options_.seed ^ 0x6e17)};
  SplitMix64 columns_{mix64(options_.seed ^ 0xc01)};
  Plan plan_;
};

}  // namespace

Plan make_plan(Machine& machine, const DrfOptions& options) { return Planner(machine, options).make(); }

void free_memory(Machine& machine, const Plan& plan) {
  for (const Place area : plan.areas) machine.free(area);
  machine.free(plan.locks);
  if (plan.separators == 0) return;
  machine.free(plan.separators);
  machine.free(plan.busy);
}

std::uint32_t owner_of(const DrfOptions& options, std::uint32_t phase, std::size_t object, std::uint32_t threads) {
  return static_cast<std::uint32_t>(mix64(options.seed * 37 + phase * 2003 + object) % threads);
}

Mode mode_of(const Plan& plan, const DrfOptions& options, When when, std::size_t object, std::uint32_t threads) {
  if (plan.objects[object].always_locked) return Mode::locked;
  const auto in = [&](std::uint32_t phase) { return static_cast<Mode>(mix64(options.seed * 31 + phase * 1009 + object) % 3); };
  const Mode mode = in(when.phase);
  if (!when.between) return mode;
  const bool stays = mode == in(when.phase + 1) && (mode != Mode::owned || owner_of(options, when.phase, object, threads) ==
                                                                               owner_of(options, when.phase + 1, object, threads));
  return stays ? mode : Mode::untouched;
}

bool is_split(const DrfOptions& options, std::uint32_t phase) {
  return (options.rich || options.objects) && phase + 1 != options.phases && mix64(options.seed * 47 + phase) % 2 == 0;
}

Guard guard_of(const Plan& plan, const DrfOptions& options, std::uint32_t lock) {
  if (!options.objects) return Guard::mutex;
  const std::uint64_t hash = mix64(options.seed * 41 + lock);
  if (plan.bound) return hash % 2 == 0 ? Guard::mutex : Guard::rwlock;
  return static_cast<Guard>(hash % (plan.transitive ? 4 : 3));
}

Separator separator_of(const Plan& plan, const DrfOptions& options, std::uint32_t phase) {
  const bool chooses = options.objects && plan.transitive;
  return chooses ? static_cast<Separator>(mix64(options.seed * 43 + phase) % 4) : Separator::barrier;
}

}  // namespace netvm::test
