#include "apps/kit/openmp/team.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

// Of the kit: as pthread_create(), on the node that the placement gives to thread `number` of those that main() is the first of.
extern "C" int netvm_kit_create_numbered(pthread_t* thread, void* (*function)(void*), void* argument, unsigned long number);

namespace netvm::openmp {

thread_local constinit Self t_self;

void fail(const char* what) {
  std::fprintf(stderr, "netvm: OpenMP: %s\n", what);
  std::exit(1);
}

namespace {

int g_threads = 0;  // omp_set_num_threads()'s; 0: as the environment says
pthread_once_t g_once = PTHREAD_ONCE_INIT;
pthread_key_t g_crew_key;

struct Recruit {
  Crew* crew;
  int number;
};

int number_in(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  const long value = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
  return value > 0 && value <= 65536 ? static_cast<int>(value) : otherwise;
}

void run_body(Team& team, int number) {
  Self& me = t_self;
  const Self outside = me;
  me = {};
  me.team = &team;
  me.number = number;
  me.depth = outside.depth + 1;
  me.crew = outside.crew;
  team.body(team.data);
  me = outside;
}

void* serve(void* argument) {
  const Recruit recruit = *static_cast<Recruit*>(argument);
  std::free(argument);
  Crew& crew = *recruit.crew;
  for (;;) {
    pthread_barrier_wait(&crew.gate);
    if (crew.over) break;
    if (recruit.number < crew.team.size) run_body(crew.team, recruit.number);
    pthread_barrier_wait(&crew.end);
  }
  pthread_barrier_wait(&crew.end);  // the crew's memory is given back behind it
  return nullptr;
}

void dismiss(void* it) {
  auto* const crew = static_cast<Crew*>(it);
  crew->over = true;
  pthread_barrier_wait(&crew->gate);
  pthread_barrier_wait(&crew->end);
  std::free(crew);
}

Crew* recruit(int threads) {
  auto* const crew = static_cast<Crew*>(std::calloc(1, sizeof(Crew)));
  if (crew == nullptr) fail("no memory for a team");
  crew->threads = threads;
  pthread_barrier_init(&crew->gate, nullptr, static_cast<unsigned>(threads));
  pthread_barrier_init(&crew->end, nullptr, static_cast<unsigned>(threads));
  for (int i = 1; i < threads; ++i) {
    auto* const birth = static_cast<Recruit*>(std::malloc(sizeof(Recruit)));
    pthread_t thread;
    if (birth == nullptr) fail("no memory for a team");
    *birth = {crew, i};
    if (netvm_kit_create_numbered(&thread, serve, birth, static_cast<unsigned long>(i)) != 0)
      fail("a thread of a team cannot be started: fewer threads (OMP_NUM_THREADS), or more nodes (netvmrun -n)");
    pthread_detach(thread);
  }
  return crew;
}

/// The crew of the calling thread, of so many threads at least.
Crew& crew_of(int threads) {
  pthread_once(&g_once, [] { pthread_key_create(&g_crew_key, dismiss); });
  Self& me = t_self;
  if (me.crew != nullptr && me.crew->threads < threads) {
    dismiss(me.crew);
    me.crew = nullptr;
  }
  if (me.crew == nullptr) {
    me.crew = recruit(threads);
    pthread_setspecific(g_crew_key, me.crew);
  }
  return *me.crew;
}

void set_up(Team& team, Body body, void* data, int size) {
  team.body = body;
  team.data = data;
  team.size = size;
  for (WorkShare& share : team.shares) share.number = 0;
  if (size == 1 || team.barrier_of == size) return;
  if (team.barrier_of != 0) pthread_barrier_destroy(&team.barrier);
  pthread_barrier_init(&team.barrier, nullptr, static_cast<unsigned>(size));
  team.barrier_of = size;
}

}  // namespace

int default_threads() {
  if (g_threads == 0)
    g_threads = number_in("OMP_NUM_THREADS", number_in("NETVM_NODES", static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN))) *
                                                 (std::getenv("NETVM_NODES") != nullptr ? number_in("NETVM_THREADS", 1) : 1));
  return g_threads;
}

void set_default_threads(int threads) {
  if (threads > 0) g_threads = threads;
}

void run_parallel(Body body, void* data, unsigned wanted) {
  const int size = t_self.team != nullptr ? 1 : wanted != 0 ? static_cast<int>(wanted) : default_threads();
  if (size == 1) {
    Team* const alone = static_cast<Team*>(std::calloc(1, sizeof(Team)));
    if (alone == nullptr) fail("no memory for a team");
    set_up(*alone, body, data, 1);
    run_body(*alone, 0);
    std::free(alone);
    return;
  }
  Crew& crew = crew_of(size);
  set_up(crew.team, body, data, size);
  pthread_barrier_wait(&crew.gate);
  run_body(crew.team, 0);
  pthread_barrier_wait(&crew.end);
}

void team_barrier() {
  if (team_size() > 1) pthread_barrier_wait(&t_self.team->barrier);
}

WorkShare& enter_share(bool* first) {
  Self& me = t_self;
  static thread_local constinit WorkShare outside{};  // of a construct outside of regions, where nobody else is
  WorkShare& share = me.team != nullptr ? me.team->shares[me.constructs % WorkShare::kPlaces] : outside;
  const unsigned long number = ++me.constructs;
  me.share = &share;
  pthread_mutex_lock(&share.mutex);
  // Taken for a construct before this one, which somebody is still in.
  while (share.number != 0 && share.number != number && share.left < team_size()) pthread_cond_wait(&share.changed, &share.mutex);
  *first = share.number != number || me.team == nullptr;
  if (*first) {
    share.number = number;
    share.left = 0;
    share.next = share.turn = 0;
    share.copied = nullptr;
  }
  return share;
}

void opened(WorkShare& share) { pthread_mutex_unlock(&share.mutex); }

void leave_share() {
  WorkShare* const share = t_self.share;
  if (share == nullptr) return;
  t_self.share = nullptr;
  pthread_mutex_lock(&share->mutex);
  if (++share->left >= team_size()) pthread_cond_broadcast(&share->changed);
  pthread_mutex_unlock(&share->mutex);
}

}  // namespace netvm::openmp
