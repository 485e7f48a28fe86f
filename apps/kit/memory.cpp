#include "apps/kit/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>

#include "apps/kit/heap.hpp"
#include "apps/kit/kit.hpp"
#include "netvm/splash.h"

namespace netvm::kit {

namespace {

constexpr std::uint64_t kMostSites = 16384;

struct Table {
  AllocationSite* sites = nullptr;  // symmetric
  std::uint64_t count = 0;
  std::uint64_t offset = 0;  // in a node's symmetric memory
  std::atomic<std::uint64_t> next{0};
};
Table g_table;

}  // namespace

void AllocationSites::open(detail::Runtime& runtime) {
  const std::uint64_t room = runtime.layout.symmetric.count * kPageSize / 4;
  g_table.count = std::min(kMostSites, room / sizeof(AllocationSite));
  if (g_table.count == 0) return;
  g_table.sites = static_cast<AllocationSite*>(detail::symmetric_all(g_table.count * sizeof(AllocationSite), alignof(AllocationSite)));
  g_table.offset = detail::symmetric_offset(runtime, g_table.sites, sizeof(AllocationSite), 0, "the kit's table");
}

namespace {

void enter(const AllocationSite& site) {
  if (g_table.count != 0) g_table.sites[g_table.next.fetch_add(1) % g_table.count] = site;
}

}  // namespace

void AllocationSites::note(const void* memory, std::uint64_t bytes, const void* code) {
  AllocationSite site;
  Kit& kit = *Kit::find();
  if (!kit.runtime().offset_of(memory, &site.offset)) return;
  site.bytes = bytes;
  site.node = kit.node();
  const auto at = reinterpret_cast<std::uintptr_t>(code);
  site.code = at <= UINT32_MAX ? static_cast<std::uint32_t>(at) : 0;
  enter(site);
}

void AllocationSites::forget(const void* memory) {
  std::uint64_t offset = 0;
  if (Kit::find()->runtime().offset_of(memory, &offset)) forget(offset);
}

void AllocationSites::note(std::uint64_t offset, std::uint64_t bytes, const char* file, int line) {
  AllocationSite site;
  site.offset = offset;
  site.bytes = bytes;
  site.line = line;
  site.node = Kit::find()->node();
  const std::size_t length = std::strlen(file);
  const std::size_t kept = std::min(length, sizeof(site.file) - 1);
  std::memcpy(site.file, file + (length - kept), kept);  // the end of a path says more than its start
  enter(site);
}

void AllocationSites::forget(std::uint64_t offset) {
  for (std::uint64_t i = 0; i < std::min(g_table.next.load(), g_table.count); ++i) {
    if (g_table.sites[i].offset == offset) g_table.sites[i].bytes = 0;
  }
}

std::optional<AllocationSite> AllocationSites::find(detail::Runtime& runtime, std::uint64_t offset) {
  std::optional<AllocationSite> best;
  std::array<AllocationSite, 64> some;
  for (const nic::RemoteRegion& region : runtime.symmetric) {
    for (std::uint64_t first = 0; first < g_table.count; first += some.size()) {
      const std::uint64_t n = std::min<std::uint64_t>(some.size(), g_table.count - first);
      if (runtime.nic->read(region, g_table.offset + first * sizeof(AllocationSite), some.data(), n * sizeof(AllocationSite)) != Status::ok)
        break;
      for (const AllocationSite& site : std::span(some).first(n)) {
        if (site.bytes != 0 && site.offset <= offset && (!best || site.offset > best->offset)) best = site;
      }
      if (some[n - 1].bytes == 0 && some[n - 1].offset == 0) break;  // the table ends here
    }
  }
  return best;
}

namespace {

void* allocate(std::size_t bytes, const dsm::AllocOptions& options, const Place& place) {
  Kit& kit = Kit::of(place);
  std::string why;
  const std::uint64_t wanted = std::max<std::size_t>(bytes, 1);  // malloc(0) is an object, too
  const std::string name =
      fmt::format("{}:{}", std::string_view(place.file).substr(std::string_view(place.file).rfind('/') + 1), place.line);
  dsm::AllocOptions named = options;
  named.name = name;
  const auto offset = kit.runtime().dsm->allocate(wanted, named, &why);
  if (!offset) kit.stop(place, why);
  AllocationSites::note(*offset, wanted, place.file, place.line);
  return kit.runtime().address_of(*offset);
}

// Small objects of G_MALLOC: from this node's heap, without a message.
constexpr std::size_t kSmall = 2048;

void* allocate_small(std::size_t bytes, const Place& place) {
  Kit& kit = Kit::of(place);
  void* const memory = Heap::allocate(std::max<std::size_t>(bytes, 1), 16, true);
  if (memory == nullptr) kit.stop(place, "no shared memory is left for it: raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
  std::uint64_t offset = 0;
  if (kit.runtime().offset_of(memory, &offset)) AllocationSites::note(offset, bytes, place.file, place.line);
  return memory;
}

/// What begins on a page may be an allocation of its own; else its header lies before it on the same page.
bool give_back(Kit& kit, void* memory, std::uint64_t offset) {
  if (offset % kPageSize != 0 && Heap::free(memory)) return true;
  if (kit.runtime().dsm->free(offset) == Status::ok) return true;
  return offset % kPageSize == 0 && kit.runtime().dsm->size_of(offset - 1) && Heap::free(memory);
}

dsm::AllocOptions options_for(std::size_t bytes) {
  dsm::AllocOptions options;
  options.alignment = bytes >= kPageSize ? kPageSize : 16;
  return options;
}

}  // namespace

}  // namespace netvm::kit

using netvm::kit::Kit;
using netvm::kit::Place;

void* netvm_splash_malloc(size_t bytes, const char* file, int line) {
  const Place place{"G_MALLOC", file, line};
  if (bytes > netvm::kit::kSmall) return netvm::kit::allocate(bytes, netvm::kit::options_for(bytes), place);
  return netvm::kit::allocate_small(bytes, place);
}

void* netvm_splash_malloc_at(size_t bytes, long node, const char* file, int line) {
  const Place place{"NU_MALLOC", file, line};
  netvm::dsm::AllocOptions options = netvm::kit::options_for(bytes);
  options.placement = netvm::dsm::Placement::at_node;
  options.home =
      netvm::NodeId{static_cast<std::uint32_t>(node % Kit::of(place).nodes())};  // programs number processors, of which there may be more
  return netvm::kit::allocate(bytes, options, place);
}

void netvm_splash_free(void* memory, const char* file, int line) {
  const Place place{"G_FREE", file, line};
  if (memory == nullptr) return;
  Kit& kit = Kit::of(place);
  std::uint64_t offset = 0;
  if (!kit.runtime().offset_of(memory, &offset) || !netvm::kit::give_back(kit, memory, offset))
    kit.stop(place, fmt::format("no memory of G_MALLOC begins at {} (freed twice, or a pointer into the middle?)", fmt::ptr(memory)));
  netvm::kit::AllocationSites::forget(offset);
}
