#include "apps/netvm-perf/session.hpp"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

namespace netvm::perf {

namespace {

constexpr int kMostRounds = 100'000'000;

std::vector<nic::RemoteCounter> make_counters(detail::Runtime& runtime) {
  const auto made = runtime.nic->counter_create();
  if (!made) throw Error(fmt::format("netvm-perf: no event counter left: {}", describe(made.status())));
  return runtime.exchange(*made);
}

std::byte* page_aligned(std::byte* at) {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  return at + ((address + kPageSize - 1) / kPageSize * kPageSize - address);
}

}  // namespace

Session::Session(Job& job, const Options& options, std::size_t largest, FloorPartner* floor, ProgressPipe& progress)
    : job_(job),
      options_(options),
      runtime_(detail::Runtime::current("netvm-perf")),
      floor_(floor),
      progress_(progress),
      me_(job.node()),
      peer_(job.node() == options.between[0] ? options.between[1] : options.between[0]),
      largest_(std::max<std::size_t>(largest, kPageSize)),
      data_(page_aligned(job.symmetric_all<std::byte>(largest_ + kPageSize))),
      control_(job.symmetric_all<std::uint64_t>(1)),
      agreed_(job.symmetric_all<std::uint64_t>(4)),
      data_offset_(detail::symmetric_offset(runtime_, data_, largest_, me_, "netvm-perf")),
      source_(largest_, std::byte{7}),
      meetings_(make_counters(runtime_)),
      counters_(make_counters(runtime_)) {
  if (takes_part()) bind_apart();
}

void Session::bind_apart() const {
  const auto& processors = Topology::of_this_host().processors();
  if (!runtime_.settings.bind || !runtime_.binding.application_cores.empty() || processors.size() < 2) return;
  const auto other_core =
      std::find_if(processors.begin(), processors.end(), [&](const auto& p) { return p.core != processors.front().core; });
  const auto& second = other_core != processors.end() ? *other_core : processors[1];
  bind_this_thread(measures() ? processors.front().number : second.number);
}

Session::~Session() {
  static_cast<void>(nic().counter_destroy(meetings_[static_cast<std::size_t>(me_)]));
  static_cast<void>(nic().counter_destroy(counters_[static_cast<std::size_t>(me_)]));
}

void Session::say(const std::string& text) {
  if (measures()) progress_.say(text);
}

void Session::require(Status status, const char* what) const {
  if (status != Status::ok)
    throw Error(fmt::format("netvm-perf: {} between nodes {} and {} failed: {}", what, me_, peer_, describe(status)));
}

void Session::meet(nic::WaitMode mode) {
  require(nic().notify(meetings_[static_cast<std::size_t>(peer_)], 1), "notify");
  require(nic().counter_wait(meetings_[static_cast<std::size_t>(me_)], ++met_, mode), "waiting");
}

std::uint64_t Session::agree(std::uint64_t value) {
  std::uint64_t* slot = agreed_ + agreements_++ % 4;
  if (measures()) netvm::put(peer_, slot, &value);
  meet();
  return measures() ? value : *slot;
}

void Session::settle() {
  const timespec pause{0, static_cast<long>(std::min<Nanos>(runtime_.binding.spin_ns, 1'000'000) + 30'000)};
  ::nanosleep(&pause, nullptr);
}

void Session::await_word(const std::byte* at, std::uint64_t value) {
  const auto* word = reinterpret_cast<const volatile std::uint64_t*>(at);
  const auto arrived = [&] {
    const std::uint64_t seen = *word;
    std::atomic_thread_fence(std::memory_order_acquire);  // acquire: partner is the release at the end of the put's placement
    return seen == value;
  };
  if (packet()) {
    spin_until([&] { return arrived() || (nic().drive() && arrived()); });
  } else {
    spin_until(arrived);
  }
}

std::size_t Arms::add(Run run, bool pair) {
  arms_.push_back({.run = std::move(run), .pair = pair, .rounds = 1, .values = {}});
  return arms_.size() - 1;
}

double Arms::take_turn(Arm& arm, int rounds) {
  if (arm.pair) {
    session_.meet();
    return arm.run(rounds);
  }
  if (!session_.measures()) return 0;
  session_.settle();
  return arm.run(rounds);
}

void Arms::calibrate(Arm& arm, double batch_ns) {
  const Options& options = session_.options();
  if (options.warmup > 0) take_turn(arm, static_cast<int>(std::min<std::uint64_t>(options.warmup, kMostRounds)));
  if (options.iterations > 0) {
    arm.rounds = static_cast<int>(std::min<std::uint64_t>(options.iterations, kMostRounds));
    return;
  }
  int rounds = 1;
  for (;;) {
    const double ns = std::max(take_turn(arm, rounds), 0.1);
    const bool long_enough = ns * rounds >= batch_ns / 8 || rounds >= kMostRounds;
    const double fitting = std::clamp(batch_ns / ns, 1.0, static_cast<double>(kMostRounds));
    const int next = static_cast<int>(long_enough ? fitting : std::min(fitting, rounds * 16.0));
    // What A says; without B where B has no part.
    const std::uint64_t agreed = session_.agree(static_cast<std::uint64_t>(next) * 2 + (long_enough ? 1 : 0));
    rounds = static_cast<int>(agreed / 2);
    if ((agreed & 1) != 0) break;
  }
  arm.rounds = rounds;
}

void Arms::run() {
  const Options& options = session_.options();
  const double batch_ns = options.seconds * 1e9 / options.batches / static_cast<double>(arms_.size());
  for (Arm& arm : arms_) calibrate(arm, batch_ns);
  std::vector<std::size_t> order(arms_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Mixer random(options.batches + arms_.size());
  for (int batch = 0; batch < options.batches; ++batch) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    for (const std::size_t i : order) {
      const double ns = take_turn(arms_[i], arms_[i].rounds);
      if (session_.measures()) arms_[i].values.push_back(ns);
    }
  }
}

}  // namespace netvm::perf
