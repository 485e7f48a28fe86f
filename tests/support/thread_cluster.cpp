#include "tests/support/thread_cluster.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "runtime/check.hpp"
#include "runtime/random.hpp"

namespace netvm::test {

// Written by its thread alone.
struct ThreadCluster::Post {
  std::string thread;
  std::atomic<const char*> doing{"begins"};
  std::atomic<Place> at{0};
  std::atomic<std::uint64_t> steps{0};

  void note(const char* what, Place place = 0) {
    // relaxed: nothing else follows from them
    doing.store(what, std::memory_order_relaxed);
    at.store(place, std::memory_order_relaxed);
    steps.store(steps.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

class ThreadCluster::ThreadWorker final : public ClusterWorker {
 public:
  ThreadWorker(Post& post, RealEnv& env, ClusterNode& on, const ClusterOptions& options, NodeId node, std::uint32_t local)
      : ClusterWorker(on, options, node, local), post_(post), env_(env) {}

  void load_bytes(Place from, void* to, std::size_t bytes) override {
    post_.note("loads from", from);
    ClusterWorker::load_bytes(from, to, bytes);
  }
  void store_bytes(Place to, const void* from, std::size_t bytes) override {
    post_.note("stores to", to);
    ClusterWorker::store_bytes(to, from, bytes);
  }
  void lock(Place mutex) override {
    post_.note("locks", mutex);
    ClusterWorker::lock(mutex);
  }
  void unlock(Place mutex) override {
    post_.note("unlocks", mutex);
    ClusterWorker::unlock(mutex);
  }
  void barrier() override {
    post_.note("is at a barrier");
    ClusterWorker::barrier();
  }
  void wait() override {
    post_.note("waits at a barrier");
    ClusterWorker::wait();
  }
  Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override {
    post_.note("allocates");
    return ClusterWorker::allocate(bytes, options);
  }
  void free(Place memory) override {
    post_.note("frees", memory);
    ClusterWorker::free(memory);
  }
  sync::Sync& sync() override {
    post_.note("uses a lock or object");
    return ClusterWorker::sync();
  }
  [[nodiscard]] Nanos now() const override { return env_.now(); }
  void pause(Nanos time) override {
    post_.doing.store("pauses", std::memory_order_relaxed);  // relaxed: as above. No step: it may wait for others so
    const Nanos until = env_.now() + time;
    while (env_.now() < until) env_.relax();
  }

 private:
  Post& post_;
  RealEnv& env_;
};

ThreadCluster::ThreadCluster(const ClusterOptions& options) : options_(options), reports_(options.nodes) {
  if (!options_.all_threads_wait) options_.all_threads_wait = [this](NodeId) { return !has_beside_.load(); };
  if (options_.watchdog == 0) options_.watchdog = kHang / 4;
  options_.report = [this](NodeId node, const std::vector<std::string>& lines) {
    const std::lock_guard guard(mutex_);
    reports_[node.value] = {envs_[0]->now(), lines};
  };
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
  // As a job ends (Runtime::leave()).
  for (const auto& node : nodes_) node->sync->settle();
  for (const auto& node : nodes_) node->sync->end();
  for (const auto& node : nodes_) node->dsm->close();
  for (const auto& node : nodes_) node->vm->close();
  stop_.store(true);
  for (const auto& node : nodes_) node->nic->shut_down();
  for (std::thread& engine : engines_) engine.join();
  for (const auto& node : nodes_) (void)node->nic->close();  // waits for its tasks: they reach into all nodes' rings
  nodes_.clear();                                            // before the fabrics that they use
}

Place ThreadCluster::allocate(std::uint64_t bytes, const dsm::AllocOptions& options) {
  std::string why;
  const auto offset = nodes_[0]->dsm->allocate(bytes, options, &why);
  NETVM_CHECK(offset.has_value(), "%s", why.c_str());
  return *offset;
}

void ThreadCluster::free(Place memory) { NETVM_CHECK(ok(nodes_[0]->dsm->free(memory)), "memory that was allocated cannot be freed"); }

void ThreadCluster::evict_while_running() {
  SplitMix64 random(mix64(options_.seed ^ 0xe71c));
  std::unique_lock guard(mutex_);
  while (running_ != 0) {
    guard.unlock();
    nodes_[random.below(options_.nodes)]->vm->evict(1 + random.below(8));
    guard.lock();
    const auto pause = std::chrono::nanoseconds(random.below(static_cast<std::uint64_t>(options_.evict_every)));
    ended_.wait_for(guard, pause, [this] { return running_ == 0; });
  }
}

std::string ThreadCluster::describe_hang(const std::vector<Post>& posts, Nanos since) {
  std::string text = fmt::format("no thread has come any further for {} s", (envs_[0]->now() - since) / 1'000'000'000);
  for (const Post& post : posts) {
    // relaxed: they stand still
    text += fmt::format("\n  {}: {}", post.thread, post.doing.load(std::memory_order_relaxed));
    if (const Place at = post.at.load(std::memory_order_relaxed); at != 0) text += fmt::format(" {:#x}", at);
  }
  for (const Report& report : reports_) {
    if (report.when < since) continue;  // of what has ended well
    for (const std::string& line : report.lines) text += "\n  watchdog: " + line;
  }
  return text;
}

void ThreadCluster::watch(std::vector<Post>& posts) {
  Nanos since = envs_[0]->now();
  std::uint64_t before = 0;
  std::unique_lock guard(mutex_);
  while (!ended_.wait_for(guard, std::chrono::seconds(1), [this] { return running_ == 0; })) {
    std::uint64_t steps = 0;
    for (const Post& post : posts) steps += post.steps.load(std::memory_order_relaxed);  // relaxed: only whether they grow
    const Nanos now = envs_[0]->now();
    if (steps != before) since = now;
    before = steps;
    if (now - since < kHang) continue;
    std::fprintf(stderr, "%s\n", describe_hang(posts, since).c_str());  // more than a check prints
    NETVM_CHECK(false, "a run on threads hangs");
  }
}

Ending ThreadCluster::run_with(const Program& program, const Program& beside) {
  const std::uint32_t on_node = options_.threads + (beside ? 1 : 0);
  has_beside_ = static_cast<bool>(beside);
  running_ = options_.nodes * on_node;
  std::vector<Post> posts(running_);
  std::vector<std::thread> threads;
  for (std::uint32_t node = 0; node < options_.nodes; ++node) {
    for (std::uint32_t local = 0; local < on_node; ++local) {
      Post& post = posts[node * on_node + local];
      post.thread = local < options_.threads ? fmt::format("node {} thread {}", node, local) : fmt::format("node {} beside", node);
      threads.emplace_back([this, &post, node, local, &program, &beside] {
        ThreadWorker worker(post, *envs_[node], *nodes_[node], options_, NodeId{node}, local);
        if (local < options_.threads) {
          worker.barrier();
          program(worker);
          worker.barrier();
        } else {
          beside(worker);
        }
        post.note("has ended");
        const std::lock_guard guard(mutex_);
        if (--running_ == 0) ended_.notify_all();
      });
    }
  }
  if (options_.evict_every != 0) threads.emplace_back([this] { evict_while_running(); });
  watch(posts);
  for (std::thread& thread : threads) thread.join();
  return {};
}

}  // namespace netvm::test
