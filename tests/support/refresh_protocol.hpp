// Refresh: the protocol of docs/protocols/writing-one.md, whole. Release consistency: who acquires gives up all copies, who releases has written home
// what it changed.
//
// Invariants
//  1. A release returns only after every change made before it is placed at the homes.
//  2. A unit that this node has a copy of, or is fetching, is in cached_. It is entered before it is fetched: an acquire that finds it waits for its lock, and
//     one that does not find it came before the fetch.
//  3. Write access is taken away before a unit is compared with its twin.
//  4. Releases and acquires of a node's threads happen one after the other (order_): a release waits for the changes that another thread's acquire has
//     taken along. Page locks come after order_; faults never take order_.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "dsm/flush.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"

namespace netvm::test {

class Refresh : public dsm::Protocol {
 public:
  explicit Refresh(dsm::ProtocolEnv& env) : env_(env), order_(env.env()) {}

  static constexpr dsm::Traits kTraits{.name = "refresh",
                                       .consistency = dsm::Consistency::release,
                                       .summary = "release consistency: copies are given up at every acquire",
                                       .one_sided = true};
  [[nodiscard]] dsm::Traits traits() const override { return kTraits; }
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<Refresh>(env); }

  void on_read_fault(PageId page) override {
    if (env_.home_of(page) != env_.node()) fetch(page);
    env_.set_access(page, Access::read);
  }

  void on_write_fault(PageId page) override {
    if (env_.home_of(page) != env_.node()) {
      if (env_.entry(page).access() == Access::none) fetch(page);
      env_.make_twin(page);
    }
    env_.set_access(page, Access::write);
  }

  void on_release(dsm::SyncId) override {
    const std::scoped_lock order(order_);
    give_back(/*copies=*/false);
  }
  void append_grant(dsm::SyncId, NodeId, std::span<const std::byte>, dsm::Bytes& out) override { out.push_back(kChanged); }
  void on_acquire(dsm::SyncId, NodeId, std::span<const std::byte>) override {
    const std::scoped_lock order(order_);
    give_back(/*copies=*/true);
  }

  void on_barrier_arrive(dsm::Bytes& out) override {
    on_release({});
    out.push_back(kChanged);
  }
  void on_barrier_merge(dsm::Bytes&, std::span<const std::byte>) override {}
  void on_barrier_leave(std::span<const std::byte>) override { on_acquire({}, {}, {}); }

  void on_detach(PageRange pages) override {
    for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) env_.drop_twin(PageId{p});
  }

 protected:
  /// Whether an acquire gives this unit up.
  [[nodiscard]] virtual bool is_stale(PageId) { return true; }
  [[nodiscard]] dsm::ProtocolEnv& env() { return env_; }

 private:
  static constexpr std::byte kChanged{1};

  void fetch(PageId page) {
    {
      const std::scoped_lock guard(cached_lock_);
      cached_.push_back(page);
    }
    env_.count(page, Stat::remote_faults);
    env_.fetch_page(page, env_.entry(page).home());
  }

  // order_ is held. Writes home what changed; `copies`: and gives all copies up.
  void give_back(bool copies) {
    std::vector<PageId> pages;
    {
      const std::scoped_lock guard(cached_lock_);
      pages.swap(cached_);
    }
    std::vector<PageId> kept;
    for (const PageId page : pages) {
      dsm::PageEntry& entry = env_.entry(page);
      const dsm::PageGuard lock(env_.env(), entry);
      if (!env_.owns(entry)) continue;
      const bool give_up = copies && is_stale(page);
      if (give_up && entry.access() != Access::none) env_.count(page, Stat::invalidations);
      if (give_up || entry.twin != nullptr) env_.set_access(page, give_up ? Access::none : Access::read);
      if (entry.twin != nullptr) {
        dsm::DiffFlush flush(env_);
        flush.add(page, entry.home());
        flush.finish();
      }
      if (!give_up) kept.push_back(page);
    }
    const std::scoped_lock guard(cached_lock_);
    cached_.insert(cached_.end(), kept.begin(), kept.end());
  }

  dsm::ProtocolEnv& env_;
  EnvMutex order_;
  SpinLock cached_lock_;
  std::vector<PageId> cached_;
};

}  // namespace netvm::test
