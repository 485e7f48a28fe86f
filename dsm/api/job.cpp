// netvm::Job and netvm::Thread.
#include <fmt/format.h>
#include <unistd.h>

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "dsm/api/job_runtime.hpp"

namespace netvm {

using detail::Runtime;

Job::Job() : Job(0) {}
Job::Job(int threads_per_node) : runtime_(std::make_unique<Runtime>(threads_per_node)) {}

Job::~Job() {
  if (runtime_->owner != getpid()) {  // in a child made by fork(): no thread and no connection of the parent's may be touched
    static_cast<void>(runtime_.release());
    return;
  }
  // An exception passes through main(): the others must not wait for this node. It ends without a farewell and the launcher says so.
  if (std::uncaught_exceptions() > 0) return;
  try {
    runtime_->leave();
  } catch (const std::exception& error) {
    runtime_->boot->abort_job(fmt::format("node {}: leaving the job failed: {}", node(), error.what()));
  }
}

int Job::node() const { return static_cast<int>(runtime_->boot->node().value); }
int Job::nodes() const { return static_cast<int>(runtime_->boot->nodes()); }
int Job::threads_per_node() const { return runtime_->threads; }
std::string_view Job::protocol() const { return runtime_->settings.protocol; }

void Job::barrier() {
  if (detail::inside_section()) throw Error("netvm: Job::barrier() inside of parallel(): use Thread::barrier() there");
  runtime_->require(runtime_->sync->barrier(), "a barrier");
}

void Job::run_parallel(const std::function<void(Thread&)>& f) {
  if (detail::inside_section()) throw Error("netvm: parallel() inside of parallel(): sections do not nest");
  Runtime& rt = *runtime_;
  rt.sync->set_local_threads(static_cast<std::uint32_t>(rt.threads));
  std::mutex death_guard;
  std::exception_ptr death;
  const auto body = [&](int local) {
    detail::inside_section() = true;
    if (static_cast<std::size_t>(local) < rt.binding.application_cores.size())
      bind_this_thread(rt.binding.application_cores[static_cast<std::size_t>(local)]);
    Thread me(node(), nodes(), local, rt.threads);
    const detail::CountedThread counted(rt);
    try {
      rt.require(rt.sync->barrier(), "the barrier at the start of a parallel section");
      f(me);
      rt.require(rt.sync->barrier(), "the barrier at the end of a parallel section");
    } catch (const NodeDied&) {
      const std::lock_guard hold(death_guard);
      death = std::current_exception();
    } catch (const std::exception& error) {
      rt.boot->abort_job(fmt::format("node {}, thread {}: {}", me.node(), local, error.what()));
    }
    detail::inside_section() = false;
  };
  std::vector<std::thread> others;
  for (int local = 1; local < rt.threads; ++local) others.emplace_back(body, local);
  body(0);
  for (std::thread& thread : others) thread.join();
  rt.sync->set_local_threads(1);
  if (death) std::rethrow_exception(death);
}

void Thread::barrier() {
  Runtime& rt = Runtime::current("Thread::barrier()");
  rt.require(rt.sync->barrier(), "a barrier");
}

void Thread::all_reduce(void* value, std::size_t bytes, const std::function<void(void*, const void*)>& combine) {
  Runtime& rt = Runtime::current("Thread::reduce()");
  const auto op = [&combine](std::span<std::byte> sum, std::span<const std::byte> other) { combine(sum.data(), other.data()); };
  rt.require(rt.sync->all_reduce({static_cast<std::byte*>(value), bytes}, op), "a reduction");
}

void Job::annotate(std::string_view key, std::string_view value) {
  const std::lock_guard hold(runtime_->annotations_mutex);
  runtime_->annotations[std::string(key)] = std::string(value);
}
void Job::annotate(std::string_view key, double value) { annotate(key, fmt::format("{:.9g}", value)); }

}  // namespace netvm
