/* <threads.h> and <stdatomic.h>. */
#include <stdatomic.h>
#include <threads.h>
#include <time.h>

#include "check.h"

enum { kThreads = 5, kRounds = 200 };

static atomic_int counter;
static atomic_flag spin = ATOMIC_FLAG_INIT;
static mtx_t mutex;
static cnd_t all_here;
static once_flag once = ONCE_FLAG_INIT;
static tss_t key;
static thread_local int mine;
static int here, plain, onces, spun;

static void do_once(void) { ++onces; }

static int work(void* argument) {
  call_once(&once, do_once);
  CHECK(onces == 1);
  mine = *(int*)argument;
  CHECK(tss_set(key, argument) == thrd_success);
  for (int i = 0; i < kRounds; ++i) atomic_fetch_add(&counter, 1);
  for (int i = 0; i < 20; ++i) {
    while (atomic_flag_test_and_set(&spin)) thrd_yield();
    ++spun;
    atomic_flag_clear(&spin);
  }
  mtx_lock(&mutex);
  ++plain;
  if (++here == kThreads) cnd_broadcast(&all_here);
  while (here < kThreads) cnd_wait(&all_here, &mutex);
  mtx_unlock(&mutex);
  CHECK(mine == *(int*)argument && tss_get(key) == argument);
  if (mine == 2) thrd_exit(200);
  return mine * 100;
}

int main(void) {
  thrd_t threads[kThreads];
  int numbers[kThreads], result;
  mtx_t recursive;
  struct timespec soon;
  CHECK(mtx_init(&mutex, mtx_plain) == thrd_success && cnd_init(&all_here) == thrd_success);
  CHECK(tss_create(&key, NULL) == thrd_success);
  for (int i = 0; i < kThreads; ++i) {
    numbers[i] = i;
    CHECK(thrd_create(&threads[i], work, &numbers[i]) == thrd_success);
  }
  for (int i = 0; i < kThreads; ++i) CHECK(thrd_join(threads[i], &result) == thrd_success && result == i * 100);
  CHECK(atomic_load(&counter) == kThreads * kRounds);
  CHECK(plain == kThreads && onces == 1 && spun == kThreads * 20);
  CHECK(mtx_init(&recursive, mtx_recursive | mtx_timed) == thrd_success);
  CHECK(mtx_lock(&recursive) == thrd_success && mtx_trylock(&recursive) == thrd_success);
  CHECK(mtx_unlock(&recursive) == thrd_success && mtx_unlock(&recursive) == thrd_success);
  timespec_get(&soon, TIME_UTC);
  mtx_lock(&mutex);
  CHECK(cnd_timedwait(&all_here, &mutex, &soon) == thrd_timedout);
  mtx_unlock(&mutex);
  cnd_destroy(&all_here);
  mtx_destroy(&mutex);
  tss_delete(key);
  CHECK(thrd_equal(thrd_current(), thrd_current()));
  printf("c11: passed\n");
  return 0;
}
