#include "tests/support/thread_cluster.hpp"

#include "runtime/check.hpp"
#include "runtime/random.hpp"

namespace netvm::test {

namespace {

class ThreadWorker final : public ClusterWorker {
 public:
  ThreadWorker(RealEnv& env, ClusterNode& on, const ClusterOptions& options, NodeId node, std::uint32_t local)
      : ClusterWorker(on, options, node, local), env_(env) {}
  void pause(Nanos time) override {
    const Nanos until = env_.now() + time;
    while (env_.now() < until) env_.relax();
  }

 private:
  RealEnv& env_;
};

}  // namespace

ThreadCluster::ThreadCluster(const ClusterOptions& options) : options_(options) {
  RealEnvOptions world;
  world.crowded = options_.nodes * (options_.threads + 1) > std::thread::hardware_concurrency();
  world.spin_budget = world.crowded ? 0 : 20'000;
  std::vector<nic::Device*> devices;
  for (std::uint32_t i = 0; i < options_.nodes; ++i) {
    world.seed = mix64(options_.seed + i);
    envs_.push_back(std::make_unique<RealEnv>(world));
    nodes_.push_back(std::make_unique<ClusterNode>());
    nodes_[i]->open(options_, NodeId{i}, *envs_[i]);
    devices.push_back(nodes_[i]->device.get());
  }
  for (std::uint32_t i = 0; i < options_.nodes; ++i) {
    fabrics_.push_back(std::make_unique<nic::ShmFabric>(NodeId{i}, options_.nodes, *envs_[i], devices));
    nodes_[i]->attach(options_, NodeId{i}, *envs_[i], *fabrics_[i]);
  }
  connect(options_, nodes_, [this](NodeId node) -> Env& { return *envs_[node.value]; });
  for (std::uint32_t i = 0; i < options_.nodes; ++i) {
    envs_[i]->set_earlier_timer_hook([nic = nodes_[i]->nic.get()] { nic->nudge_engine(); });
    engines_.emplace_back([this, i] {
      while (!stop_.load()) {
        nodes_[i]->nic->engine_turn(0, envs_[i]->next_timer());
        envs_[i]->run_due_timers();
      }
    });
  }
}

ThreadCluster::~ThreadCluster() {
  for (const auto& node : nodes_) node->dsm->close();
  for (const auto& node : nodes_) node->vm->close();
  stop_.store(true);
  for (const auto& node : nodes_) node->nic->shut_down();
  for (std::thread& engine : engines_) engine.join();
  nodes_.clear();  // before the fabrics that they use
}

Place ThreadCluster::allocate(std::uint64_t bytes, const dsm::AllocOptions& options) {
  std::string why;
  const auto offset = nodes_[0]->dsm->allocate(bytes, options, &why);
  NETVM_CHECK(offset.has_value(), "%s", why.c_str());
  return *offset;
}

void ThreadCluster::free(Place memory) { NETVM_CHECK(ok(nodes_[0]->dsm->free(memory)), "memory that was allocated cannot be freed"); }

Ending ThreadCluster::run(const std::function<void(Worker&)>& program) {
  std::vector<std::thread> workers;
  for (std::uint32_t node = 0; node < options_.nodes; ++node) {
    for (std::uint32_t local = 0; local < options_.threads; ++local) {
      workers.emplace_back([this, node, local, &program] {
        ThreadWorker worker(*envs_[node], *nodes_[node], options_, NodeId{node}, local);
        worker.barrier();
        program(worker);
        worker.barrier();
      });
    }
  }
  for (std::thread& worker : workers) worker.join();
  return {};
}

}  // namespace netvm::test
