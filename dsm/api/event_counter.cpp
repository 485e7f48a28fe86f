// netvm::EventCounter: the NIC's event counters, one instance a node.
#include <fmt/format.h>

#include "dsm/api/job_runtime.hpp"

namespace netvm {

using detail::Runtime;

struct EventCounter::State {
  Runtime* runtime;
  std::vector<nic::RemoteCounter> instances;  // by node

  [[nodiscard]] const nic::RemoteCounter& mine() const { return instances[runtime->boot->node().value]; }
  [[nodiscard]] const nic::RemoteCounter& at(int node) const {
    if (node < 0 || static_cast<std::size_t>(node) >= instances.size()) {
      throw Error(fmt::format("netvm: EventCounter: there is no node {}; the job has nodes 0 to {}", node, instances.size() - 1));
    }
    return instances[static_cast<std::size_t>(node)];
  }
};

EventCounter::EventCounter(Job& /*job*/) : state_(std::make_unique<State>()) {
  if (detail::inside_section()) throw Error("netvm: an EventCounter is made outside of parallel()");
  state_->runtime = &Runtime::current("an EventCounter");
  auto made = state_->runtime->nic->counter_create();
  if (!made) throw Error(fmt::format("netvm: no event counter left: {}", describe(made.status())));
  state_->instances = state_->runtime->exchange(*made);
}

EventCounter::~EventCounter() {
  if (Runtime::current_or_null() == state_->runtime) static_cast<void>(state_->runtime->nic->counter_destroy(state_->mine()));
}

std::uint64_t EventCounter::value() const { return state_->runtime->nic->counter_value(state_->mine()); }

void EventCounter::wait(std::uint64_t threshold) { static_cast<void>(wait_for(threshold, std::chrono::nanoseconds::max())); }

bool EventCounter::wait_for(std::uint64_t threshold, std::chrono::nanoseconds time) {
  Runtime& rt = *state_->runtime;
  const Nanos now = rt.env->now();
  const Nanos deadline = time.count() >= kForever - now ? kForever : now + time.count();
  const Status status = rt.nic->counter_wait(state_->mine(), threshold, nic::WaitMode::adaptive, deadline, detail::this_thread_id());
  if (status == Status::timeout) return false;
  if (status == Status::peer_dead && rt.boot->outlives_nodes()) {
    throw NodeDied(
        fmt::format("netvm: waiting for an event counter failed: {}, and it may have been about to announce something (the counter is at "
                    "{}; {} is awaited)",
                    rt.deaths(), value(), threshold));
  }
  rt.require(status, "waiting for an event counter");
  return true;
}

void EventCounter::on_reach(std::uint64_t threshold, Handler handler) {
  if (!handler) throw Error("netvm: EventCounter::on_reach(): an empty handler");
  Runtime& rt = *state_->runtime;
  const auto run = [&rt, handler = std::move(handler)](std::uint64_t value, std::uint64_t errors) -> std::uint64_t {
    if (errors > 0)
      rt.boot->abort_job(fmt::format("node {}: an event counter with a handler missed an announcement", rt.boot->node().value));
    try {
      return handler(value);
    } catch (const std::exception& error) {
      rt.boot->abort_job(fmt::format("node {}, a handler of an event counter: {}", rt.boot->node().value, error.what()));
    }
    return never;
  };
  const Status status = rt.nic->set_handler(state_->mine(), threshold, run);
  if (status == Status::invalid) throw Error("netvm: EventCounter::on_reach(): it has a handler; clear_handler() first");
  if (status != Status::ok) throw Error(fmt::format("netvm: EventCounter::on_reach(): {}", describe(status)));
}

void EventCounter::clear_handler() { static_cast<void>(state_->runtime->nic->clear_handler(state_->mine())); }

void EventCounter::notify(int node, std::uint64_t by) {
  const Status status = state_->runtime->nic->notify(state_->at(node), by);
  if (status != Status::ok) throw Error(fmt::format("netvm: notify of node {} failed: {}", node, describe(status)));
}

void EventCounter::put_bytes(int node, void* to, const void* from, std::size_t bytes, std::uint64_t by) {
  Runtime& rt = *state_->runtime;
  const nic::RemoteCounter& counter = state_->at(node);
  const std::uint64_t offset = detail::symmetric_offset(rt, to, bytes, node, "put");
  const nic::RemoteRegion& region = rt.symmetric[static_cast<std::size_t>(node)];
  const auto piece = [&](std::uint64_t at, const std::byte* source, std::size_t n, bool last) {
    return last ? rt.nic->write_notify(region, at, source, n, counter, by, nic::NotifyMode::ordered) : rt.nic->write(region, at, source, n);
  };
  if (rt.may_fault(from, bytes)) return detail::put_staged(node, offset, from, bytes, piece);
  detail::check_transfer(piece(offset, static_cast<const std::byte*>(from), bytes, true), "put to", node, from, bytes);
}

}  // namespace netvm
