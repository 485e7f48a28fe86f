// A whole job of which a node is killed at a random moment, in the middle of operations on every kind of object that guard memory. Those who live are told,
// or go on; nobody holds what another one holds; nobody waits for ever; what was lost or broken can be made again. And deaths at one moment, of nodes that memory needs.
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "netvm/sync.hpp"
#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

constexpr int kVictim = 1;
constexpr int kNodes = 3;
constexpr int kOnces = 16;
constexpr std::ptrdiff_t kMany = std::ptrdiff_t{1} << 40;
constexpr std::chrono::milliseconds kLong(100), kShort(1);

/// All of it at node 0, which lives, and so are the objects' homes.
struct Everything {
  netvm::mutex guard;
  std::int64_t guarded[2];  // equal whenever the mutex is free
  netvm::shared_mutex shared;
  std::int64_t shared_pair[2];
  binary_semaphore permit;
  counting_semaphore<> signals;
  netvm::mutex bell_guard;
  netvm::condition_variable bell;
  wait_queue queue;
  netvm::barrier<> meeting;
  netvm::latch countdown;
  flag gate;
  netvm::once_flag onces[kOnces];
  counting_semaphore<> seen[kNodes];  // of those who live alone
};

/// In memory of node 0's that every node reaches: who is in there now, and how often something was done. Without any object's help.
struct Board {
  std::uint64_t owner[3];  // of `guard`, `shared`, `permit`: the node, plus 1
  std::uint64_t done[kOnces];
};

class Player {
 public:
  Player(Job& job, Everything& all, Board& board, unsigned seed)
      : node_(job.node()), all_(all), board_(board), random_(seed * 16 + node_) {}

  /// One operation of some kind. What may come of it is that it works, or that its object died.
  void play() {
    try {
      play(random_() % 9);
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::owner_dead) throw;
      ++told_;
    }
  }
  /// All kinds, made again: none may fail.
  void play_each() {
    for (unsigned kind = 0; kind < 9; ++kind) {
      if (kind != kMeeting) play(kind);
    }
  }
  [[nodiscard]] int told() const { return told_; }

 private:
  static constexpr unsigned kMeeting = 5;

  void play(unsigned kind) {
    switch (kind) {
      case 0:
        return use_mutex();
      case 1:
        return use_shared_mutex();
      case 2:
        if (!all_.permit.try_acquire_for(kLong)) return;
        alone(2, false, [] {});
        return all_.permit.release();
      case 3:
        all_.signals.release(1 + random_() % 2);
        return static_cast<void>(all_.signals.try_acquire_for(kShort));
      case 4: {
        std::unique_lock<netvm::mutex> hold(all_.bell_guard, std::defer_lock);
        if (lock_or_recover(hold) == Got::nothing) return;
        if (random_() % 2 == 0) return all_.bell.notify_all();
        return static_cast<void>(all_.bell.wait_for(hold, kShort));
      }
      case kMeeting:
        return static_cast<void>(all_.meeting.try_wait_for(all_.meeting.arrive(), kShort));
      case 6:
        all_.countdown.count_down();
        return static_cast<void>(all_.countdown.wait_for(kShort));
      case 7:
        if (random_() % 4 == 0) return all_.gate.clear();
        if (random_() % 2 == 0) return all_.gate.set();
        return static_cast<void>(all_.gate.wait_for(kShort));
      default:
        return random_() % 2 == 0 ? use_queue() : use_once();
    }
  }

  enum class Got : std::uint8_t { it, it_from_the_dead, nothing };
  Got lock_or_recover(std::unique_lock<netvm::mutex>& lock) {
    try {
      lock.lock();
      return Got::it;
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::owner_dead) throw;
    }
    ++told_;
    if (!lock.mutex()->recover()) return Got::nothing;  // the other one came first
    lock = std::unique_lock<netvm::mutex>(*lock.mutex(), std::adopt_lock);
    return Got::it_from_the_dead;
  }

  void use_mutex() {
    std::unique_lock<netvm::mutex> hold(all_.guard, std::defer_lock);
    const Got got = lock_or_recover(hold);
    if (got == Got::nothing) return;
    if (got == Got::it_from_the_dead) all_.guarded[0] = all_.guarded[1];  // it may have been between the two
    alone(0, got == Got::it_from_the_dead, [&] { change(all_.guarded); });
  }

  void use_shared_mutex() {
    if (random_() % 2 == 0) {
      const std::shared_lock<netvm::shared_mutex> hold(all_.shared);
      EXPECT(fetch_add(0, &board_.owner[1], 0) == 0);
      EXPECT(all_.shared_pair[0] == all_.shared_pair[1]);
      return;
    }
    const std::unique_lock<netvm::shared_mutex> hold(all_.shared);
    alone(1, false, [&] { change(all_.shared_pair); });
  }

  void use_queue() {
    wait_queue::ticket place = all_.queue.enqueue();
    if (random_() % 2 == 0) static_cast<void>(all_.queue.wake_one());
    static_cast<void>(all_.queue.wait_for(place, kShort));
  }

  void use_once() {
    const unsigned which = random_() % kOnces;
    struct Fails {};
    try {
      netvm::call_once(all_.onces[which], [&] {
        if (random_() % 4 == 0) throw Fails();
        if (node_ != kVictim) EXPECT(fetch_add(0, &board_.done[which], 1) == 0);
      });
    } catch (const Fails&) {
    }
  }

  void change(std::int64_t (&pair)[2]) {
    EXPECT(pair[0] == pair[1]);
    ++pair[0];
    ++pair[1];
  }
  /// Nobody else is in there; but, where this thread has it from a dead one, that one.
  template <class Act>
  void alone(int what, bool from_the_dead, Act&& act) {
    const std::uint64_t me = static_cast<std::uint64_t>(node_) + 1;
    const std::uint64_t before = swap(0, &board_.owner[what], me);
    EXPECT(before == 0 || (from_the_dead && before == kVictim + 1));
    act();
    EXPECT(swap(0, &board_.owner[what], 0) == me);
  }

  const int node_;
  Everything& all_;
  Board& board_;
  std::minstd_rand random_;
  int told_ = 0;
};

void make_again(Everything& all) {
  all.shared.init();
  all.permit.init(1);
  all.signals.init(0);
  all.bell.init();
  all.queue.init();
  all.countdown.init(kMany);
  all.gate.init();
  for (netvm::once_flag& once : all.onces) once.init();
}

/// DEATH_SEED says when.
void dies_at_any_moment(Job& job) {
  EXPECT(job.nodes() == kNodes);
  auto* all = job.allocate_all<Everything>(1, {.placement = Placement::at(0)});
  auto* board = job.symmetric_all<Board>(1);
  if (job.node() == 0) {
    place(*all, 0);
    all->permit.init(1);
    all->meeting.init(kNodes);
    all->countdown.init(kMany);
  }
  const char* const said = std::getenv("DEATH_SEED");
  const auto seed = static_cast<unsigned>(said != nullptr ? std::strtoul(said, nullptr, 10) : 1);
  job.barrier();
  if (job.node() == kVictim) {
    std::thread([seed] {
      std::minstd_rand random(seed * 16 + 11);
      random.discard(10);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
      kill(getpid(), SIGKILL);
    }).detach();
  }
  Player player(job, *all, *board, seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(150);  // they know of the death for most of it
  while (job.node() == kVictim || std::chrono::steady_clock::now() < end) player.play();

  // Those who live meet, one makes everything new, and both use it.
  const int other = 2 - job.node();
  const auto meet = [&] {
    all->seen[job.node()].release();
    all->seen[other].acquire();
  };
  meet();
  if (job.node() == 0) {
    make_again(*all);
    *board = {};
  }
  meet();
  for (int i = 0; i < 20; ++i) player.play_each();
  meet();
  EXPECT(all->guarded[0] == all->guarded[1]);
  if (job.node() == 0) std::fputs("the others go on\n", stderr);
}

// ---- memory and the allocation table --------------------------------------------------------------------------------------------------

constexpr std::size_t kWords = 64 * 512;  // 64 pages: every node is the arbiter, or the home, of some

/// Returns when this node knows that a node has died.
void await_death(Job& job) {
  for (;;) {
    try {
      job.barrier();
    } catch (const NodeDied&) {
      return;
    }
  }
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/// Words that survivors tell each other by, without any object's help: at each node, what others gave it.
struct Told {
  std::uint64_t value;
  void tell(int node, std::uint64_t what) { static_cast<void>(swap(node, &value, what)); }
  std::uint64_t wait(const Job& job) {
    for (;; usleep(1000)) {
      if (const std::uint64_t what = fetch_add(job.node(), &value, 0); what != 0) return what;
    }
  }
};

bool right(const std::uint64_t* words) {
  bool all = true;
  for (std::size_t i = 0; i < kWords; ++i) all = all && words[i] == i;
  return all;
}

/// Node 0, which has the table of what is allocated, dies: what living nodes are home of, and have met, goes on, and nobody waits for an answer.
void node_zero_dies(Job& job) {
  auto* told = job.symmetric_all<Told>(2);
  auto* words = job.allocate_all<std::uint64_t>(kWords, {.placement = Placement::at(1)});
  auto* guard = job.allocate_all<netvm::mutex>(1, {.placement = Placement::at(1)});
  std::uint64_t* own = nullptr;  // nobody else has met it
  if (job.node() == 1) {
    own = job.allocate<std::uint64_t>(kWords, {.placement = Placement::at(1)});
    const std::scoped_lock hold(*guard);
    for (std::size_t i = 0; i < kWords; ++i) words[i] = own[i] = i;
  }
  job.barrier();
  if (job.node() == 0) die();
  if (job.node() == 1) {
    told[0].tell(2, reinterpret_cast<std::uintptr_t>(own));
    // Whether it asks before it knows of the death or after.
    const auto says_why = [](auto&& call) {
      try {
        call();
      } catch (const NodeDied& error) {
        return std::string_view(error.what()).find("node 0 has died, and it kept the job's table") != std::string_view::npos;
      }
      return false;
    };
    EXPECT(says_why([&] {
      for (;;) job.free(job.allocate<char>(100'000));
    }));
    EXPECT(says_why([&] { job.free(own); }));
    told[1].tell(2, 1);
    return;
  }
  own = reinterpret_cast<std::uint64_t*>(told[0].wait(job));
  await_death(job);
  {
    const std::scoped_lock hold(*guard);
    EXPECT(right(words));
    EXPECT(right(own));
  }
  static_cast<void>(told[1].wait(job));
  std::fputs("the others go on\n", stderr);
}

/// The same, and memory is used that only node 0 knew.
void node_zero_alone_knew(Job& job) {
  auto* told = job.symmetric_all<Told>(1);
  if (job.node() == 0) {
    told->tell(1, reinterpret_cast<std::uintptr_t>(job.allocate<std::uint64_t>(kWords, {.placement = Placement::at(1)})));
    die();
  }
  const auto* words = reinterpret_cast<const std::uint64_t*>(job.node() == 1 ? told->wait(job) : 0);
  await_death(job);
  if (job.node() == 1) std::fprintf(stderr, "read %d\n", static_cast<int>(words[0]));
}

/// What is allocated after a death has homes that live, whatever the placement; what was touched before is found, though who arbitrated it is dead.
void new_memory_after_a_death(Job& job) {
  auto* told = job.symmetric_all<Told>(8);
  auto* guard = job.allocate_all<netvm::mutex>(1, {.placement = Placement::at(0)});
  auto* touched = job.allocate_all<std::uint64_t>(kWords);
  job.barrier();
  if (job.node() == 0) {
    const std::scoped_lock hold(*guard);
    for (std::size_t i = 0; i < kWords; ++i) touched[i] = i;
  }
  job.barrier();
  if (job.node() == 1) die();
  await_death(job);
  const Placement placements[] = {Placement::first_touch(), Placement::cyclic(), Placement::block()};
  if (job.node() == 2) {
    for (int i = 0; i < 4; ++i) {
      const auto* words = i == 3 ? touched : reinterpret_cast<std::uint64_t*>(told[i].wait(job));
      const std::scoped_lock hold(*guard);
      EXPECT(right(words));
    }
    return told[7].tell(0, 1);
  }
  try {
    static_cast<void>(job.allocate<char>(100'000, {.placement = Placement::at(1)}));
    EXPECT(!"memory at a dead node");
  } catch (const AllocationError& error) {
    EXPECT(std::string_view(error.what()).find("placement at node 1: that node has died") != std::string_view::npos);
  }
  for (int i = 0; i < 3; ++i) {
    auto* words = job.allocate<std::uint64_t>(kWords, {.placement = placements[i]});
    auto* small = job.allocate<std::uint64_t>(200, {.placement = placements[i]});
    auto* locks = job.allocate<netvm::mutex>(64, {.placement = placements[i]});
    {
      const std::scoped_lock hold(*guard);
      for (std::size_t word = 0; word < kWords; ++word) words[word] = word;
      small[0] = 1;
    }
    told[i].tell(2, reinterpret_cast<std::uintptr_t>(words));
    for (int lock = 0; lock < 64; ++lock) {
      const std::scoped_lock hold(locks[lock]);
    }
    job.free(small);
    job.free(locks);
  }
  // Most of the address space, twice: the second waits until all who live have let the first go.
  for (int i = 0; i < 2; ++i) job.free(job.allocate<char>(std::size_t{32} << 20));
  static_cast<void>(told[7].wait(job));
  std::fputs("the others go on\n", stderr);
}

/// Memory of before, touched after: whether the dead node had written there nobody can know.
void first_touch_after_a_death(Job& job) {
  auto* words = job.allocate_all<std::uint64_t>(kWords);
  job.barrier();
  if (job.node() == 1) die();
  await_death(job);
  if (job.node() == 0) {
    for (std::size_t i = 0; i < kWords; ++i) words[i] = i;
    std::fputs("wrote\n", stderr);
  }
}

}  // namespace

std::vector<Scenario> death_scenarios() {
  return {{"dies_at_any_moment", dies_at_any_moment},
          {"node_zero_dies", node_zero_dies},
          {"node_zero_alone_knew", node_zero_alone_knew},
          {"new_memory_after_a_death", new_memory_after_a_death},
          {"first_touch_after_a_death", first_touch_after_a_death}};
}

}  // namespace netvm::test
