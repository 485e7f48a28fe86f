#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

void wait_for_ever(Job& job) { job.barrier(); }

/// A pointer into the global range that nobody allocated.
void wild_inside(Job& job) {
  auto* data = job.allocate_all<int>(1, {.name = "the table"});
  if (job.node() == job.nodes() - 1)
    *reinterpret_cast<volatile int*>(reinterpret_cast<std::uintptr_t>(data) + (std::uintptr_t{1} << 30)) = 1;
  wait_for_ever(job);
}

/// A pointer to nowhere.
void wild_outside(Job& job) {
  volatile std::uintptr_t nowhere = 0x123450;
  if (job.node() == 0) *reinterpret_cast<volatile int*>(nowhere) = 1;
  wait_for_ever(job);
}

void allocation_beyond_the_range(Job& job) { static_cast<void>(job.allocate_all<char>(std::size_t{1} << 50)); }

/// Small pieces until nothing is left: the message still says what was asked and what is left.
void allocation_until_exhausted(Job& job) {
  for (;;) static_cast<void>(job.allocate_all<char>(std::size_t{256} << 20));
}

void exception_in_a_section(Job& job) {
  job.parallel([](Thread& me) {
    if (me.rank() == me.count() - 1) throw std::runtime_error("the kettle boiled over");
    me.barrier();
  });
}

void exception_in_main(Job& job) {
  if (job.node() == 0) throw std::runtime_error("main gave up");
  wait_for_ever(job);
}

void leaves_silently(Job& job) {
  if (job.node() == 0) std::exit(0);
  wait_for_ever(job);
}

/// main() returns early on one node while the others go on.
void returns_early(Job& job) {
  if (job.node() != 0) wait_for_ever(job);
}

/// Nodes that ask for different amounts would disagree about everything after.
void sizes_differ(Job& job) { static_cast<void>(job.symmetric_all<int>(job.node() == 0 ? 4 : 5)); }

void executes_shared_memory(Job& job) {
  auto* data = job.allocate_all<unsigned char>(4096);
  data[0] = 0xc3;
  if (job.node() == 0) reinterpret_cast<void (*)()>(data)();
  wait_for_ever(job);
}

/// Each node has the mutex that the other wants.
void deadlock(Job& job) {
  auto* guards = job.allocate_all<mutex>(2);
  guards[job.node()].lock();
  job.barrier();
  if (!guards[1 - job.node()].try_lock_for(std::chrono::milliseconds(1500 + 500 * job.node()))) throw Error("nobody gave way");
  wait_for_ever(job);
}

/// A node is killed while it holds a mutex, a semaphore's only permit and a reader-writer lock, and others wait; what it did not have works on.
void outlives_a_node(Job& job) {
  struct Objects {
    mutex held, free;
    binary_semaphore permit, signal;
    binary_semaphore seen[3];  // by this node: all that is lost
    shared_mutex shared;
  };
  auto* objects = job.allocate_all<Objects>(1, {.placement = Placement::at(0)});
  if (job.node() == 0) {
    objects->permit.init(1);
    objects->signal.init(0);
    for (binary_semaphore& node : objects->seen) node.init(0);
    const std::scoped_lock hold(objects->free);  // it is at a node that lives
  }
  job.barrier();
  if (job.node() == 1) {
    objects->held.lock();
    objects->permit.acquire();
    objects->shared.lock();
  }
  job.barrier();
  if (job.node() == 1) {
    usleep(200'000);  // the others wait by now
    kill(getpid(), SIGKILL);
  }
  const auto owner_dead = [](auto&& wait) {
    try {
      wait();
    } catch (const std::system_error& error) {
      return error.code() == std::errc::owner_dead;
    }
    return false;
  };
  EXPECT(owner_dead([&] { objects->held.lock(); }));
  EXPECT(owner_dead([&] { objects->held.lock(); }));  // for good
  EXPECT(owner_dead([&] { objects->permit.acquire(); }));
  EXPECT(owner_dead([&] { objects->shared.lock_shared(); }));
  // Who is slow must find everything lost, too, before it is made again; a barrier would need the dead node.
  objects->seen[job.node()].release();
  objects->seen[2 - job.node()].acquire();
  // Somebody makes them again, one of all who try.
  {
    if (!objects->held.recover()) objects->held.lock();
    objects->held.unlock();
  }
  if (job.node() == 0) {
    objects->shared.init();
    const std::scoped_lock hold(objects->shared);
    objects->permit.init(1);
    objects->permit.acquire();
  }
  if (job.node() == 2) {  // what nobody of the dead knew of works on
    for (int i = 0; i < 100; ++i) {
      const std::scoped_lock hold(objects->free);
    }
    objects->signal.release();
  } else if (job.node() == 0) {
    objects->signal.acquire();
    const std::scoped_lock hold(objects->free);
  }
  try {
    job.barrier();
    EXPECT(!"a barrier without a node");
  } catch (const NodeDied&) {
    const auto needs_all = [](auto&& call) {
      try {
        call();
      } catch (const NodeDied&) {
        return true;
      }
      return false;
    };
    EXPECT(needs_all([&] { EventCounter counter(job); }));
    EXPECT(needs_all([&] { static_cast<void>(job.allocate_all<int>()); }));
    if (job.node() == 0) std::fputs("the others go on\n", stderr);
  }
}

/// Memory that everybody has used, then a death: whoever lives goes on with it, or the job ends; nobody waits for the dead.
void memory_after_a_death(Job& job) {
  auto* words = job.allocate_all<std::uint64_t>(512, {.placement = Placement::at(0)});
  auto* guard = job.allocate_all<mutex>(1, {.placement = Placement::at(0)});
  guard->bind(words, 512);
  const auto step = [&](std::uint64_t add) {
    const std::scoped_lock hold(*guard);
    words[0] += add;
    words[1 + job.node()] = words[0];
    return words[0];
  };
  for (int i = 0; i < 3; ++i) step(1);
  job.barrier();
  if (job.node() == 0) step(0);  // so that it is not the dead one who had the lock
  job.barrier();
  if (job.node() == 1) {
    words[1] = 8;  // the last to write; nobody has it
    kill(getpid(), SIGKILL);
  }
  for (int i = 0; i < 200; ++i) {  // longer than it takes to learn of the death
    EXPECT(step(0) == static_cast<std::uint64_t>(3 * job.nodes()));
    usleep(5000);
  }
  if (job.node() == 0) std::fputs("the others go on\n", stderr);
}

/// A node waits for announcements that another node leaves out.
void waits_for_an_announcement(Job& job) {
  EventCounter hits(job);
  job.barrier();
  if (job.node() == 0) {
    hits.notify(1, 3);
    usleep(1'500'000);
    throw Error("node 0 gives up");
  }
  hits.wait(5);
}

/// The same, of one that dies: who waits is told which, and what is missing.
void announcer_dies(Job& job) {
  EventCounter hits(job);
  job.barrier();
  if (job.node() == 1) kill(getpid(), SIGKILL);
  try {
    hits.wait(5);
  } catch (const NodeDied& error) {
    if (job.node() == 0) std::fprintf(stderr, "%s\n", error.what());
  }
}

/// Puts into memory of another node's that its disk has no room for.
void puts_beyond_the_disk(Job& job) {
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  auto* bytes = job.symmetric_all<char>(8 * kBytes);
  if (job.node() != 0) wait_for_ever(job);
  const std::vector<char> source(kBytes, 'x');
  for (std::size_t i = 0; i < 8; ++i) put(1, bytes + i * kBytes, source.data(), kBytes);
  std::fputs("everything found room\n", stderr);
}

/// One node does not come to a barrier for a while.
void late_for_a_barrier(Job& job) {
  if (job.node() == 1) usleep(1'500'000);
  job.barrier();
  throw Error("everybody came");
}

void collective_mismatch(Job& job) {
  if (job.node() == 0) {
    static_cast<void>(job.allocate_all<int>(1));
  } else {
    job.barrier();
  }
  wait_for_ever(job);
}

/// Caught by the program, which goes on to the end of the section.
void reduction_throws(Job& job) {
  job.parallel([](Thread& me) {
    try {
      static_cast<void>(me.reduce(1, [](int, int) -> int { throw std::runtime_error("no such sum"); }));
    } catch (const std::exception&) {
    }
  });
}

/// A thread has a copy and waits for it to change, with plain loads.
void spins(Job& job) {
  // At home with the writer: to the reader, who may else be the first to touch it, the change would come home.
  volatile int* const door = job.allocate_all<int>(1, {.placement = Placement::at(0), .name = "door"});
  job.parallel([&](Thread& me) {
    static_cast<void>(*door);
    me.barrier();
    if (me.rank() == 0) *door = 1;
    while (me.rank() != 0 && *door == 0) {
    }
  });
}

}  // namespace

std::vector<Scenario> failure_scenarios() {
  return {{"wild_inside", wild_inside},
          {"wild_outside", wild_outside},
          {"allocation_beyond_the_range", allocation_beyond_the_range},
          {"allocation_until_exhausted", allocation_until_exhausted},
          {"exception_in_a_section", exception_in_a_section},
          {"exception_in_main", exception_in_main},
          {"leaves_silently", leaves_silently},
          {"returns_early", returns_early},
          {"sizes_differ", sizes_differ},
          {"executes_shared_memory", executes_shared_memory},
          {"deadlock", deadlock},
          {"outlives_a_node", outlives_a_node},
          {"memory_after_a_death", memory_after_a_death},
          {"waits_for_an_announcement", waits_for_an_announcement},
          {"announcer_dies", announcer_dies},
          {"puts_beyond_the_disk", puts_beyond_the_disk},
          {"late_for_a_barrier", late_for_a_barrier},
          {"collective_mismatch", collective_mismatch},
          {"reduction_throws", reduction_throws},
          {"spins", spins}};
}

}  // namespace netvm::test
