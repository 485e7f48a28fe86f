// The shadow page table: who may lock when, and that unmapping waits.
#include "nic/shadow_page_table.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <thread>
#include <vector>

using namespace netvm;
using namespace netvm::nic;

namespace {

struct Table {
  explicit Table(std::uint64_t pages) : words(new std::atomic<std::uint64_t>[pages]()), table(words.get(), pages) {}
  std::unique_ptr<std::atomic<std::uint64_t>[]> words;
  ShadowPageTable table;
};

bool lockable(ShadowPageTable& table, std::uint64_t page, bool write) {
  std::uint64_t frame = 0;
  if (!table.try_lock(PageId{page}, write, &frame)) return false;
  CHECK(frame == page);
  table.unlock(PageId{page});
  return true;
}

}  // namespace

TEST_CASE("an entry decodes to what was encoded, every field at its limits") {
  for (const ShadowEntry e : {ShadowEntry{}, ShadowEntry{0xffff'ffff, PageState::redirecting, 0xfff, 0xffff},
                              ShadowEntry{1, PageState::read_only, 1, 1}, ShadowEntry{0x8000'0000, PageState::evicting, 0x800, 0x8000}}) {
    const ShadowEntry d = ShadowEntry::decode(e.encode());
    CHECK(d.frame == e.frame);
    CHECK(d.state == e.state);
    CHECK(d.locks == e.locks);
    CHECK(d.generation == e.generation);
  }
  CHECK(ShadowEntry{}.encode() == 0);  // zeroed memory is a table of INVALID pages
}

TEST_CASE("only resident pages lock, and only writable ones for writing") {
  Table t(4);
  CHECK_FALSE(lockable(t.table, 0, false));
  t.table.map({PageId{1}, 2}, true);
  CHECK(lockable(t.table, 1, true));
  CHECK(lockable(t.table, 2, false));
  t.table.map({PageId{3}, 1}, false);
  CHECK(lockable(t.table, 3, false));
  CHECK_FALSE(lockable(t.table, 3, true));
  for (const PageState state : {PageState::evicting, PageState::faulting, PageState::redirecting, PageState::invalid}) {
    t.words[0].store(ShadowEntry{0, state, 0, 0}.encode());
    CHECK_FALSE(lockable(t.table, 0, false));
    CHECK_FALSE(lockable(t.table, 0, true));
  }
}

TEST_CASE("unmapping bumps the generation, also around its wrap, and leaves the neighbours alone") {
  Table t(3);
  t.table.on_map({PageId{0}, 3});
  t.words[1].store(ShadowEntry{1, PageState::read_write, 0, 0xffff}.encode());
  t.table.on_unmap({PageId{1}, 1});
  CHECK(t.table.entry(PageId{1}).state == PageState::invalid);
  CHECK(t.table.entry(PageId{1}).generation == 0);
  CHECK(t.table.entry(PageId{0}).state == PageState::read_write);
  t.table.on_unmap({PageId{0}, 3});
  t.table.on_unmap({PageId{0}, 3});  // nothing left to unmap
  CHECK(t.table.entry(PageId{0}).generation == 1);
  CHECK(t.table.entry(PageId{2}).generation == 1);
}

TEST_CASE("an unmap waits for the locks that are out, and no new lock comes in between") {
  Table t(2);
  t.table.on_map({PageId{0}, 2});
  std::uint64_t frame = 0;
  REQUIRE(t.table.try_lock(PageId{0}, true, &frame));
  REQUIRE(t.table.try_lock(PageId{0}, false, &frame));
  std::atomic<bool> unmapped{false};
  std::thread host([&] {
    t.table.on_unmap({PageId{0}, 2});
    unmapped.store(true);
  });
  while (t.table.entry(PageId{0}).state != PageState::evicting) std::this_thread::yield();
  CHECK_FALSE(lockable(t.table, 0, false));
  t.table.unlock(PageId{0});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(unmapped.load());
  t.table.unlock(PageId{0});
  host.join();
  CHECK(t.table.entry(PageId{0}).state == PageState::invalid);
  CHECK(t.table.entry(PageId{0}).locks == 0);
}

TEST_CASE("under a storm of maps and unmaps nobody holds a lock on a page that is gone") {
  Table t(4);
  // What a frame holds: 1 while it is there. Accessed plainly, under the lock only: ThreadSanitizer sees every hole.
  std::vector<int> frames(4, 0);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, hits{0};
  std::vector<std::thread> initiators;
  for (unsigned seed = 0; seed < 3; ++seed) {
    initiators.emplace_back([&, seed] {
      std::uint64_t x = seed + 1;
      while (!stop.load()) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        const PageId page{x >> 62};
        std::uint64_t frame = 0;
        if (!t.table.try_lock(page, false, &frame)) continue;
        if (frames[frame] != 1) wrong.fetch_add(1);
        hits.fetch_add(1);
        t.table.unlock(page);
      }
    });
  }
  for (int round = 0; round < 3000 || (hits.load() < 100 && round < 3'000'000); ++round) {
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

TEST_CASE("draining waits for the locks on the pages asked for, and for no others") {
  Table t(2000);
  t.table.on_map({PageId{1500}, 2});
  std::uint64_t frame = 0;
  REQUIRE(t.table.try_lock(PageId{1501}, false, &frame));
  t.table.drain({PageId{0}, 1501});
  std::atomic<bool> drained{false};
  std::thread revoker([&] {
    t.table.drain({PageId{0}, 2000});
    drained.store(true);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(drained.load());
  t.table.unlock(PageId{1501});
  revoker.join();
  CHECK(drained.load());
}
