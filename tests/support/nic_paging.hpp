// Paging for the NIC's tests: pages that leave at any moment, and page-ins that take their time, wait for the test, or fail.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "runtime/backing_store.hpp"
#include "tests/support/nic_world.hpp"

namespace netvm::test {

inline void sleep_until(Env& env, Nanos moment) {
  const std::atomic<std::uint32_t> never{0};
  const ParkOn word{&never, 0};
  while (env.now() < moment) env.park({&word, 1}, moment);
}

/// A backing store in memory, of one node. Each page that is read waits as the test wants, and may fail.
class TestStore final : public BackingStore {
 public:
  using Wait = std::function<void(PageId)>;

  BackingResult write(PageRange pages, const std::byte* from) noexcept override {
    const std::lock_guard guard(mutex_);
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      kept_[pages.first.value + i].assign(from + i * kPageSize, from + (i + 1) * kPageSize);
    }
    return {};
  }
  BackingResult read(PageRange pages, std::byte* to) noexcept override {
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      const std::uint64_t page = pages.first.value + i;
      if (wait && !at_once_) wait(PageId{page});
      const std::lock_guard guard(mutex_);
      if (failing_.contains(page)) return {EIO, page * kPageSize};
      NETVM_CHECK(kept_.contains(page), "page %llu is read and was never written", static_cast<unsigned long long>(page));
      std::memcpy(to + i * kPageSize, kept_[page].data(), kPageSize);
    }
    return {};
  }
  void forget(PageRange pages) noexcept override {
    const std::lock_guard guard(mutex_);
    for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) kept_.erase(page);
  }
  [[nodiscard]] const char* name() const override { return "a test's store"; }
  [[nodiscard]] std::uint64_t bytes_in_use() const noexcept override {
    const std::lock_guard guard(mutex_);
    return kept_.size() * kPageSize;
  }

  void fail(PageId page, bool fails) {
    const std::lock_guard guard(mutex_);
    if (fails) {
      failing_.insert(page.value);
    } else {
      failing_.erase(page.value);
    }
  }
  /// While it lives this thread's page-ins do not wait.
  struct AtOnce {
    AtOnce() { at_once_ = true; }
    ~AtOnce() { at_once_ = false; }
  };

  Wait wait;

 private:
  static inline thread_local bool at_once_ = false;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::vector<std::byte>> kept_;
  std::set<std::uint64_t> failing_;
};

/// Gives the nodes of a world their stores; made before the world.
class Paging {
 public:
  /// So that the world's nodes page. Where the options name no budget, it has room for all: pages leave when the test says so.
  NicWorldOptions with(NicWorldOptions options) {
    stores_.clear();
    for (std::uint32_t node = 0; node < options.nodes; ++node) stores_.push_back(std::make_shared<TestStore>());
    if (options.budget_pages == 0) options.budget_pages = 16 * options.pages;
    options.store = [this](std::uint32_t node) { return stores_[node]; };
    return options;
  }
  void attach(NicWorld& world) { world_ = &world; }

  [[nodiscard]] TestStore& store(std::uint32_t node) { return *stores_[node]; }
  void set_page_in(const std::function<void(std::uint32_t node, PageId page)>& wait) {
    for (std::uint32_t node = 0; node < stores_.size(); ++node) {
      stores_[node]->wait = [wait, node](PageId page) { wait(node, page); };
    }
  }
  void fail(std::uint32_t node, PageId page, bool fails) { stores_[node]->fail(page, fails); }

  /// Takes this page away, and no other one. Its way back leads through the store.
  void evict(std::uint32_t node, PageId page) {
    HostVm& vm = world_->vm(node);
    const TestStore::AtOnce at_once;
    CHECK(vm.pin({page, 1}, true).has_value());  // it counts as changed
    for (int turn = 0; vm.resident(page); ++turn) {
      REQUIRE(turn < 100'000);  // an answer may come a moment before the pins are gone, not longer
      std::vector<PageId> others;
      for (std::uint64_t p = 0; p < vm.pages(); ++p) {
        if (p != page.value && vm.resident(PageId{p})) others.push_back(PageId{p});
      }
      (void)vm.evict(vm.pages());
      for (const PageId other : others) CHECK(ok(vm.make_resident({other, 1})));
      if (vm.resident(page)) world_->nic(node).env().relax();
    }
  }
  /// Whether no page is pinned: with threads pins go a moment after the answers.
  bool no_pins(std::uint32_t node) {
    HostVm& vm = world_->vm(node);
    for (int turn = 0;; ++turn) {
      (void)vm.evict(vm.pages());
      if (vm.resident_pages() == 0) return true;
      if (world_->kind() >= WorldKind::simulated || turn == 100'000) return false;  // nobody else runs there
      world_->nic(node).env().relax();
    }
  }

 private:
  std::vector<std::shared_ptr<TestStore>> stores_;
  NicWorld* world_ = nullptr;
};

/// A page-in that waits until the test lets it go on.
class Gate {
 public:
  explicit Gate(Env& env) : env_(env) {}
  void pass() {
    waiting_.fetch_add(1);
    arrived_.announce(env_);
    await(opened_, [this] { return open_.load(); });
  }
  void open() {
    open_.store(true);
    opened_.announce(env_);
  }
  void close() {
    open_.store(false);
    waiting_.store(0);
  }
  /// Until somebody stands before it.
  void await_waiter() {
    await(arrived_, [this] { return waiting_.load() != 0; });
  }
  [[nodiscard]] int waiting() const { return waiting_.load(); }

 private:
  template <class Changed>
  void await(WaitWord& word, Changed&& changed) {
    while (!changed()) {
      const ParkOn on = word.on(word.prepare());
      if (!changed()) env_.park({&on, 1}, kForever);
      word.finish();
    }
  }
  Env& env_;
  std::atomic<bool> open_{false};
  std::atomic<int> waiting_{0};
  WaitWord opened_, arrived_;
};

/// The target's frames as its own program would look at them.
inline std::vector<std::byte> memory_of(NicWorld& world, std::uint32_t node, std::uint64_t offset, std::size_t count) {
  const PageId first{offset / kPageSize};
  const auto pins = world.vm(node).pin({first, (offset + count + kPageSize - 1) / kPageSize - first.value}, false);
  REQUIRE(pins.has_value());
  return {world.frame(node) + offset, world.frame(node) + offset + count};
}

/// on_every_world() with paging; where the order of arrival is asked for, without the network that cannot keep it.
inline void on_every_paging_world(const NicWorldOptions& options, const std::function<void(NicWorld&, Paging&)>& test) {
  for (const WorldKind kind : {WorldKind::direct, WorldKind::packet, WorldKind::simulated, WorldKind::lossy}) {
    if (kind == WorldKind::lossy && options.network.in_order) continue;
    INFO("world: ", name_of(kind));
    Paging paging;
    const std::unique_ptr<NicWorld> world = make_world(kind, paging.with(options));
    paging.attach(*world);
    test(*world, paging);
  }
}

}  // namespace netvm::test
