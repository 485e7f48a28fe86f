#include "dsm/api/job_runtime.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "dsm/api/spin_watch.hpp"
#include "dsm/protocol.hpp"
#include "nic/shm_ring.hpp"
#include "runtime/check.hpp"
#include "runtime/memory_budget.hpp"
#include "runtime/signals_blocked.hpp"
#include "runtime/trap.hpp"

namespace netvm::detail {

namespace {

std::atomic<Runtime*> g_current{nullptr};

/// What must be the same on every node.
struct Agreement {
  std::uint64_t pages;
  std::uint32_t threads;
  std::uint32_t shm_mode;
  std::uint32_t granularity;
  std::uint32_t home_moves;
  char protocol[32];
  bool operator==(const Agreement&) const = default;
};

/// Whether this process has no threads but those that take part in barriers, the engine, and who watches for spins. Called by one of those.
bool only_our_threads(int threads_in_section) {
  struct stat tasks {};
  if (::stat("/proc/self/task", &tasks) != 0) return false;
  const auto ours = static_cast<nlink_t>(inside_section() ? threads_in_section : 1) + 1 + (SpinWatch::runs() ? 1 : 0);
  return tasks.st_nlink == ours + 2;  // a folder for each, beside "." and ".."
}

/// How a node's memory is named by the others.
struct Regions {
  nic::RemoteRegion system;
  nic::RemoteRegion symmetric;
  nic::RemoteRegion shared;
};

void check_protocol(const std::string& name) {
  if (dsm::find_protocol(name) >= 0) return;
  std::vector<std::string_view> names;
  std::string list;
  for (const auto& entry : dsm::protocols()) {
    names.push_back(entry.traits.name);
    list += (list.empty() ? "" : ", ") + std::string(entry.traits.name);
  }
  const std::string_view near = nearest(name, names);
  throw Error(fmt::format("netvm: NETVM_PROTOCOL: there is no protocol \"{}\"{}; the protocols are: {}", name,
                          near.empty() ? std::string() : fmt::format(" (did you mean {}?)", near), list));
}

std::uint64_t budget_pages(const Settings& settings, int threads) {
  const std::uint64_t least = least_budget_pages(static_cast<std::uint32_t>(threads)) * kPageSize;
  if (settings.memory == 0 || settings.memory >= least) return settings.memory / kPageSize;
  throw Error(fmt::format("netvm: NETVM_MEMORY: {} are too little for {} thread{} a node to get on with; give {} or more",
                          format_bytes(settings.memory), threads, threads == 1 ? "" : "s", format_bytes(least)));
}

/// Nodes that were given one file's name need one each.
std::string backing_of(const Settings& settings, NodeId node) {
  std::error_code error;
  if (settings.backing.empty() || std::filesystem::is_directory(settings.backing, error)) return settings.backing;
  return fmt::format("{}.{}", settings.backing, node.value);
}

}  // namespace

Runtime* Runtime::current_or_null() { return g_current.load(std::memory_order_acquire); }  // acquire: partner is the constructor's release

Runtime& Runtime::current(std::string_view what) {
  Runtime* runtime = current_or_null();
  if (runtime == nullptr)
    throw Error(fmt::format("netvm: {} needs a netvm::Job: make one at the start of main() (a child made by fork() has none)", what));
  return *runtime;
}

namespace {
thread_local std::uint64_t t_thread_id = 0;
std::atomic<std::uint64_t> g_next_thread_id{1};
}  // namespace

std::uint64_t this_thread_id() {
  if (t_thread_id == 0) [[unlikely]]
    t_thread_id = g_next_thread_id.fetch_add(1, std::memory_order_relaxed);  // relaxed: only uniqueness matters
  return t_thread_id;
}

void number_this_thread(int local) { t_thread_id = static_cast<std::uint64_t>(local) + 1; }

bool& inside_section() {
  thread_local bool inside = false;
  return inside;
}

Runtime::Runtime(int threads_per_node) {
  if (threads_per_node < 0 || threads_per_node > static_cast<int>(Settings::kMostThreads)) {
    throw Error(
        fmt::format("netvm: {} threads a node: give 1 to {}, or 0 for what NETVM_THREADS says", threads_per_node, Settings::kMostThreads));
  }
  if (current_or_null() != nullptr) throw Error("netvm: this process has a netvm::Job already; there can be one at a time");
  try {
    settings = Settings::from_environment();
    check_protocol(settings.protocol);
    threads = threads_per_node > 0 ? threads_per_node : static_cast<int>(settings.threads);
    number_this_thread(0);
    g_next_thread_id.store(static_cast<std::uint64_t>(threads) + 1);
    boot = join_job(settings);
    check_context().node = static_cast<std::int32_t>(boot->node().value);
    binding = plan_binding(boot->nodes_on_host(), boot->index_on_host(), static_cast<std::uint32_t>(threads), settings);
    env = std::make_unique<RealEnv>(RealEnvOptions{binding.spin_ns, binding.crowded, settings.seed});
    started_ns = env->now();
    counted_main.emplace(*env, stats);
    check_agreement();
    open_memory();
    connect();
  } catch (const SettingError& error) {
    throw Error(std::string("netvm: ") + error.what());
  } catch (const BootstrapError& error) {
    throw Error(std::string("netvm: ") + error.what());
  }
  start_engine();
  owner = getpid();
  static const int forget_in_children = pthread_atfork(nullptr, nullptr, [] { g_current.store(nullptr); });
  static_cast<void>(forget_in_children);
  g_current.store(this, std::memory_order_release);  // release: partner is current_or_null()'s acquire
  if (boot->outlives_nodes()) watch_deaths();
  print_start_line();
}

Runtime::~Runtime() {
  g_current.store(nullptr, std::memory_order_release);  // release: partner is current_or_null()'s acquire
  stop_engine.store(true);
  if (nic) static_cast<void>(nic->close());  // no handler of an event counter runs any more
  if (engine.joinable()) engine.join();
  if (dsm) dsm->close();  // its background tasks are threads of env's, which outlives it
  if (vm) vm->close();
}

void Runtime::check_agreement() {
  Agreement mine{};
  mine.pages = settings.address_space / kPageSize;
  mine.threads = static_cast<std::uint32_t>(threads);
  mine.shm_mode = static_cast<std::uint32_t>(settings.shm_mode);
  mine.granularity = settings.granularity;
  mine.home_moves = settings.home_moves ? 1 : 0;
  settings.protocol.copy(mine.protocol, sizeof(mine.protocol) - 1);
  const auto all = exchange(mine);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] == mine) continue;
    throw Error(
        fmt::format("netvm: nodes {} and {} run with different settings (address space {} and {}, threads a node {} and {}, granularity {} "
                    "and {}, protocol {} and "
                    "{}): "
                    "start all nodes with the same flags, environment and program arguments",
                    boot->node().value, i, format_bytes(mine.pages * kPageSize), format_bytes(all[i].pages * kPageSize), mine.threads,
                    all[i].threads, mine.granularity, all[i].granularity, mine.protocol,
                    std::string_view(all[i].protocol, strnlen(all[i].protocol, sizeof(all[i].protocol)))));
  }
}

void Runtime::open_memory() {
  const ResolvedTrap trap = resolve_trap(settings.trap);
  if (!trap.kind) throw Error("netvm: " + trap.reason);
  trap_reason = trap.reason;
  HostVmConfig config;
  config.pages = settings.address_space / kPageSize;
  config.base = kRangeBase;
  config.trap = *trap.kind;
  config.frames_fd = boot->frames_fd(boot->node());
  config.budget_pages = budget_pages(settings, threads);
  config.backing = backing_of(settings, boot->node());
  config.stats = &stats;
  config.check_frames = settings.check_frames;
  std::string why;
  auto made = HostVm::create(config, *env, &why);
  if (!made) throw Error("netvm: " + why);
  vm = std::move(made).value();
  layout = dsm::Layout::divide(config.pages, boot->nodes());
}

void Runtime::connect() {
  const NodeId me = boot->node();
  const std::uint32_t nodes = boot->nodes();
  nic::DeviceConfig shape;
  shape.nodes = nodes;
  shape.pages = vm->pages();
  shape.check_frames = settings.check_frames;
  shape.ring_bytes = nic::shm_ring::kDefaultAreaBytes;
  shape.session = boot->session();

  const auto keep = [&](NodeId node, Result<std::unique_ptr<nic::Device>> device, const std::string& why) {
    if (!device) throw Error(fmt::format("netvm: the memory of node {} cannot be used: {}", node.value, why));
    devices[node.value] = std::move(device).value();
  };
  devices.resize(nodes);
  std::string why;
  shape.node = me;
  keep(me, nic::Device::create(shape, boot->device_fd(me), vm->frame_base(), &why), why);
  boot->exchange({});  // everybody's files have their size and their header now
  for (std::uint32_t i = 0; i < nodes; ++i) {
    shape.node = NodeId{i};
    if (i != me.value)
      keep(shape.node, nic::Device::attach(shape, me, boot->device_fd(shape.node), boot->frames_fd(shape.node), &why), why);
  }
  std::vector<nic::Device*> views;
  for (const auto& device : devices) views.push_back(device.get());

  fabric = std::make_unique<nic::ShmFabric>(me, nodes, *env, views);
  nic::NicConfig config;
  config.node = me;
  config.nodes = nodes;
  config.session = boot->session();
  config.mode = settings.shm_mode;
  config.system_buffers = settings.system_buffers;
  config.reliability.peer_timeout = Nanos{settings.peer_timeout_s} * 1'000'000'000;
  nic = std::make_unique<nic::Nic>(config, *env, *vm, *fabric, *devices[me.value], stats);

  Regions mine;
  const auto open = [this](PageRange pages) {
    auto region = nic->region_create(pages, nic::Rights::all);
    if (!region) throw Error(fmt::format("netvm: cannot open memory to the other nodes: {}", describe(region.status())));
    return *region;
  };
  mine.system = open(layout.system);
  mine.symmetric = open(layout.symmetric);
  mine.shared = open(layout.shared);
  nic->allow_regions({layout.symmetric.first, 0});  // the program's: what it has allocated of symmetric memory

  dsm::DsmConfig memory;
  memory.layout = layout;
  memory.default_protocol = settings.protocol;
  memory.default_granularity = settings.granularity;
  memory.read_ahead = settings.read_ahead;
  memory.home_moves = settings.home_moves;
  memory.all_threads_wait = [this] { return only_our_threads(threads); };
  if (boot->outlives_nodes())
    memory.end_job = [this](const std::string& sentence) { boot->abort_job(fmt::format("node {}: {}", boot->node().value, sentence)); };
  sync::SyncConfig locks;
  locks.table_offset = 0;
  locks.table_slots = layout.lock_slots;
  locks.watchdog = static_cast<Nanos>(settings.watchdog_s * 1e9);
  locks.name_of = [this](sync::SyncId id) {
    const std::uint64_t offset = id.offset & ~sync::SyncId::kObjectBit;
    const std::string name = dsm->name_of(offset);
    return fmt::format("at {}{}", fmt::ptr(address_of(offset)), name.empty() ? name : fmt::format(" in \"{}\"", name));
  };
  for (const Regions& theirs : exchange(mine)) {
    memory.system.push_back(theirs.system);
    memory.shared.push_back(theirs.shared);
    locks.tables.push_back(theirs.system);
    symmetric.push_back(theirs.symmetric);
  }
  dsm = std::make_unique<dsm::Dsm>(memory, *env, *vm, *nic, stats);
  sync = std::make_unique<sync::Sync>(locks, *nic, *dsm, stats);
  if (locks.watchdog > 0) dsm->tell_waits(sync->waits());  // or nobody asks
  vm->set_fault_handler(dsm.get());
  boot->exchange({});  // nobody sends before everybody's handlers stand
}

void Runtime::start_engine() {
  env->set_earlier_timer_hook([this] { nic->nudge_engine(); });
  const SignalsBlocked signals;
  engine = std::thread([this] {
    if (binding.engine_core >= 0) bind_this_thread(binding.engine_core);
    while (!stop_engine.load()) {
      nic->engine_turn(binding.engine_spin_ns, env->next_timer());
      env->run_due_timers();
    }
  });
}

// By a timer of the engine's: no thread of its own (only_our_threads() counts them), and a death is known a moment after it.
void Runtime::watch_deaths() {
  boot->watch_deaths([this](NodeId node) {
    {
      const std::lock_guard hold(dead_mutex);
      dead.push_back(node.value);
    }
    sync->declare_dead(node);
    dsm->declare_dead(node);
  });
  look_for_deaths_later();
}

void Runtime::look_for_deaths_later() {
  constexpr Nanos kPeriod = 20'000'000;
  env->at(env->now() + kPeriod, [this] {
    boot->look_for_deaths();
    look_for_deaths_later();
  });
}

void Runtime::print_start_line() const {
  if (settings.verbose == 0 || boot->node() != NodeId{0}) return;
  std::fputs(fmt::format("netvm: {} node{} x {} thread{}, protocol {}, trap {} ({}), shm {}, {} at {:#x}{}{}\n", boot->nodes(),
                         boot->nodes() == 1 ? "" : "s", threads, threads == 1 ? "" : "s", settings.protocol, to_string(vm->trap()),
                         trap_reason, to_string(settings.shm_mode), format_bytes(vm->bytes()), kRangeBase,
                         vm->has_budget() ? fmt::format(", memory {}", format_bytes(settings.memory)) : std::string(),
                         binding.crowded ? "; more threads than cores: waiting parks at once" : "")
                 .c_str(),
             stderr);
}

bool Runtime::offset_of(const void* address, std::uint64_t* offset) const {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (vm->trap() != TrapKind::checked) return vm->offset_of(at, offset);
  if (at < kRangeBase || at - kRangeBase >= vm->bytes()) return false;
  *offset = at - kRangeBase;
  return true;
}

bool Runtime::may_fault(const void* address, std::size_t bytes) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  // The NIC pins symmetric memory itself; of more than can be pinned it would make one copy as long as the transfer.
  const bool large = vm->has_budget() && bytes / kPageSize + 2 > vm->most_pins();
  const std::uintptr_t from = kRangeBase + (large ? layout.symmetric : layout.shared).first.value * kPageSize;
  return (begin < kRangeBase + layout.shared.end() * kPageSize && begin + bytes > from) ||
         vm->windows().overlapping(begin, bytes) != nullptr;
}

std::vector<std::vector<std::byte>> Runtime::exchange_all(std::span<const std::byte> mine) {
  auto all = boot->exchange(mine);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!mine.empty() && all[i].empty() && boot->outlives_nodes())
      throw NodeDied(fmt::format("netvm: node {} has died, and this call needs all nodes", i));
  }
  return all;
}

void Runtime::require(Status status, std::string_view what) {
  if (status == Status::ok) return;
  if (boot->outlives_nodes() && status == Status::peer_dead)
    throw NodeDied(fmt::format("netvm: {} failed: {}, and it may need all of them", what, deaths()));
  if (const std::string mistake = sync->mistake(); status == Status::invalid && !mistake.empty())
    throw Error(fmt::format("netvm: {} failed: {}", what, mistake));
  boot->abort_job(fmt::format("node {}: {} failed: {}", boot->node().value, what, describe(status)));
}

bool Runtime::is_dead(std::uint32_t node) const {
  const std::lock_guard hold(dead_mutex);
  return std::find(dead.begin(), dead.end(), node) != dead.end();
}

std::string Runtime::deaths() const {
  const std::lock_guard hold(dead_mutex);
  if (dead.empty()) return "a node of the job has died";
  return fmt::format("{} {} {} died", dead.size() == 1 ? "node" : "the nodes", fmt::join(dead, " and "), dead.size() == 1 ? "has" : "have");
}

void Runtime::leave() {
  const Status farewell = sync->farewell();
  if (!boot->outlives_nodes() || farewell != Status::peer_dead) require(farewell, "the barrier at the end of the job");
  // All of these while everybody's engine answers; the destructors' calls are for a job that is not left.
  sync->settle();
  boot->exchange({});  // and in the farewell's place where a node has died, of which some may have heard too late
  sync->end();
  boot->exchange({});
  dsm->close();
  boot->exchange({});  // engines answer until everybody is past the barrier
  counted_main.reset();
  boot->leave(report_json(*this));
}

}  // namespace netvm::detail
