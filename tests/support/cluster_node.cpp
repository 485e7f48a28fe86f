#include "tests/support/cluster_node.hpp"

#include "dsm/layout.hpp"
#include "nic/shm_ring.hpp"
#include "runtime/check.hpp"
#include "tests/support/frame_check.hpp"

namespace netvm::test {

namespace {

constexpr std::uint64_t kSession = 7;

void require(Status status, const char* what) { NETVM_CHECK(ok(status), "%s: %s", what, describe(status).data()); }

nic::RemoteRegion open_region(nic::Nic& nic, PageRange pages) {
  auto region = nic.region_create(pages, nic::Rights::all);
  require(region.status(), "opening a node's memory");
  return *region;
}

}  // namespace

void ClusterNode::open(const ClusterOptions& options, NodeId node, Env& env) {
  std::string why;
  HostVmConfig memory;
  memory.pages = options.pages;
  memory.budget_pages = options.budget_pages;
  memory.stats = &stats;
  memory.check_frames = frames_are_checked();
  if (options.budget_pages != 0) {
    store = std::make_shared<MemoryBackingStore>();
    store->take_time(env, options.store_time);
    memory.store = store;
  }
  auto made = HostVm::create(memory, env, &why);
  NETVM_CHECK(made.has_value(), "%s", why.c_str());
  vm = std::move(made).value();

  nic::DeviceConfig shape;
  shape.node = node;
  shape.nodes = options.nodes;
  shape.pages = options.pages;
  shape.ring_bytes = nic::shm_ring::kDefaultAreaBytes;
  shape.session = kSession;
  auto built = nic::Device::create(shape, -1, vm->frame_base(), &why);
  NETVM_CHECK(built.has_value(), "%s", why.c_str());
  device = std::move(built).value();
}

void ClusterNode::attach(const ClusterOptions& options, NodeId node, Env& env, nic::Fabric& fabric) {
  nic::NicConfig config;
  config.node = node;
  config.nodes = options.nodes;
  config.session = kSession;
  config.mode = options.mode;
  nic = std::make_unique<nic::Nic>(config, env, *vm, fabric, *device, stats);
  const dsm::Layout layout = dsm::Layout::divide(options.pages, options.nodes);
  system = open_region(*nic, layout.system);
  shared = open_region(*nic, layout.shared);
}

void connect(const ClusterOptions& options, std::vector<std::unique_ptr<ClusterNode>>& nodes, const std::function<Env&(NodeId)>& env_of) {
  dsm::DsmConfig memory;
  memory.layout = dsm::Layout::divide(options.pages, options.nodes);
  memory.default_protocol = options.protocol;
  memory.factories = options.factories;
  memory.read_ahead = options.read_ahead;
  memory.home_moves = options.home_moves;
  memory.read_ahead_from = options.read_ahead_from;
  sync::SyncConfig locks;
  locks.table_slots = memory.layout.lock_slots;
  locks.watchdog = options.watchdog;
  for (const auto& node : nodes) {
    memory.system.push_back(node->system);
    memory.shared.push_back(node->shared);
    locks.tables.push_back(node->system);
  }
  for (std::uint32_t i = 0; i < options.nodes; ++i) {
    ClusterNode& node = *nodes[i];
    if (options.all_threads_wait) memory.all_threads_wait = [ask = options.all_threads_wait, i] { return ask(NodeId{i}); };
    node.dsm = std::make_unique<dsm::Dsm>(memory, env_of(NodeId{i}), *node.vm, *node.nic, node.stats);
    sync::CoherenceHook* hook = node.dsm.get();
    if (options.wrap_hook) {
      node.wrapped = options.wrap_hook(NodeId{i}, *node.dsm);
      hook = node.wrapped.get();
    }
    if (options.report) locks.report = [tell = options.report, i](const std::vector<std::string>& lines) { tell(NodeId{i}, lines); };
    node.sync = std::make_unique<sync::Sync>(locks, *node.nic, *hook, node.stats);
    node.sync->set_local_threads(options.threads);
    node.dsm->tell_waits(node.sync->waits());
    node.vm->set_fault_handler(node.dsm.get());
  }
}

void ClusterWorker::load_bytes(Place from, void* to, std::size_t bytes) {
  NETVM_CHECK(on_.vm->checked_load(from, to, bytes), "a load outside of all allocations: offset %llu",
              static_cast<unsigned long long>(from));
}

void ClusterWorker::store_bytes(Place to, const void* from, std::size_t bytes) {
  NETVM_CHECK(on_.vm->checked_store(to, from, bytes), "a store outside of all allocations: offset %llu",
              static_cast<unsigned long long>(to));
}

void ClusterWorker::lock(Place mutex) { require(on_.sync->lock(mutex, local() + 1), "locking a mutex"); }
void ClusterWorker::unlock(Place mutex) { require(on_.sync->unlock(mutex, local() + 1), "unlocking a mutex"); }
void ClusterWorker::barrier() { require(on_.sync->barrier(), "a barrier"); }
void ClusterWorker::arrive() {
  const Result<sync::SplitBarrier> arrived = on_.sync->arrive();
  require(arrived.status(), "arriving at a barrier");
  arrived_ = *arrived;
}
void ClusterWorker::wait() { require(on_.sync->wait(arrived_), "waiting at a barrier"); }
void ClusterWorker::bind(Place mutex, Place data, std::uint64_t bytes) {
  NETVM_CHECK(on_.dsm->bind(sync::SyncId{mutex}, data, bytes), "binding memory outside of all allocations: offset %llu", printable(data));
}
void ClusterWorker::bind_rwlock(Place lock, Place data, std::uint64_t bytes) {
  NETVM_CHECK(on_.dsm->bind(sync::SyncId::of_object(lock), data, bytes), "binding memory outside of all allocations: offset %llu",
              printable(data));
}
Place ClusterWorker::allocate(std::uint64_t bytes, const dsm::AllocOptions& options) {
  std::string why;
  const auto offset = on_.dsm->allocate(bytes, options, &why);
  return offset.has_value() ? *offset : 0;
}
void ClusterWorker::free(Place memory) { require(on_.dsm->free(memory), "freeing memory"); }

}  // namespace netvm::test
