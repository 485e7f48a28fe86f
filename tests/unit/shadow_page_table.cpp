// The shadow page table: who may lock when, and that unmapping waits.
#include "nic/shadow_page_table.hpp"

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace netvm;
using namespace netvm::nic;

namespace {

/// What the device holds for announcements, in private memory.
struct Announcements {
  static constexpr std::uint32_t kNodes = 2;
  std::array<AnnouncementUse, kNodes> used{};
  std::array<AnnouncementArea, kNodes> areas{};
};

/// The schemes to test. The second: as in a process where membarrier does not exist.
struct Announced {
  using PageLock = AnnouncedPageLock;
};
struct FullyFenced {
  using PageLock = AnnouncedPageLock;
};
struct Cas {
  using PageLock = CasPageLock;
};

template <class Scheme>
typename Scheme::PageLock make_lock(std::atomic<std::uint64_t>* words, Announcements& a, NodeId initiator = NodeId{0}) {
  using Fence = AnnouncedPageLock::Fence;
  if constexpr (std::is_same_v<Scheme, Cas>) {
    return CasPageLock(words);
  } else {
    const bool light = std::is_same_v<Scheme, Announced> && AsymmetricFence::available() && AsymmetricFence::enrol();
    return {words, {a.used.data(), a.areas.data(), Announcements::kNodes}, initiator, light ? Fence::light : Fence::full};
  }
}

template <class Scheme>
struct Table {
  explicit Table(std::uint64_t pages)
      : words(new std::atomic<std::uint64_t>[pages]()), table(words.get(), pages, make_lock<Scheme>(words.get(), *announcements)) {}
  std::unique_ptr<std::atomic<std::uint64_t>[]> words;
  std::unique_ptr<Announcements> announcements = std::make_unique<Announcements>();
  BasicShadowPageTable<typename Scheme::PageLock> table;
};

template <LockFor kWhat, class Table>
bool lockable(Table& table, std::uint64_t page) {
  std::uint64_t frame = 0;
  auto locker = table.locker();
  if (!locker.template try_lock<kWhat>(PageId{page}, &frame)) return false;
  CHECK(frame == page);
  locker.unlock();
  return true;
}

/// "rwd": what a page may be locked for.
template <class Table>
std::string rights(Table& table, std::uint64_t page) {
  std::string text;
  if (lockable<LockFor::read>(table, page)) text += 'r';
  if (lockable<LockFor::write>(table, page)) text += 'w';
  if (lockable<LockFor::drain>(table, page)) text += 'd';
  return text;
}

/// Another thread that holds a lock from its construction until release().
template <class Table>
class Holder {
 public:
  Holder(Table& table, std::uint64_t page)
      : thread_([this, &table, page] {
          auto locker = table.locker();
          std::uint64_t frame = 0;
          got_.store(locker.template try_lock<LockFor::write>(PageId{page}, &frame) ? 1 : -1);
          while (!release_.load()) std::this_thread::yield();
          locker.unlock();
        }) {
    while (got_.load() == 0) std::this_thread::yield();
    REQUIRE(got_.load() == 1);
  }
  ~Holder() { release(); }
  void release() {
    release_.store(true);
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<int> got_{0};
  std::atomic<bool> release_{false};
  std::thread thread_;
};

}  // namespace

TEST_CASE("an entry decodes to what was encoded, every field at its limits") {
  for (const ShadowEntry e : {ShadowEntry{}, ShadowEntry{0xffff'ffff, PageState::evicting_wanted, true, true, 0x3ff, 0xffff},
                              ShadowEntry{1, PageState::read_only, false, true, 1, 1},
                              ShadowEntry{0x8000'0000, PageState::evicting, true, false, 0x200, 0x8000}}) {
    const ShadowEntry d = ShadowEntry::decode(e.encode());
    CHECK(d.frame == e.frame);
    CHECK(d.state == e.state);
    CHECK(d.referenced == e.referenced);
    CHECK(d.written == e.written);
    CHECK(d.locks == e.locks);
    CHECK(d.generation == e.generation);
  }
  CHECK(ShadowEntry{}.encode() == 0);  // zeroed memory is a table of INVALID pages
}

TEST_CASE_TEMPLATE("each state admits the locks that it should", Scheme, Announced, FullyFenced, Cas) {
  Table<Scheme> t(4);
  CHECK(rights(t.table, 0).empty());
  t.table.map({PageId{1}, 2}, true);
  CHECK(rights(t.table, 1) == "rwd");
  t.table.map({PageId{3}, 1}, false);
  CHECK(rights(t.table, 3) == "r");
  for (const PageState state : {PageState::evicting, PageState::faulting, PageState::evicting_wanted, PageState::invalid}) {
    t.words[0].store(ShadowEntry{0, state}.encode());
    CHECK(rights(t.table, 0).empty());
  }
  t.words[0].store(ShadowEntry{0, PageState::redirecting}.encode());
  CHECK(rights(t.table, 0) == "d");
}

TEST_CASE_TEMPLATE("rights of a mapped page are raised and lowered", Scheme, Announced, FullyFenced, Cas) {
  Table<Scheme> t(2);
  t.table.map({PageId{0}, 2}, false);
  t.table.map({PageId{0}, 2}, true);
  CHECK(rights(t.table, 1) == "rwd");
  Holder holder(t.table, 1);
  std::atomic<bool> lowered{false};
  std::thread host([&] {
    t.table.map({PageId{0}, 2}, false);
    lowered.store(true);
  });
  while (t.table.entry(PageId{1}).state != PageState::read_only) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(lowered.load());  // a write that began before is still under way
  holder.release();
  host.join();
  CHECK(rights(t.table, 1) == "r");
}

TEST_CASE_TEMPLATE("unmapping bumps the generation, also around its wrap, and leaves the neighbours alone", Scheme, Announced, FullyFenced,
                   Cas) {
  Table<Scheme> t(3);
  t.table.on_map({PageId{0}, 3});
  t.words[1].store(ShadowEntry{1, PageState::read_write, false, false, 0, 0xffff}.encode());
  t.table.on_unmap({PageId{1}, 1});
  CHECK(t.table.entry(PageId{1}).state == PageState::invalid);
  CHECK(t.table.entry(PageId{1}).generation == 0);
  CHECK(t.table.entry(PageId{0}).state == PageState::read_write);
  t.table.on_unmap({PageId{0}, 3});
  t.table.on_unmap({PageId{0}, 3});  // nothing left to unmap
  CHECK(t.table.entry(PageId{0}).generation == 1);
  CHECK(t.table.entry(PageId{2}).generation == 1);
}

TEST_CASE_TEMPLATE("pitfall 2: an unmap waits for the locks that are out, and no new lock comes in between", Scheme, Announced, FullyFenced,
                   Cas) {
  Table<Scheme> t(3);
  t.table.on_map({PageId{0}, 3});
  Holder first(t.table, 0), second(t.table, 0), elsewhere(t.table, 2);
  std::atomic<bool> unmapped{false};
  std::thread host([&] {
    t.table.on_unmap({PageId{0}, 2});
    unmapped.store(true);
  });
  while (t.table.entry(PageId{0}).state != PageState::evicting) std::this_thread::yield();
  CHECK(rights(t.table, 0).empty());
  first.release();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(unmapped.load());
  second.release();
  host.join();
  CHECK(t.table.entry(PageId{0}).state == PageState::invalid);
  CHECK(t.table.entry(PageId{0}).locks == 0);
  CHECK(t.table.entry(PageId{2}).state == PageState::read_write);
}

TEST_CASE_TEMPLATE("pitfall 2: under a storm of maps and unmaps nobody holds a lock on a page that is gone", Scheme, Announced, FullyFenced,
                   Cas) {
  Table<Scheme> t(4);
  // What a frame holds: 1 while it is there. Accessed plainly, under the lock only: ThreadSanitizer sees every hole.
  std::vector<int> frames(4, 0);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, hits{0};
  std::vector<std::thread> initiators;
  for (unsigned seed = 0; seed < 3; ++seed) {
    initiators.emplace_back([&, seed] {
      std::uint64_t x = seed + 1;
      auto locker = t.table.locker();
      while (!stop.load()) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        const PageId page{x >> 62};
        std::uint64_t frame = 0;
        if (!locker.template try_lock<LockFor::read>(page, &frame)) continue;
        if (frames[frame] != 1) wrong.fetch_add(1);
        hits.fetch_add(1);
        locker.unlock();
      }
    });
  }
  for (int round = 0; round < 500 || (hits.load() < 100 && round < 3'000'000); ++round) {
    const PageRange pages{PageId{static_cast<std::uint64_t>(round) % 4}, 1};
    frames[pages.first.value] = 1;
    t.table.on_map(pages);
    if (round % 16 == 0) std::this_thread::yield();
    t.table.on_unmap(pages);
    frames[pages.first.value] = 0;
  }
  stop.store(true);
  for (std::thread& initiator : initiators) initiator.join();
  CHECK(wrong.load() == 0);
  CHECK(hits.load() > 0);
}

TEST_CASE_TEMPLATE("draining waits for the locks on the pages asked for, and for no others", Scheme, Announced, FullyFenced, Cas) {
  Table<Scheme> t(2000);
  t.table.on_map({PageId{1500}, 2});
  Holder holder(t.table, 1501);
  t.table.drain({PageId{0}, 1501});
  std::atomic<bool> drained{false};
  std::thread revoker([&] {
    t.table.drain({PageId{0}, 2000});
    drained.store(true);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(drained.load());
  holder.release();
  revoker.join();
  CHECK(drained.load());
}

TEST_CASE_TEMPLATE("an access leaves its marks, and an unmap keeps them", Scheme, Announced, FullyFenced, Cas) {
  Table<Scheme> t(2);
  t.table.on_map({PageId{0}, 2});
  CHECK_FALSE(t.table.entry(PageId{0}).referenced);
  CHECK(lockable<LockFor::read>(t.table, 0));
  CHECK(t.table.entry(PageId{0}).referenced);
  CHECK_FALSE(t.table.entry(PageId{0}).written);
  CHECK(lockable<LockFor::write>(t.table, 0));
  CHECK(lockable<LockFor::drain>(t.table, 1));
  t.table.on_unmap({PageId{0}, 2});
  for (const std::uint64_t page : {0, 1}) {
    CHECK(t.table.entry(PageId{page}).referenced);
    CHECK(t.table.entry(PageId{page}).written);
    const PageUse last = t.table.take_use(PageId{page});
    CHECK((last.referenced && last.written));
    const PageUse taken = t.table.take_use(PageId{page});
    CHECK_FALSE((taken.referenced || taken.written));
  }
  t.table.on_map({PageId{0}, 1});  // another life
  CHECK_FALSE(t.table.entry(PageId{0}).referenced);
  CHECK_FALSE(t.table.entry(PageId{0}).written);
}

TEST_CASE_TEMPLATE("the use of a mapped page is taken: whether it was referenced since, and whether it was ever written", Scheme, Announced,
                   Cas) {
  Table<Scheme> t(1);
  const PageId page{0};
  t.table.on_map({page, 1});
  PageUse use = t.table.take_use(page);
  CHECK_FALSE((use.referenced || use.written));
  CHECK(lockable<LockFor::read>(t.table, 0));
  use = t.table.take_use(page);
  CHECK((use.referenced && !use.written));
  CHECK(lockable<LockFor::write>(t.table, 0));
  use = t.table.take_use(page);
  CHECK((use.referenced && use.written));
  use = t.table.take_use(page);  // an access that found `written` set may still be under way: it stays
  CHECK((!use.referenced && use.written));
}

TEST_CASE("pitfall 2: whatever is written to a page is known by the time it has been unmapped") {
  Table<Announced> t(1);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> writes{0};  // changes under the page's lock only
  std::vector<std::thread> initiators;
  for (int i = 0; i < 2; ++i) {
    initiators.emplace_back([&] {
      auto locker = t.table.locker();
      while (!stop.load()) {
        std::uint64_t frame = 0;
        if (!locker.try_lock<LockFor::write>(PageId{0}, &frame)) continue;
        writes.fetch_add(1);
        locker.unlock();
      }
    });
  }
  std::uint64_t seen = 0, lost = 0, invented = 0;
  for (int round = 0; round < 400 || seen < 100; ++round) {
    t.table.on_map({PageId{0}, 1});
    bool written = false;
    for (int i = 0; i < 3; ++i) written = t.table.take_use(PageId{0}).written || written;
    if (round % 4 == 0) std::this_thread::yield();
    const PageRange both[] = {{PageId{0}, 1}, {PageId{0}, 0}};
    t.table.on_unmap_all(both);
    written = t.table.take_use(PageId{0}).written || written;
    const std::uint64_t now = writes.load();
    if (now != seen && !written) ++lost;
    if (now == seen && written) ++invented;
    seen = now;
  }
  stop.store(true);
  for (std::thread& initiator : initiators) initiator.join();
  CHECK(lost == 0);
  CHECK(invented == 0);
}

TEST_CASE("a redirect runs invalid, faulting, redirecting, writable") {
  Table<Announced> t(2);
  const PageId page{1};
  CHECK(t.table.begin_fault(page) == FaultStart::begun);
  CHECK(t.table.entry(page).state == PageState::faulting);
  CHECK(t.table.begin_fault(page) == FaultStart::underway);
  CHECK_FALSE(t.table.end_redirect(page));
  t.table.on_unmap({PageId{0}, 2});  // nothing is there to take away
  CHECK(t.table.entry(page).state == PageState::faulting);
  t.table.on_map({PageId{0}, 2});
  CHECK(t.table.entry(PageId{0}).state == PageState::read_write);
  CHECK(t.table.entry(page).state == PageState::redirecting);
  CHECK(t.table.entry(page).frame == 1);
  t.table.on_map({PageId{0}, 2});
  CHECK(t.table.entry(page).state == PageState::redirecting);
  CHECK(rights(t.table, 1) == "d");
  CHECK(t.table.begin_fault(page) == FaultStart::underway);
  CHECK_FALSE(t.table.abandon_fault(page));
  CHECK(t.table.end_redirect(page));
  CHECK(rights(t.table, 1) == "rwd");
  CHECK_FALSE(t.table.end_redirect(page));
  CHECK(t.table.begin_fault(page) == FaultStart::resident);
}

TEST_CASE("a redirect can be abandoned, can lose its page, and can end at a read-only page") {
  Table<Announced> t(1);
  const PageId page{0};
  CHECK(t.table.begin_fault(page) == FaultStart::begun);
  CHECK(t.table.abandon_fault(page));
  CHECK(t.table.entry(page).state == PageState::invalid);
  CHECK_FALSE(t.table.abandon_fault(page));

  CHECK(t.table.begin_fault(page) == FaultStart::begun);
  t.table.on_map({page, 1});
  t.table.on_unmap({page, 1});  // evicted before the data was in it: the data waits on
  CHECK(t.table.entry(page).state == PageState::faulting);
  CHECK_FALSE(t.table.end_redirect(page));
  CHECK(t.table.begin_fault(page) == FaultStart::underway);
  t.table.on_map({page, 1});
  CHECK(t.table.entry(page).state == PageState::redirecting);
  CHECK(rights(t.table, 0) == "d");

  t.table.map({page, 1}, false);  // what waits will be refused, in its turn: until then nobody else comes in, whatever the host does
  CHECK(rights(t.table, 0) == "");
  CHECK(t.table.begin_fault(page) == FaultStart::underway);
  t.table.map({page, 1}, true);
  CHECK(rights(t.table, 0) == "d");
  t.table.map({page, 1}, false);
  t.table.on_unmap({page, 1});
  CHECK(t.table.entry(page).state == PageState::faulting);
  t.table.map({page, 1}, false);
  CHECK(t.table.end_redirect(page));
  CHECK(rights(t.table, 0) == "r");
  CHECK(t.table.begin_fault(page) == FaultStart::resident);
}

TEST_CASE("a redirect whose page is evicted can be abandoned before the page has gone") {
  Table<Announced> t(1);
  const PageId page{0};
  CHECK(t.table.begin_fault(page) == FaultStart::begun);
  t.table.on_map({page, 1});
  const std::uint16_t generation = t.table.entry(page).generation;
  // A drain holds it.
  auto locker = t.table.locker();
  std::uint64_t frame = 0;
  REQUIRE(locker.try_lock<LockFor::drain>(page, &frame));
  std::thread host([&] { t.table.on_unmap({page, 1}); });
  while (t.table.entry(page).state != PageState::evicting_wanted) std::this_thread::yield();
  CHECK(t.table.begin_fault(page) == FaultStart::underway);
  CHECK_FALSE(t.table.end_redirect(page));
  CHECK(t.table.abandon_fault(page));
  CHECK(t.table.entry(page).state == PageState::evicting);
  locker.unlock();
  host.join();
  CHECK(t.table.entry(page).state == PageState::invalid);
  CHECK(t.table.entry(page).generation == generation + 1);
}

TEST_CASE("a fault that begins while its page is evicted is a fault as soon as the page is gone") {
  Table<Announced> t(1);
  const PageId page{0};
  for (const bool abandoned : {false, true}) {
    t.table.on_map({page, 1});
    (void)t.table.end_redirect(page);
    const std::uint16_t generation = t.table.entry(page).generation;
    Holder holder(t.table, 0);
    std::thread host([&] { t.table.on_unmap({page, 1}); });
    while (t.table.entry(page).state != PageState::evicting) std::this_thread::yield();
    CHECK(t.table.begin_fault(page) == FaultStart::begun);
    CHECK(t.table.begin_fault(page) == FaultStart::underway);
    CHECK(rights(t.table, 0).empty());
    if (abandoned) CHECK(t.table.abandon_fault(page));
    holder.release();
    host.join();
    CHECK(t.table.entry(page).state == (abandoned ? PageState::invalid : PageState::faulting));
    CHECK(t.table.entry(page).generation == generation + 1);
  }
}

TEST_CASE("more threads than slots lock, and an unmap waits for those that share one, too") {
  Table<Announced> t(4);
  t.table.on_map({PageId{0}, 4});
  constexpr unsigned kThreads = ThreadSlot::kCount + 20;
  std::atomic<unsigned> there{0};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> hits{0}, wrong{0};
  std::vector<int> frames(4, 1);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      auto locker = t.table.locker();  // claims this thread's number
      there.fetch_add(1);
      while (there.load() < kThreads) std::this_thread::yield();
      for (std::uint64_t round = 0; !stop.load(); ++round) {
        std::uint64_t frame = 0;
        if (locker.try_lock<LockFor::read>(PageId{(i + round) % 4}, &frame)) {
          if (frames[frame] != 1) wrong.fetch_add(1);
          hits.fetch_add(1);
          locker.unlock();
        }
        if (round % 32 == 0) std::this_thread::yield();
      }
    });
  }
  while (there.load() < kThreads) std::this_thread::yield();
  for (int round = 0; round < 200 || hits.load() < 1000; ++round) {
    const PageRange pages{PageId{static_cast<std::uint64_t>(round) % 3}, 2};
    t.table.on_unmap(pages);
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) frames[p] = 0;
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) frames[p] = 1;
    t.table.on_map(pages);
    std::this_thread::yield();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
  CHECK(t.announcements->used[0].slots.load() == ThreadSlot::kCount);
  CHECK(t.announcements->used[1].slots.load() == 0);
}

TEST_CASE("a thread that ends hands its slot on: any number of threads one after the other use few") {
  Table<Announced> t(1);
  t.table.on_map({PageId{0}, 1});
  for (unsigned i = 0; i < 3 * ThreadSlot::kCount; ++i) std::thread([&] { CHECK(lockable<LockFor::write>(t.table, 0)); }).join();
  CHECK(t.announcements->used[0].slots.load() < ThreadSlot::kCount);
}

TEST_CASE("the announcements' sequence wraps without touching the page's number") {
  Table<Announced> t(2);
  t.table.on_map({PageId{0}, 2});
  CHECK(lockable<LockFor::write>(t.table, 1));
  std::atomic<std::uint64_t>& slot = t.announcements->areas[0][ThreadSlot::mine()].word;
  slot.store((std::uint64_t{1} << 31) - 3);
  for (int i = 0; i < 6; ++i) {
    CHECK(lockable<LockFor::write>(t.table, 1));
    CHECK(slot.load() != 0);
    CHECK(slot.load() < std::uint64_t{1} << 31);
  }
}

TEST_CASE("pitfall 14: what a dead node has announced is withdrawn, and what others have is not") {
  Table<Announced> t(2);
  t.table.on_map({PageId{0}, 2});
  BasicShadowPageTable<AnnouncedPageLock> peer(t.words.get(), 2, make_lock<Announced>(t.words.get(), *t.announcements, NodeId{1}));
  Holder dead(peer, 0), alive(t.table, 1);
  std::atomic<int> unmapped{0};
  std::thread host([&] {
    t.table.on_unmap({PageId{0}, 1});
    unmapped.fetch_add(1);
    t.table.on_unmap({PageId{1}, 1});
    unmapped.fetch_add(1);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(unmapped.load() == 0);
  t.table.page_lock().release_dead(NodeId{1});
  while (unmapped.load() == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(unmapped.load() == 1);
  t.table.page_lock().release_dead(NodeId{7});  // no such node: nothing happens
  alive.release();
  host.join();
  CHECK(unmapped.load() == 2);
}
