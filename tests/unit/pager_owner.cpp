// The pager asks whose bytes a page holds: pages that are dropped leave no copy, pages that are kept stay, and neither loses what is others'.
#include <array>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pager_fixture.hpp"
#include "runtime/pager.hpp"

using namespace netvm;
using namespace netvm::test;

namespace {

#if NETVM_TSAN
constexpr int kSteps = 500;
#else
constexpr int kSteps = 4000;
#endif

/// Answers as the test says, for each page; what is dropped loses its right first.
class AnsweringOwner final : public PageOwner {
 public:
  AnsweringOwner(Small& small, GrantingHandler& handler) : vm_(small.vm.get()), handler_(&handler), answers_(vm_->pages()) {
    vm_->set_page_owner(this);
  }
  ~AnsweringOwner() override { vm_->set_page_owner(nullptr); }
  Departure on_evict(PageId page) noexcept override {
    ++asked;
    CHECK_FALSE(vm_->resident(page));
    const auto answer = static_cast<Departure>(answers_[page.value].load());
    if (answer == Departure::drop) handler_->set(page, Access::none);
    return answer;
  }
  void answer(std::uint64_t page, Departure departure) { answers_[page].store(static_cast<int>(departure)); }
  void answer_all(Departure departure) {
    for (std::uint64_t p = 0; p < answers_.size(); ++p) answer(p, departure);
  }
  int asked = 0;

 private:
  HostVm* vm_;
  GrantingHandler* handler_;
  std::vector<std::atomic<int>> answers_;
};

/// A page's bytes live elsewhere, too, as a cached copy's do: a fault fetches them; a page whose lock is free is dropped, any other is kept or saved.
class CachingOwner final : public PageOwner, public FaultHandler {
 public:
  explicit CachingOwner(HostVm& vm) : vm_(&vm), entries_(vm.pages()) {
    vm.set_fault_handler(this);
    vm.set_page_owner(this);
  }
  ~CachingOwner() override { vm_->set_page_owner(nullptr); }
  bool on_fault(PageId page, bool write) noexcept override {
    Entry& entry = entries_[page.value];
    const std::lock_guard guard(entry.lock);
    const auto pins = vm_->pin({page, 1}, true);
    if (!pins) return false;
    if (entry.access == Access::none) {
      for (std::uint64_t word = 0; word < 8; ++word) frame_word(*vm_, at(page.value, word)).store(home(page.value) + word);
      fetched.fetch_add(1);
    }
    const Access to = write ? Access::write : Access::read;
    if (entry.access >= to) return true;
    vm_->set_access({page, 1}, entry.access, to);
    entry.access = to;
    return true;
  }
  Departure on_evict(PageId page) noexcept override {
    Entry& entry = entries_[page.value];
    const std::unique_lock guard(entry.lock, std::try_to_lock);
    if (!guard.owns_lock()) return page.value % 2 == 0 ? Departure::keep : Departure::save;
    if (entry.access == Access::write) return Departure::save;
    if (entry.access == Access::read) {
      vm_->set_access({page, 1}, Access::read, Access::none);
      entry.access = Access::none;
    }
    dropped.fetch_add(1);
    return Departure::drop;
  }
  static std::uint64_t home(std::uint64_t page) { return page * 1000 + 7; }

  std::atomic<std::uint64_t> fetched{0};
  std::atomic<std::uint64_t> dropped{0};

 private:
  struct Entry {
    std::mutex lock;
    Access access = Access::none;
  };
  HostVm* vm_;
  std::vector<Entry> entries_;
};

}  // namespace

TEST_CASE("pager: what the owner drops is not written, and its next use is a fault that the owner serves") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 64, 16, env);
    HostVm& vm = *small.vm;
    GrantingHandler handler(vm);
    AnsweringOwner owner(small, handler);
    ExactListener listener(vm, 64);
    Application app(vm);
    for (std::uint64_t p = 0; p < 8; ++p) app.store(at(p), p + 1);
    for (std::uint64_t p = 0; p < 8; p += 2) owner.answer(p, Departure::drop);
    CHECK(vm.evict(8) == 8);
    CHECK(owner.asked == 8);
    CHECK(small.store->pages_written == 4);
    CHECK(small.store->pages_kept() == 4);
    CHECK(small.stats.get(Stat::dropped_pages) == 4);
    CHECK(small.stats.get(Stat::evictions) == 8);
    CHECK(vm.resident_pages() == 0);
    CHECK(frame_pages_in_use(vm) == 0);
    const std::uint64_t faults = handler.faults();
    for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(at(p)) == (p % 2 == 0 ? 0 : p + 1));
    CHECK(handler.faults() - faults == 4);  // the others came back without anybody hearing of it
    CHECK(listener.right);
  }
}

TEST_CASE("pager: a dropped page's old copy in the store is forgotten, not brought back") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  AnsweringOwner owner(small, handler);
  Application app(vm);
  for (std::uint64_t p = 0; p < 6; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(6) == 6);  // saved
  CHECK(small.store->pages_kept() == 6);
  for (std::uint64_t p = 0; p < 6; ++p) CHECK(app.load(at(p)) == p + 1);
  owner.answer_all(Departure::drop);
  CHECK(vm.evict(6) == 6);
  CHECK(small.store->pages_kept() == 0);
  CHECK(vm.try_pin({PageId{0}, 6}, false).holds());  // nothing has to be read
  for (std::uint64_t p = 0; p < 6; ++p) CHECK(frame_word(vm, at(p)).load() == 0);
}

TEST_CASE("pager: what the NIC still writes into a page that is dropped goes with it") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  AnsweringOwner owner(small, handler);
  ExactListener listener(vm, 64);
  CHECK(vm.make_resident({PageId{0}, 4}) == Status::ok);
  owner.answer_all(Departure::drop);
  listener.at_unmap = [&](PageRange pages) {
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      frame_word(vm, at(p)).store(p + 9);
      listener.use(p, true);
    }
  };
  CHECK(vm.evict(4) == 4);
  listener.at_unmap = nullptr;
  CHECK(small.store->transfers == 0);
  CHECK(vm.make_resident({PageId{0}, 4}) == Status::ok);
  for (std::uint64_t p = 0; p < 4; ++p) CHECK(frame_word(vm, at(p)).load() == 0);
}

TEST_CASE("pager: what the owner keeps stays, untouched, and others go instead") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 64, 16, env);
    HostVm& vm = *small.vm;
    GrantingHandler handler(vm);
    AnsweringOwner owner(small, handler);
    ExactListener listener(vm, 64);
    Application app(vm);
    for (std::uint64_t p = 0; p < 4; ++p) owner.answer(p, Departure::keep);
    for (std::uint64_t p = 0; p < 64; ++p) app.store(at(p), p + 1);
    for (std::uint64_t p = 0; p < 4; ++p) CHECK(vm.resident(PageId{p}));
    CHECK(vm.resident_pages() <= 16);
    CHECK(vm.evict(64) == 12);
    for (std::uint64_t p = 0; p < 4; ++p) CHECK(vm.resident(PageId{p}));
    for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p)) == p + 1);
    CHECK(listener.right);
    owner.answer_all(Departure::save);
    (void)vm.evict(64);
    CHECK(vm.resident_pages() == 0);
    for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p)) == p + 1);
  }
}

TEST_CASE("pager: an owner that keeps everything makes the budget give way, and it is kept again afterwards") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  AnsweringOwner owner(small, handler);
  owner.answer_all(Departure::keep);
  Application app(vm);
  for (std::uint64_t p = 0; p < 12; ++p) app.store(at(p), p + 1);
  CHECK(vm.resident_pages() == 12);
  CHECK(vm.evict(64) == 0);
  owner.answer_all(Departure::save);
  CHECK(vm.make_resident({PageId{20}, 1}) == Status::ok);
  CHECK(vm.resident_pages() <= 8);
  for (std::uint64_t p = 0; p < 12; ++p) CHECK(app.load(at(p)) == p + 1);
}

TEST_CASE("pager: with a full store, what can be dropped makes room, however dirty it is") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  AnsweringOwner owner(small, handler);
  Application app(vm);
  for (std::uint64_t p = 0; p < 8; ++p) app.store(at(p), p + 1);
  small.store->room = 0;
  owner.answer(6, Departure::drop);
  owner.answer(7, Departure::drop);
  CHECK(vm.make_resident({PageId{20}, 1}) == Status::ok);
  CHECK(vm.pin({PageId{21}, 1}, true).has_value());
  CHECK_FALSE(vm.resident(PageId{6}));
  for (std::uint64_t p = 0; p < 6; ++p) CHECK(app.load(at(p)) == p + 1);
  // From now on everything is changed, and nothing can be dropped.
  CHECK(vm.make_resident({PageId{22}, 1}) == Status::ok);
  CHECK(vm.pin({PageId{22}, 1}, true).has_value());
  CHECK(vm.make_resident({PageId{23}, 1}) == Status::fault_failed);
  // A page that its owner keeps for a moment may go the next: no reason to fail.
  owner.answer(3, Departure::keep);
  CHECK(vm.make_resident({PageId{23}, 1}) == Status::ok);
  for (std::uint64_t p = 0; p < 6; ++p) CHECK(app.load(at(p)) == p + 1);
}

TEST_CASE("pager: neither pinned nor wired nor discarded pages are asked about") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  AnsweringOwner owner(small, handler);
  owner.answer_all(Departure::drop);
  vm.wire({PageId{0}, 4});
  CHECK(vm.make_resident({PageId{0}, 8}) == Status::ok);
  const auto pins = vm.pin({PageId{4}, 2}, true);
  vm.discard({PageId{6}, 2});
  CHECK(vm.evict(64) == 0);
  CHECK(owner.asked == 0);
}

TEST_CASE("pager: a page that is dropped while the application may use it stops the program") {
  RealEnv env;
  const ChildEnd end = run_child([&] {
    struct Careless final : PageOwner {
      Departure on_evict(PageId) noexcept override { return Departure::drop; }
    } careless;
    Small small(TrapKind::checked, 64, 8, env);
    GrantingHandler handler(*small.vm);
    small.vm->set_page_owner(&careless);
    Application app(*small.vm);
    app.store(at(2), 3);
    return static_cast<int>(small.vm->evict(8));
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.output.find("page 2 is dropped while the application may use it") != std::string::npos);
}

TEST_CASE("pager: cached copies are dropped under threads that use them, and nobody ever sees zeros") {
  RealEnv env({.crowded = true});
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    constexpr std::uint64_t kPages = 96;
    Small small(kind, kPages, 24, env);
    HostVm& vm = *small.vm;
    CachingOwner owner(vm);
    ExactListener listener(vm, kPages);
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        Application app(vm);
        std::minstd_rand random(t + 1);
        std::array<std::uint64_t, kPages> mine{};  // of the last third of the pages each thread writes a word of its own
        for (int step = 0; step < kSteps; ++step) {
          const std::uint64_t p = random() % kPages;
          if (app.load(at(p, 1)) != CachingOwner::home(p) + 1) ++wrong;
          if (p < 2 * kPages / 3) continue;
          if (mine[p] != 0 && app.load(at(p, 2 + t)) != mine[p]) ++wrong;
          app.store(at(p, 2 + t), mine[p] = static_cast<std::uint64_t>(step) + 1);
        }
      });
    }
    std::thread evictor([&] {
      std::minstd_rand random(5);
      while (!stop.load()) {
        (void)vm.evict(1 + random() % 8);
        std::this_thread::yield();
      }
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    evictor.join();
    CHECK(wrong == 0);
    CHECK(listener.right);
    CHECK(owner.dropped > 0);
    CHECK(owner.fetched > kPages);
    CHECK(frame_pages_in_use(vm) <= 24);
  }
}
