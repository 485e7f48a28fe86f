#include "tests/support/sim_cluster.hpp"

#include "runtime/check.hpp"

namespace netvm::test {

namespace {

SimOptions simulator_options(const SimClusterOptions& options) {
  SimOptions made;
  made.seed = options.seed;
  made.schedule_jitter = options.schedule_jitter;
  made.max_events = options.max_events;
  return made;
}

void pause_for(Env& env, Nanos time) {
  const std::atomic<std::uint32_t> never{0};
  const ParkOn word{&never, 0};
  const Nanos until = env.now() + time;
  do env.park({&word, 1}, until);
  while (env.now() < until);
}

class SimWorker final : public ClusterWorker {
 public:
  SimWorker(Simulator& simulator, ClusterNode& on, const ClusterOptions& options, NodeId node, std::uint32_t local)
      : ClusterWorker(on, options, node, local), simulator_(simulator) {}
  [[nodiscard]] Nanos now() const override { return simulator_.env(NodeId{node()}).now(); }
  void pause(Nanos time) override { pause_for(simulator_.env(NodeId{node()}), time); }
  void trace(std::uint64_t what) override { simulator_.trace(what); }

 private:
  Simulator& simulator_;
};

}  // namespace

SimCluster::SimCluster(const SimClusterOptions& options)
    : options_(options), simulator_(simulator_options(options)), network_(simulator_, options.nodes, options.network) {
  if (!options_.all_threads_wait) options_.all_threads_wait = [this](NodeId) { return !has_beside_; };
  for (std::uint32_t i = 0; i < options_.nodes; ++i) {
    nodes_.push_back(std::make_unique<ClusterNode>());
    nodes_[i]->open(options_, NodeId{i}, simulator_.env(NodeId{i}));
  }
  for (std::uint32_t i = 0; i < options_.nodes; ++i) {
    if (options_.mode == ShmMode::direct) {
      for (std::uint32_t to = 0; to < options_.nodes; ++to) network_.connect_device(NodeId{i}, NodeId{to}, nodes_[to]->device.get());
    }
    nodes_[i]->attach(options_, NodeId{i}, simulator_.env(NodeId{i}), network_.fabric(NodeId{i}));
  }
  connect(options_, nodes_, [this](NodeId node) -> Env& { return simulator_.env(node); });
}

// Nothing runs outside of run(): what threads that gave up waiting have left behind would wait for ever in the nodes' destructors.
SimCluster::~SimCluster() {
  if (!ended_well_) return;
  for (std::uint32_t i = 0; i < options_.nodes; ++i) simulator_.start(NodeId{i}, "end", [this, i] { nodes_[i]->sync->end(); });
  const Ending ending = finish();
  NETVM_CHECK(ending.well, "what was left behind does not end: %s", ending.text.c_str());
}

Place SimCluster::allocate(std::uint64_t bytes, const dsm::AllocOptions& options) {
  Place place = 0;
  run_at_node_0("allocation", [&](dsm::Dsm& dsm) {
    std::string why;
    const auto offset = dsm.allocate(bytes, options, &why);
    NETVM_CHECK(offset.has_value(), "%s", why.c_str());
    place = *offset;
  });
  return place;
}

void SimCluster::free(Place memory) {
  run_at_node_0("freeing", [&](dsm::Dsm& dsm) { NETVM_CHECK(ok(dsm.free(memory)), "memory that was allocated cannot be freed"); });
}

void SimCluster::run_at_node_0(const char* what, std::function<void(dsm::Dsm&)> body) {
  simulator_.start(NodeId{0}, what, [&] { body(*nodes_[0]->dsm); });
  const Ending ending = finish();
  NETVM_CHECK(ending.well, "%s: %s", what, ending.text.c_str());
}

void SimCluster::evict_while_running(NodeId node) {
  simulator_.start(node, "evictor", [this, node] {
    Env& env = simulator_.env(node);
    while (running_ > 0) {
      pause_for(env, static_cast<Nanos>(env.random() % static_cast<std::uint64_t>(options_.evict_every)) + 1);
      simulator_.trace(nodes_[node.value]->vm->evict(1 + env.random() % 8));
    }
  });
}

Ending SimCluster::run_with(const Program& program, const Program& beside) {
  running_ = options_.nodes * options_.threads;
  has_beside_ = static_cast<bool>(beside);
  for (std::uint32_t node = 0; node < options_.nodes; ++node) {
    if (options_.evict_every != 0) evict_while_running(NodeId{node});
    if (beside) {
      simulator_.start(NodeId{node}, "beside", [this, node, &beside] {
        SimWorker worker(simulator_, *nodes_[node], options_, NodeId{node}, options_.threads);
        beside(worker);
      });
    }
    for (std::uint32_t local = 0; local < options_.threads; ++local) {
      simulator_.start(NodeId{node}, "thread " + std::to_string(local), [this, node, local, &program] {
        SimWorker worker(simulator_, *nodes_[node], options_, NodeId{node}, local);
        worker.barrier();
        program(worker);
        worker.barrier();
        --running_;
      });
    }
  }
  return finish();
}

Ending SimCluster::run_at_once(const Program& program) {
  for (std::uint32_t node = 0; node < options_.nodes; ++node) {
    for (std::uint32_t local = 0; local < options_.threads; ++local) {
      simulator_.start(NodeId{node}, "thread " + std::to_string(local), [this, node, local, &program] {
        SimWorker worker(simulator_, *nodes_[node], options_, NodeId{node}, local);
        program(worker);
      });
    }
  }
  return finish();
}

Ending SimCluster::finish() {
  const Simulator::Report report = simulator_.run();
  ended_well_ = report.end == Simulator::End::all_done;
  return {ended_well_, report.text, report.trace_hash};
}

}  // namespace netvm::test
