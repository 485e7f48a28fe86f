#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "netvm/nic.hpp"
#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

/// Everybody announces to everybody; each node's handler sees all of it, one run after the other, and answers.
void handlers(Job& job) {
  constexpr std::uint64_t kEach = 200;
  const std::uint64_t total = kEach * static_cast<std::uint64_t>(job.nodes());
  auto* slots = job.symmetric_all<std::uint64_t>(static_cast<std::size_t>(job.nodes()));
  EventCounter hits(job), done(job);
  std::atomic<int> inside{0};
  std::uint64_t last = 0;
  hits.on_reach(1, [&](std::uint64_t value) {
    EXPECT(inside.fetch_add(1) == 0);
    EXPECT(value > last);
    last = value;
    std::uint64_t seen = 0;
    for (int node = 0; node < job.nodes(); ++node) seen += std::atomic_ref(slots[node]).load();
    EXPECT(seen >= value);  // each announcement's put is visible
    inside.fetch_sub(1);
    if (value == total) {
      for (int node = 0; node < job.nodes(); ++node) done.notify(node);
      return EventCounter::never;
    }
    return value + 1;
  });
  bool refused = false;
  try {
    hits.on_reach(1, [](std::uint64_t v) { return v + 1; });
  } catch (const Error&) {
    refused = true;
  }
  EXPECT(refused);
  job.barrier();
  for (std::uint64_t i = 1; i <= kEach; ++i) {
    for (int node = 0; node < job.nodes(); ++node) hits.put(node, slots + job.node(), &i);
  }
  done.wait(static_cast<std::uint64_t>(job.nodes()));
  hits.clear_handler();
  EXPECT(last == total);
  job.barrier();
}

/// A handler may use shared memory and locks.
void handler_uses_shared_memory(Job& job) {
  auto* guard = job.allocate_all<mutex>();
  auto* sum = job.allocate_all<std::uint64_t>();
  EventCounter hits(job), done(job);
  hits.on_reach(1, [&](std::uint64_t value) {
    {
      const std::scoped_lock hold(*guard);
      *sum += 1;
    }
    done.notify(0);
    return value + 1;
  });
  job.barrier();
  if (job.node() == 0) {
    for (int node = 0; node < job.nodes(); ++node) hits.notify(node);
    done.wait(static_cast<std::uint64_t>(job.nodes()));
    const std::scoped_lock hold(*guard);
    EXPECT(*sum == static_cast<std::uint64_t>(job.nodes()));
  }
  job.barrier();
}

/// Puts, a fence and flags, gets and atomics, by every thread to every node, more than the depth at once.
void transfers(Job& job) {
  constexpr std::size_t kWords = 3000;
  const int threads = job.nodes() * job.threads_per_node();
  auto* data = job.symmetric_all<std::uint64_t>(kWords * static_cast<std::size_t>(threads));
  auto* flags = job.symmetric_all<std::uint64_t>(static_cast<std::size_t>(threads));
  auto* sums = job.symmetric_all<std::uint64_t>(1);
  auto* slots = job.symmetric_all<std::uint64_t>(102);
  job.parallel([&](Thread& me) {
    Transfers mine(job, 16);
    std::vector<std::uint64_t> source(kWords);
    std::iota(source.begin(), source.end(), static_cast<std::uint64_t>(me.rank()) * 1'000'000 + 1);
    const std::size_t at = kWords * static_cast<std::size_t>(me.rank());
    const std::uint64_t one = 1;
    for (int node = 0; node < me.nodes(); ++node) {
      for (std::size_t i = 0; i < kWords; i += 50) mine.put_async(node, data + at + i, source.data() + i, 50);
    }
    mine.fence();
    for (int node = 0; node < me.nodes(); ++node) mine.put_async(node, flags + me.rank(), &one);
    mine.quiet();
    // A flag that is here says that the data is: of one writer, whichever.
    const auto neighbour = static_cast<std::size_t>((me.rank() + 1) % me.count());
    while (std::atomic_ref(flags[neighbour]).load() == 0) std::this_thread::yield();
    EXPECT(std::atomic_ref(data[kWords * neighbour + kWords - 1]).load() == neighbour * 1'000'000 + kWords);
    std::vector<std::uint64_t> got(kWords * static_cast<std::size_t>(me.nodes()), 0), old(100, 0);
    for (int node = 0; node < me.nodes(); ++node)
      mine.get_async(node, data + kWords * static_cast<std::size_t>(me.rank()), got.data() + kWords * static_cast<std::size_t>(node),
                     kWords);
    for (std::uint64_t& o : old) mine.fetch_add_async(0, sums, 2, &o);
    mine.fetch_add_async(0, sums, 1);
    mine.quiet();
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT(got[i] == source[i % kWords]);
    for (std::size_t i = 1; i < old.size(); ++i) EXPECT(old[i] > old[i - 1]);
    me.barrier();
    if (me.node() == 0) EXPECT(std::atomic_ref(*sums).load() == 201 * static_cast<std::uint64_t>(me.count()));
    // Each slot goes to one of all, who all ask for all of them at once; and the bits of all come together.
    std::fill(old.begin(), old.end(), 0);
    const std::uint64_t name = static_cast<std::uint64_t>(me.rank()) + 1;
    const int last = me.nodes() - 1;
    for (std::size_t i = 0; i < old.size(); ++i) mine.compare_swap_async(last, slots + i, 0, name, &old[i]);
    mine.fetch_or_async(last, slots + old.size(), std::uint64_t{1} << me.rank());
    mine.quiet();
    std::vector<std::uint64_t> owners(old.size() + 1);
    netvm::get(last, slots, owners.data(), owners.size());
    for (std::size_t i = 0; i < old.size(); ++i) EXPECT(owners[i] == (old[i] == 0 ? name : old[i]));
    me.barrier();
    std::uint64_t others = 0;
    mine.swap_async(last, slots + old.size(), 0, &others);
    mine.quiet();
    EXPECT(me.sum(others) == (std::uint64_t{1} << me.count()) - 1);  // the first to swap has them all
    // Its own byte of a word that all change, if it is still 0.
    std::uint64_t before = 1;
    const std::uint64_t byte = std::uint64_t{0xff} << (8 * (me.rank() % 8));
    mine.masked_compare_swap_async(last, slots + old.size() + 1, 0, ~std::uint64_t{0}, byte, byte, &before);
    mine.quiet();
    EXPECT((before & byte) == 0 || (before & byte) == byte);
    me.barrier();
    netvm::get(last, slots + old.size() + 1, &before);
    EXPECT((before & byte) == byte);
  });
  bool refused = false;
  try {
    Transfers wrong(job, 3);
  } catch (const Error&) {
    refused = true;
  }
  EXPECT(refused);
  refused = false;
  try {
    Transfers ours(job);
    std::uint64_t word = 0;
    ours.put_async(0, &word, &word);
  } catch (const Error&) {
    refused = true;
  }
  EXPECT(refused);
}

/// Transfers to and from coherent memory, whose pages may fault.
void transfers_of_shared_memory(Job& job) {
  constexpr std::size_t kWords = 2000;
  auto* shared = job.allocate_all<std::uint64_t>(kWords);
  auto* copy = job.allocate_all<std::uint64_t>(kWords * static_cast<std::size_t>(job.nodes()));
  auto* symmetric = job.symmetric_all<std::uint64_t>(kWords);
  if (job.node() == 0) std::iota(shared, shared + kWords, 5);
  job.barrier();
  Transfers mine(job);
  const std::uint64_t zero = 0;
  const int next = (job.node() + 1) % job.nodes();
  mine.put_async(next, symmetric, &zero);
  mine.fence();
  mine.put_async(next, symmetric, shared, kWords);
  mine.quiet();
  std::uint64_t* here = copy + kWords * static_cast<std::size_t>(job.node());
  mine.get_async(next, symmetric, here, kWords);
  mine.quiet();
  for (std::size_t i = 0; i < kWords; ++i) EXPECT(here[i] == i + 5);
  job.barrier();
}

/// Regions of the program's own: of symmetric memory that is allocated, and of nothing else; what is revoked is not touched any more.
void regions(Job& job) {
  struct alignas(kPageSize) Page {
    std::uint64_t words[kPageSize / sizeof(std::uint64_t)];
  };
  auto* const pages = job.symmetric_all<Page>(4);
  auto* const coherent = job.allocate_all<Page>(4);
  nic::Nic& nic = nic_of(job);
  const auto refused = [](auto&& call) {
    try {
      call();
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  std::uint64_t word = 0;
  EXPECT(refused([&] { static_cast<void>(pages_of(job, coherent, sizeof(Page))); }));
  EXPECT(refused([&] { static_cast<void>(pages_of(job, &word, sizeof word)); }));
  EXPECT(refused([&] { static_cast<void>(pages_of(job, pages, 0)); }));
  EXPECT(refused([&] { static_cast<void>(pages_of(job, pages + 3, 2 * sizeof(Page))); }));
  const PageRange all = pages_of(job, pages, 4 * sizeof(Page));
  EXPECT(all.count == 4);
  EXPECT((pages_of(job, &pages[1].words[511], 2 * sizeof word) == PageRange{PageId{all.first.value + 1}, 2}));
  // The runtime's tables, symmetric memory that nobody has allocated, coherent memory.
  const auto no_region = [&](PageId first, std::uint64_t count) {
    return nic.region_create({first, count}, nic::Rights::all).status() == Status::reserved;
  };
  const PageId of_protocol{all.first.value +
                           (reinterpret_cast<std::uintptr_t>(coherent) - reinterpret_cast<std::uintptr_t>(pages)) / kPageSize};
  EXPECT(no_region(PageId{0}, 1));
  EXPECT(no_region(PageId{0}, all.end()));
  EXPECT(no_region(all.first, 5));
  EXPECT(no_region(of_protocol, 1));
  EXPECT(no_region(all.first, of_protocol.value - all.first.value + 1));

  pages[2].words[0] = 7;
  const nic::RemoteRegion mine = nic.region_create({PageId{all.first.value + 2}, 1}, nic::Rights::read | nic::Rights::write).value();
  const std::vector<nic::RemoteRegion> everybodys = exchange(job, mine);
  const nic::RemoteRegion& next = everybodys[static_cast<std::size_t>((job.node() + 1) % job.nodes())];
  EXPECT(ok(nic.read(next, 0, &word, sizeof word)) && word == 7);
  word = 8;
  EXPECT(ok(nic.write(next, kPageSize - sizeof word, &word, sizeof word)));
  EXPECT(nic.write(next, kPageSize - sizeof word + 1, &word, sizeof word) == Status::range);
  EXPECT(nic.atomic(next, 0, {nic::AtomicOp::fetch_add, 1}).status() == Status::perm);
  nic::RemoteRegion guess = next;
  guess.key += 1;
  EXPECT(nic.read(guess, 0, &word, sizeof word) == Status::key);
  job.barrier();
  EXPECT(pages[2].words[511] == 8);
  EXPECT(ok(nic.region_revoke(mine)));
  job.barrier();
  EXPECT(nic.write(next, 0, &word, sizeof word) == Status::revoked);
  EXPECT(nic.read(next, 0, &word, sizeof word) == Status::revoked);
  job.barrier();
  EXPECT(pages[2].words[0] == 7);
  job.barrier();
  if (job.node() == 0) job.free(coherent);
}

}  // namespace

/// A signal that the program's threads block waits for the one that takes it: no thread of NetVM's dies of it.
void signals_are_the_programs(Job& job) {
  sigset_t alarm;
  sigset_t before;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  EXPECT(pthread_sigmask(SIG_BLOCK, &alarm, &before) == 0);
  EXPECT(kill(getpid(), SIGALRM) == 0);
  int taken = 0;
  EXPECT(sigwait(&alarm, &taken) == 0 && taken == SIGALRM);
  EXPECT(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  job.barrier();
}

std::vector<Scenario> event_scenarios() {
  return {{"handlers", handlers},
          {"signals_are_the_programs", signals_are_the_programs},
          {"handler_uses_shared_memory", handler_uses_shared_memory},
          {"regions", regions},
          {"transfers", transfers},
          {"transfers_of_shared_memory", transfers_of_shared_memory}};
}

}  // namespace netvm::test
