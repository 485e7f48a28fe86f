// self: self-invalidation and self-downgrade, after Argo's Carina (Kaxiras, Klaftenegger, Norgren, Ros, Sagonas: HPDC 2015): no message tells anybody to
// give up a page. How pages travel is in dsm/home_based.hpp.
//
// At a release a node writes its changes to the homes; at an acquire it gives up, by itself, its copies of pages that others write. Which those are, says a
// directory word at each page's home (Pyxis), where readers and writers register with one remote atomic. Private pages, pages that nobody writes, and the pages of
// which this node is the only writer stay.
//
// Invariants
//  1. The word has a bit for each group of nodes that accesses the page, and one for each that writes it (group: node number modulo kGroups). A node's bit is set
//     before its first read, or write, of the page; it reads the page's bytes, or writes, afterwards.
//  2. Who begins to write a page tells everybody who accesses it, by a signal (page_signals.hpp) that has arrived before the write happens. So of a
//     reader's registration and a writer's, the later one knows of the earlier one: the reader by the word, the writer by telling it.
//  3. A copy with rights of a page that others write (kOthersWrite) is in suspects_. Pages get there before they are fetched, so that an acquire that happens
//     meanwhile waits for them.
//  4. A private page's changes go to its home at each release like others': so the first other node finds there what happened before.
//     At home they are there anyway, and cost nothing.
//  5. A writer that has not written for a while takes its bit back, when its changes are at the home and it has no right to write. Its readers keep
//     from their next fetch on what they fetch: that alone ends kOthersWrite.
//  6. Releases and acquires of a node's threads happen one after the other (interval_lock()).
//  7. Nothing here looks at pages that were not written (release), not fetched or signalled since the last acquire (acquire), or not being watched (5).
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "dsm/home_based.hpp"
#include "dsm/home_words.hpp"
#include "dsm/page_signals.hpp"

namespace netvm::dsm {

class Self : public HomeBased {
 public:
  explicit Self(ProtocolEnv& env)
      : HomeBased(env),
        words_(env),
        signals_(env.parts().config, env.parts().vm, env.parts().nic, env.parts().config.layout.signals_offset) {}

  static constexpr Traits kTraits{
      .name = "self",
      .consistency = Consistency::release,
      .summary = "release consistency by self-invalidation: an acquire gives up what others write; directory words and remote atomics only",
      .one_sided = true};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Self>(env); }

  void on_write_fault(PageId page) override;
  void on_release(SyncId object) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;
  void on_detach(PageRange pages) override;
  void on_retire(PageRange pages) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

  /// A writer that has not written for so many releases takes its bit back.
  static constexpr std::uint64_t kPatience = 8;

 protected:
  // What the tests replace to prove that they notice.
  [[nodiscard]] bool is_stale(PageId page) override;
  /// Whether a new writer tells those who access the page.
  [[nodiscard]] virtual bool tells_others() const { return true; }
  /// Whether others write, by what the word was before this node's bits were set.
  [[nodiscard]] virtual bool others_write(const PageEntry& entry, std::uint64_t word) const;

 private:
  [[nodiscard]] bool announces_reads() const override { return false; }
  [[nodiscard]] bool owes_early_flush() const override { return false; }
  void fetch(PageId page, PageEntry& entry) override;
  void fetch_run(std::span<const PageId> run, NodeId home) override { (void)register_and_fetch(run, home, false); }

  // The pages' locks are held.
  /// Of neighbours. Returns what the first one's word was before.
  std::uint64_t register_and_fetch(std::span<const PageId> run, NodeId home, bool writes);
  std::uint64_t register_writer(PageId page, PageEntry& entry);
  void tell_others(PageId page, NodeId home, std::uint64_t word);
  void signal(PageId page, NodeId to, nic::Completion* completions);
  void suspect(PageId page, PageEntry& entry);
  void watch(PageId page, PageEntry& entry);

  // interval_lock() held.
  void downgrade();
  void self_invalidate();
  void heed_signals(std::vector<PageId>& suspects);
  void stop_idle_writers();
  void stop_if_idle(std::span<const PageId> pages, std::uint64_t now);

  [[nodiscard]] bool exact() const;
  [[nodiscard]] std::uint64_t my_bit() const;

  HomeWords words_;
  PageSignals signals_;
  std::atomic<std::uint64_t> releases_{0};

  struct Watched {
    std::uint64_t since;  // number of the release
    PageId page;
  };
  SpinLock lists_lock_;  // guards the next two; never held while blocking
  std::vector<PageId> suspects_;
  std::deque<Watched> watched_;  // pages that this node is registered to write, in the order of `since`
};

}  // namespace netvm::dsm
