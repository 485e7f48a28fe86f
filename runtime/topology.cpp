#include "runtime/topology.hpp"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace netvm {
namespace {

// Longer than a request to a neighbour takes (a few microseconds) and than a sleep and a wake-up cost together (30 to 80 us on virtual machines); to begin with:
// see nic/spin_budget.hpp.
constexpr Nanos kApplicationSpin = 200'000;
// The engine has a processor of its own, and every request to it that finds it asleep pays for the wake-up.
constexpr Nanos kEngineSpin = 200'000;

struct TopologyDeleter {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
using TopologyHandle = std::unique_ptr<hwloc_topology, TopologyDeleter>;

struct BitmapDeleter {
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, BitmapDeleter>;

TopologyHandle make_handle() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) throw std::runtime_error("hwloc cannot be initialised");
  return TopologyHandle(raw);
}

int numa_of(hwloc_obj_t processor) { return processor->nodeset == nullptr ? 0 : std::max(0, hwloc_bitmap_first(processor->nodeset)); }

/// In hwloc's logical order, which follows the tree: threads of a core, cores of a cache, caches of a package are neighbours.
std::vector<Topology::Processor> list_processors(hwloc_topology* topology, const hwloc_bitmap_s* allowed) {
  std::vector<Topology::Processor> list;
  std::map<int, int> seen_of_core;
  const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
  for (int i = 0; i < count; ++i) {
    const hwloc_obj_t pu = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, static_cast<unsigned>(i));
    if (allowed != nullptr && hwloc_bitmap_isset(allowed, pu->os_index) == 0) continue;
    const hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
    const int core_number = core == nullptr ? i : static_cast<int>(core->logical_index);
    list.push_back({static_cast<int>(pu->os_index), core_number, numa_of(pu), seen_of_core[core_number]++});
  }
  return list;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The tightest quota on the way from this process's cgroup (v2) up to the root; 0 if there is none.
std::uint32_t cgroup_quota() {
  std::istringstream lines(read_file("/proc/self/cgroup"));
  std::string path;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) path = line.substr(3);
  }
  std::uint32_t least = 0;
  for (;;) {
    const std::uint32_t cpus = cpus_of_quota(read_file("/sys/fs/cgroup" + path + "/cpu.max"));
    if (cpus != 0 && (least == 0 || cpus < least)) least = cpus;
    if (path.empty()) return least;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

/// Where hwloc finds nothing: as many as the system says, taken to be cores.
std::vector<Topology::Processor> anonymous_processors() {
  std::vector<Topology::Processor> list;
  const int count = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  list.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) list.push_back({i, i, 0, 0});
  return list;
}

}  // namespace

std::uint32_t cpus_of_quota(const std::string& cpu_max) {
  std::istringstream text(cpu_max);
  std::uint64_t quota = 0;
  std::uint64_t period = 0;
  if (!(text >> quota >> period) || quota == 0 || period == 0) return 0;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(quota / period, 1, UINT32_MAX));
}

const Topology& Topology::of_this_host() {
  static const Topology host = [] {
    Topology result;
    const TopologyHandle handle = make_handle();
    if (hwloc_topology_load(handle.get()) == 0) {
      const Bitmap mine(hwloc_bitmap_alloc());
      const bool known =
          mine && hwloc_get_cpubind(handle.get(), mine.get(), HWLOC_CPUBIND_PROCESS) == 0 && !hwloc_bitmap_iszero(mine.get());
      result.processors_ = list_processors(handle.get(), known ? mine.get() : nullptr);
    }
    if (result.processors_.empty()) result.processors_ = anonymous_processors();
    result.capacity_ = static_cast<std::uint32_t>(result.processors_.size());
    if (const std::uint32_t quota = cgroup_quota(); quota != 0) result.capacity_ = std::min(result.capacity_, quota);
    return result;
  }();
  return host;
}

Topology Topology::synthetic(const std::string& description) {
  const TopologyHandle handle = make_handle();
  if (hwloc_topology_set_synthetic(handle.get(), description.c_str()) != 0 || hwloc_topology_load(handle.get()) != 0) {
    throw std::invalid_argument("hwloc does not understand the topology \"" + description + "\"");
  }
  Topology result;
  result.processors_ = list_processors(handle.get(), nullptr);
  result.capacity_ = static_cast<std::uint32_t>(result.processors_.size());
  return result;
}

/// Processors of all nodes; indices into processors_.
struct Topology::Plan {
  std::vector<std::vector<std::size_t>> threads;  // by node, by thread
  std::vector<std::size_t> engines;               // by node
};

// Application threads get cores of their own as long as there are cores, engines take what is left, as near as possible to
// their node's first thread: its core's other hardware thread, then its NUMA node, then anywhere. Requires enough processors.
Topology::Plan Topology::assign(std::uint32_t nodes, std::uint32_t threads_per_node) const {
  std::vector<std::size_t> order(processors_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return processors_[a].sibling < processors_[b].sibling; });
  const auto cores =
      static_cast<std::size_t>(std::count_if(processors_.begin(), processors_.end(), [](const Processor& p) { return p.sibling == 0; }));
  // With a core for everybody, a node's engine sits beside its threads in the order; else all threads come first.
  const bool roomy = std::size_t{nodes} * (threads_per_node + 1) <= cores;

  Plan plan;
  std::vector<bool> used(processors_.size(), false);
  for (std::uint32_t node = 0; node < nodes; ++node) {
    std::vector<std::size_t>& mine = plan.threads.emplace_back();
    for (std::uint32_t t = 0; t < threads_per_node; ++t) {
      mine.push_back(order[node * (threads_per_node + (roomy ? 1 : 0)) + t]);
      used[mine.back()] = true;
    }
  }
  for (std::uint32_t node = 0; node < nodes; ++node) {
    if (roomy) {
      plan.engines.push_back(order[node * (threads_per_node + 1) + threads_per_node]);
      continue;
    }
    const Processor& first = processors_[plan.threads[node].front()];
    const auto distance = [&](const Processor& p) { return p.core == first.core ? 0 : p.numa == first.numa ? 1 : 2; };
    std::size_t best = processors_.size();
    for (const std::size_t i : order) {
      if (used[i]) continue;
      if (best == processors_.size() || distance(processors_[i]) < distance(processors_[best])) best = i;
    }
    used[best] = true;
    plan.engines.push_back(best);
  }
  return plan;
}

Binding Topology::plan(std::uint32_t nodes_on_host, std::uint32_t index_on_host, std::uint32_t threads_per_node,
                       const Settings& settings) const {
  Binding binding;
  const std::uint64_t threads = std::uint64_t{nodes_on_host} * threads_per_node;
  const bool roomy = threads + nodes_on_host <= capacity_;
  binding.crowded = threads > capacity_;
  if (!binding.crowded) binding.spin_ns = kApplicationSpin;
  if (roomy) binding.engine_spin_ns = kEngineSpin;
  if (settings.spin_us != UINT32_MAX) {
    binding.spin_ns = Nanos{settings.spin_us} * 1000;
    binding.engine_spin_ns = binding.spin_ns;
  }
  // Without room for the engines the system must be free to move threads out of their way. A single thread gains nothing by
  // being bound, and two such jobs would share a processor.
  if (!roomy || threads <= 1 || !settings.bind || index_on_host >= nodes_on_host) return binding;
  // Under a quota the processors are shared with strangers: the system must be free to move us away from them.
  if (capacity_ < processors_.size()) return binding;

  const Plan plan = assign(nodes_on_host, threads_per_node);
  for (const std::size_t i : plan.threads[index_on_host]) binding.application_cores.push_back(processors_[i].number);
  binding.engine_core = processors_[plan.engines[index_on_host]].number;
  return binding;
}

Binding plan_binding(std::uint32_t nodes_on_host, std::uint32_t index_on_host, std::uint32_t threads_per_node, const Settings& settings) {
  return Topology::of_this_host().plan(nodes_on_host, index_on_host, threads_per_node, settings);
}

bool bind_this_thread(int processor) {
  if (processor < 0) return false;
  const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(processor) + 1);
  cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(processor) + 1);
  if (set == nullptr) return false;
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(static_cast<std::size_t>(processor), bytes, set);
  const bool bound = ::sched_setaffinity(0, bytes, set) == 0;  // 0: the calling thread
  CPU_FREE(set);
  return bound;
}

}  // namespace netvm
