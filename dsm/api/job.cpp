// netvm::Job and netvm::Thread.
#include <fmt/format.h>
#include <unistd.h>

#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "dsm/api/job_runtime.hpp"
#include "dsm/api/spin_watch.hpp"

namespace netvm {

using detail::Runtime;

namespace {

/// Of the application thread with that number in its node.
void watch_spins(const Runtime& rt, int local) {
  if (!detail::SpinWatch::runs()) return;
  const int rank = static_cast<int>(rt.boot->node().value) * rt.threads + local;
  detail::SpinWatch::enter({[rank](LineBuffer& line) { line.append("watchdog: the thread of rank %d", rank); }});
}

/// With --watchdog: a thread that waits for a plain variable is named, too.
void begin_spin_watch(Runtime& rt) {
  if (rt.settings.watchdog_s == 0) return;
  detail::SpinWatch::Program program;
  program.seconds = rt.settings.watchdog_s;
  program.describe = [&rt](std::uintptr_t address, LineBuffer& line) {
    std::uint64_t offset = 0;
    if (rt.offset_of(reinterpret_cast<const void*>(address), &offset)) line.append(" %s", rt.dsm->describe(offset).c_str());
  };
  program.advice =
      ". Under that protocol it may never see what another thread writes there without a lock or a barrier: wait with one of "
      "netvm/sync.hpp (flag, latch, "
      "semaphore), or give this memory a sequentially consistent protocol, as sc-directory (AllocationOptions::protocol, netvmrun "
      "--protocol)";
  detail::SpinWatch::begin(rt, std::move(program));
  watch_spins(rt, 0);
}

}  // namespace

Job::Job() : Job(0) {}
Job::Job(int threads_per_node) : runtime_(std::make_unique<Runtime>(threads_per_node)) { begin_spin_watch(*runtime_); }

Job::~Job() {
  if (runtime_->owner != getpid()) {  // in a child made by fork(): no thread and no connection of the parent's may be touched
    static_cast<void>(runtime_.release());
    return;
  }
  if (runtime_->settings.watchdog_s != 0) detail::SpinWatch::end();
  // An exception passes through main(): the others must not wait for this node. It ends without a farewell and the launcher says so.
  if (std::uncaught_exceptions() > 0) return;
  try {
    runtime_->leave();
  } catch (const std::exception& error) {
    std::fflush(nullptr);  // a program that a signal has ended in good order has printed something
    runtime_->boot->abort_job(fmt::format("node {}: leaving the job failed: {}", node(), error.what()));
  }
}

int Job::node() const { return static_cast<int>(runtime_->boot->node().value); }
int Job::nodes() const { return static_cast<int>(runtime_->boot->nodes()); }
int Job::threads_per_node() const { return runtime_->threads; }
std::string_view Job::protocol() const { return runtime_->settings.protocol; }

void Job::barrier() {
  if (detail::inside_section()) throw Error("netvm: Job::barrier() inside of parallel(): use Thread::barrier() there");
  Runtime& rt = Runtime::current("Job::barrier()");
  rt.require(rt.sync->barrier(), "a barrier");
}

void Job::run_parallel(const std::function<void(Thread&)>& f) {
  if (detail::inside_section()) throw Error("netvm: parallel() inside of parallel(): sections do not nest");
  Runtime& rt = Runtime::current("Job::parallel()");
  rt.sync->set_local_threads(static_cast<std::uint32_t>(rt.threads));
  std::mutex death_guard;
  std::exception_ptr death;
  const auto body = [&](int local) {
    detail::inside_section() = true;
    if (static_cast<std::size_t>(local) < rt.binding.application_cores.size())
      bind_this_thread(rt.binding.application_cores[static_cast<std::size_t>(local)]);
    Thread me(node(), nodes(), local, rt.threads);
    std::optional<detail::CountedThread> counted;
    if (local != 0) {  // the first one counts, is watched, and has its number as long as it is in the job
      detail::number_this_thread(local);
      counted.emplace(*rt.env, rt.stats);
      watch_spins(rt, local);
    }
    try {
      rt.require(rt.sync->barrier(), "the barrier at the start of a parallel section");
      f(me);
      me.must_not_owe("the end of the parallel section");
      rt.require(rt.sync->barrier(), "the barrier at the end of a parallel section");
    } catch (const NodeDied&) {
      const std::lock_guard hold(death_guard);
      death = std::current_exception();
    } catch (const std::exception& error) {
      rt.boot->abort_job(fmt::format("node {}, thread {}: {}", me.node(), local, error.what()));
    }
    if (local != 0) detail::SpinWatch::leave();
    detail::inside_section() = false;
  };
  std::vector<std::thread> others;
  for (int local = 1; local < rt.threads; ++local) others.emplace_back(body, local);
  body(0);
  for (std::thread& thread : others) thread.join();
  rt.sync->set_local_threads(1);
  if (death) std::rethrow_exception(death);
}

namespace {
std::span<std::byte> bytes_at(void* value, std::size_t bytes) { return {static_cast<std::byte*>(value), bytes}; }
}  // namespace

void Job::broadcast_bytes(void* value, std::size_t bytes, int root) {
  if (detail::inside_section()) throw Error("netvm: Job::broadcast() inside of parallel(): use Thread::broadcast() there");
  if (root < 0 || root >= nodes()) throw Error(fmt::format("netvm: broadcast() from node {} of {}", root, nodes()));
  Runtime& rt = Runtime::current("Job::broadcast()");
  rt.require(rt.sync->broadcast(NodeId{static_cast<std::uint32_t>(root)}, bytes_at(value, bytes)), "a broadcast");
}

void Thread::must_not_owe(const char* what) const {
  if (!owes_wait_) return;
  throw std::system_error(
      std::make_error_code(std::errc::operation_not_permitted),
      fmt::format("netvm: {} by a thread (rank {}) that has arrived at a barrier and not waited: call wait() with the token first", what,
                  rank()));
}

void Thread::barrier() {
  must_not_owe("barrier()");
  Runtime& rt = Runtime::current("Thread::barrier()");
  rt.require(rt.sync->barrier(), "a barrier");
}

Thread::arrival_token Thread::arrive() {
  must_not_owe("arrive()");
  Runtime& rt = Runtime::current("Thread::arrive()");
  const Result<sync::SplitBarrier> arrived = rt.sync->arrive();
  rt.require(arrived.status(), "arriving at a barrier");
  owes_wait_ = true;
  return {arrived->number, arrived->has_arrived};
}

void Thread::wait(arrival_token&& arrival) {
  if (!owes_wait_) {
    throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                            fmt::format("netvm: wait() by a thread (rank {}) that has not arrived at a barrier, or has waited", rank()));
  }
  owes_wait_ = false;
  Runtime& rt = Runtime::current("Thread::wait()");
  rt.require(rt.sync->wait({arrival.number_, arrival.has_arrived_}), "a barrier");
}

void Thread::all_reduce(void* value, std::size_t bytes, const std::function<void(void*, const void*)>& combine) {
  must_not_owe("reduce()");
  Runtime& rt = Runtime::current("Thread::reduce()");
  const auto op = [&combine](std::span<std::byte> sum, std::span<const std::byte> other) -> std::string {
    try {
      combine(sum.data(), other.data());
    } catch (const std::exception& e) {
      return fmt::format("threw \"{}\"", e.what());
    } catch (...) {
      return "threw what is no std::exception";
    }
    return {};
  };
  rt.require(rt.sync->all_reduce(bytes_at(value, bytes), op), "a reduction");
}

void Thread::broadcast_bytes(void* value, std::size_t bytes, int root) {
  must_not_owe("broadcast()");
  if (root < 0 || root >= count()) throw Error(fmt::format("netvm: broadcast() from thread {} of {}", root, count()));
  Runtime& rt = Runtime::current("Thread::broadcast()");
  rt.require(rt.sync->broadcast(NodeId{static_cast<std::uint32_t>(root / threads_)}, bytes_at(value, bytes), rank() == root),
             "a broadcast");
}

void Job::annotate(std::string_view key, std::string_view value) {
  const std::lock_guard hold(runtime_->annotations_mutex);
  runtime_->annotations[std::string(key)] = std::string(value);
}
void Job::annotate(std::string_view key, double value) { annotate(key, fmt::format("{:.9g}", value)); }

}  // namespace netvm
