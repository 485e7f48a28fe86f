// The calls of gcc's <omp.h>, which is not included: another compiler's has other types of locks.
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include "apps/kit/openmp/team.hpp"

extern "C" {
void netvm_openmp_set_schedule(unsigned char schedule, unsigned long chunk);
void netvm_openmp_get_schedule(unsigned char* schedule, unsigned long* chunk);
}

using namespace netvm::openmp;

namespace {

using PlainLock = std::int32_t;  // omp_lock_t: too small for a mutex or an address, so the number of one
struct NestedLock {              // what omp_nest_lock_t, of 16 bytes, has the address of
  pthread_mutex_t mutex;
  int depth;
};

/// The mutexes of plain locks, by number.
constexpr int kBlocks = 4096;
constexpr int kInBlock = 1024;
pthread_mutex_t g_guard = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t* g_blocks[kBlocks];
int g_made = 0;

pthread_mutex_t* mutex_of(const PlainLock* lock) { return &g_blocks[*lock / kInBlock][*lock % kInBlock]; }

PlainLock make_lock() {
  pthread_mutex_lock(&g_guard);
  const int number = g_made++;
  if (number / kInBlock >= kBlocks) fail("more than four million locks");
  pthread_mutex_t*& block = g_blocks[number / kInBlock];
  if (block == nullptr) block = static_cast<pthread_mutex_t*>(std::calloc(kInBlock, sizeof(pthread_mutex_t)));
  if (block == nullptr) fail("no memory for a lock");
  pthread_mutex_unlock(&g_guard);
  return number;
}

}  // namespace

extern "C" {

int omp_get_num_threads() noexcept { return team_size(); }
int omp_get_thread_num() noexcept { return t_self.number; }
int omp_get_max_threads() noexcept { return t_self.team != nullptr ? 1 : default_threads(); }
void omp_set_num_threads(int threads) noexcept { set_default_threads(threads); }
int omp_get_num_procs() noexcept { return default_threads(); }
int omp_in_parallel() noexcept { return team_size() > 1 ? 1 : 0; }
int omp_get_level() noexcept { return t_self.depth; }
int omp_get_active_level() noexcept { return omp_in_parallel(); }
int omp_get_thread_limit() noexcept { return 65536; }
int omp_get_dynamic() noexcept { return 0; }
void omp_set_dynamic(int) noexcept {}
int omp_get_nested() noexcept { return 0; }
void omp_set_nested(int) noexcept {}
int omp_get_max_active_levels() noexcept { return 1; }
void omp_set_max_active_levels(int) noexcept {}
int omp_get_cancellation() noexcept { return 0; }
int omp_in_final() noexcept { return 1; }

// Kinds of schedules have the numbers of omp_sched_t; its highest bit says "monotonic", which all are. "auto" is 4.
void omp_set_schedule(int kind, int chunk) noexcept {
  constexpr int kStatic = 1;
  constexpr int kAuto = 4;
  const int plain = kind & 0xff;
  netvm_openmp_set_schedule(static_cast<unsigned char>(plain == kAuto ? kStatic : plain),
                            chunk > 0 ? static_cast<unsigned long>(chunk) : 0);
}
void omp_get_schedule(int* kind, int* chunk) noexcept {
  unsigned char schedule = 0;
  unsigned long its = 0;
  netvm_openmp_get_schedule(&schedule, &its);
  *kind = schedule;
  *chunk = static_cast<int>(its);
}

double omp_get_wtime() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
double omp_get_wtick() noexcept { return 1e-9; }

void omp_init_lock(PlainLock* lock) noexcept { *lock = make_lock(); }
void omp_destroy_lock(PlainLock*) noexcept {}
void omp_set_lock(PlainLock* lock) noexcept { pthread_mutex_lock(mutex_of(lock)); }
void omp_unset_lock(PlainLock* lock) noexcept { pthread_mutex_unlock(mutex_of(lock)); }
int omp_test_lock(PlainLock* lock) noexcept { return pthread_mutex_trylock(mutex_of(lock)) == 0 ? 1 : 0; }

void omp_init_nest_lock(NestedLock** lock) noexcept {
  *lock = static_cast<NestedLock*>(std::calloc(1, sizeof(NestedLock)));
  if (*lock == nullptr) fail("no memory for a lock");
  pthread_mutexattr_t recursive;
  pthread_mutexattr_init(&recursive);
  pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&(*lock)->mutex, &recursive);
}
void omp_destroy_nest_lock(NestedLock** lock) noexcept { std::free(*lock); }
void omp_set_nest_lock(NestedLock** lock) noexcept {
  pthread_mutex_lock(&(*lock)->mutex);
  ++(*lock)->depth;
}
void omp_unset_nest_lock(NestedLock** lock) noexcept {
  --(*lock)->depth;
  pthread_mutex_unlock(&(*lock)->mutex);
}
int omp_test_nest_lock(NestedLock** lock) noexcept { return pthread_mutex_trylock(&(*lock)->mutex) == 0 ? ++(*lock)->depth : 0; }

}  // extern "C"
