/* Synchronisation: mutexes of all types, condition variables, barriers, reader-writer locks, spin locks, semaphores; in globals, the heap, on stacks. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { kThreads = 6, kRounds = 50 };

static struct timespec in_ms(clockid_t clock, long ms) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += ms * 1000000;
  t.tv_sec += t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}

static void start(pthread_t* threads, void* (*f)(void*), void* argument) {
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_create(&threads[i], NULL, f, argument) == 0);
}
static void finish(pthread_t* threads) {
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- mutexes ---- */
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_spinlock_t spin;
static int counts[3];

static void* count(void* heap_mutex) {
  for (int i = 0; i < kRounds; ++i) {
    CHECK(pthread_mutex_lock(&recursive) == 0);
    CHECK(pthread_mutex_lock(&recursive) == 0);
    CHECK(pthread_mutex_trylock(&recursive) == 0);
    ++counts[0];
    for (int k = 0; k < 3; ++k) CHECK(pthread_mutex_unlock(&recursive) == 0);
    CHECK(pthread_mutex_lock(heap_mutex) == 0);
    ++counts[1];
    CHECK(pthread_mutex_unlock(heap_mutex) == 0);
    CHECK(pthread_spin_lock(&spin) == 0);
    ++counts[2];
    CHECK(pthread_spin_unlock(&spin) == 0);
  }
  return NULL;
}

static void* other(void* unused) {
  struct timespec soon = in_ms(CLOCK_REALTIME, 20), wrong = {0, -1};
  CHECK(pthread_mutex_trylock(&plain) == EBUSY);
  CHECK(pthread_mutex_timedlock(&plain, &soon) == ETIMEDOUT);
  CHECK(pthread_mutex_timedlock(&plain, &wrong) == EINVAL);
  CHECK(pthread_spin_trylock(&spin) == EBUSY);
  return unused;
}

static void mutexes(void) {
  pthread_t threads[kThreads];
  pthread_mutexattr_t type;
  pthread_mutex_t *heap = malloc(sizeof *heap), checked;
  CHECK(pthread_mutex_init(heap, NULL) == 0);
  CHECK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE) == 0);
  start(threads, count, heap);
  finish(threads);
  for (int i = 0; i < 3; ++i) CHECK(counts[i] == kThreads * kRounds);
  CHECK(pthread_mutex_unlock(&recursive) == EPERM);
  CHECK(pthread_mutex_destroy(heap) == 0);
  free(heap);

  pthread_mutexattr_init(&type);
  pthread_mutexattr_settype(&type, PTHREAD_MUTEX_ERRORCHECK);
  CHECK(pthread_mutex_init(&checked, &type) == 0);
  pthread_mutexattr_destroy(&type);
  CHECK(pthread_mutex_lock(&checked) == 0);
  CHECK(pthread_mutex_lock(&checked) == EDEADLK);
  CHECK(pthread_mutex_destroy(&checked) == EBUSY);
  CHECK(pthread_mutex_unlock(&checked) == 0);
  CHECK(pthread_mutex_unlock(&checked) == EPERM);

  pthread_t thread[2];
  pthread_mutex_lock(&plain);
  pthread_spin_lock(&spin);
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&thread[i], NULL, other, NULL) == 0);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(thread[i], NULL) == 0);
  pthread_spin_unlock(&spin);
  pthread_mutex_unlock(&plain);
  struct timespec past = {0, 0};
  int error; /* free, so it is locked whatever the time; but while it travels between nodes it may look locked */
  while ((error = pthread_mutex_timedlock(&plain, &past)) != 0) CHECK(error == ETIMEDOUT);
  pthread_mutex_unlock(&plain);
}

/* ---- condition variables: a bounded queue on main()'s stack ---- */
struct queue {
  pthread_mutex_t mutex;
  pthread_cond_t not_empty, not_full;
  int items[4], first, used, taken, sum;
};

static void* produce(void* argument) {
  struct queue* q = argument;
  for (int i = 1; i <= kRounds; ++i) {
    pthread_mutex_lock(&q->mutex);
    while (q->used == 4) pthread_cond_wait(&q->not_full, &q->mutex);
    q->items[(q->first + q->used++) % 4] = i;
    pthread_cond_signal(&q->not_empty);
    pthread_mutex_unlock(&q->mutex);
  }
  return NULL;
}
static void* consume(void* argument) {
  struct queue* q = argument;
  for (;;) {
    pthread_mutex_lock(&q->mutex);
    while (q->used == 0 && q->taken < 3 * kRounds) pthread_cond_wait(&q->not_empty, &q->mutex);
    if (q->used == 0) break;
    q->sum += q->items[q->first];
    q->first = (q->first + 1) % 4;
    --q->used;
    if (++q->taken == 3 * kRounds) pthread_cond_broadcast(&q->not_empty);
    pthread_cond_signal(&q->not_full);
    pthread_mutex_unlock(&q->mutex);
  }
  pthread_mutex_unlock(&q->mutex);
  return NULL;
}

static void conditions(void) {
  struct queue q;
  pthread_t threads[6];
  pthread_condattr_t monotonic;
  pthread_cond_t timed;
  memset(&q, 0, sizeof q);
  pthread_mutex_init(&q.mutex, NULL);
  pthread_cond_init(&q.not_empty, NULL);
  pthread_cond_init(&q.not_full, NULL);
  for (int i = 0; i < 6; ++i) CHECK(pthread_create(&threads[i], NULL, i < 3 ? produce : consume, &q) == 0);
  for (int i = 0; i < 6; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(q.sum == 3 * kRounds * (kRounds + 1) / 2);

  pthread_condattr_init(&monotonic);
  CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
  pthread_cond_init(&timed, &monotonic);
  pthread_mutex_lock(&q.mutex);
  struct timespec soon = in_ms(CLOCK_MONOTONIC, 20);
  CHECK(pthread_cond_timedwait(&timed, &q.mutex, &soon) == ETIMEDOUT);
  soon = in_ms(CLOCK_REALTIME, 20);
  CHECK(pthread_cond_timedwait(&q.not_full, &q.mutex, &soon) == ETIMEDOUT);
  CHECK(pthread_mutex_unlock(&q.mutex) == 0);
  pthread_cond_destroy(&timed);
}

/* ---- barriers ---- */
static pthread_barrier_t barrier;
static int phases[kThreads], serials;

static void* step(void* argument) {
  pthread_mutex_lock(&plain);
  const int me = (*(int*)argument)++;
  pthread_mutex_unlock(&plain);
  for (int round = 1; round <= 10; ++round) {
    phases[me] = round;
    const int result = pthread_barrier_wait(&barrier);
    CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
    if (result == PTHREAD_BARRIER_SERIAL_THREAD) ++serials;
    for (int i = 0; i < kThreads; ++i) CHECK(phases[i] == round);
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}

static void barriers(void) {
  pthread_t threads[kThreads];
  int next = 0;
  CHECK(pthread_barrier_init(&barrier, NULL, 0) == EINVAL);
  CHECK(pthread_barrier_init(&barrier, NULL, kThreads) == 0);
  start(threads, step, &next);
  finish(threads);
  CHECK(serials == 10);
  CHECK(pthread_barrier_destroy(&barrier) == 0);
  CHECK(pthread_barrier_init(&barrier, NULL, 1) == 0); /* the same memory, another count */
  CHECK(pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD);
}

/* ---- reader-writer locks ---- */
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static long pair[2];

static void* read_and_write(void* unused) {
  for (int i = 0; i < kRounds; ++i) {
    if (i % 5 == 0) {
      CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
      ++pair[0];
      ++pair[1];
    } else {
      CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
      CHECK(pair[0] == pair[1]);
    }
    CHECK(pthread_rwlock_unlock(&rwlock) == 0);
  }
  return unused;
}
static void* while_read(void* unused) {
  struct timespec soon = in_ms(CLOCK_REALTIME, 20);
  CHECK(pthread_rwlock_tryrdlock(&rwlock) == 0);
  CHECK(pthread_rwlock_unlock(&rwlock) == 0);
  CHECK(pthread_rwlock_trywrlock(&rwlock) == EBUSY);
  CHECK(pthread_rwlock_timedwrlock(&rwlock, &soon) == ETIMEDOUT);
  return unused;
}

static void rwlocks(void) {
  pthread_t threads[kThreads];
  start(threads, read_and_write, NULL);
  finish(threads);
  CHECK(pair[0] == kThreads * kRounds / 5);
  CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
  CHECK(pthread_rwlock_rdlock(&rwlock) == 0); /* twice is fine */
  CHECK(pthread_create(&threads[0], NULL, while_read, NULL) == 0);
  CHECK(pthread_join(threads[0], NULL) == 0);
  CHECK(pthread_rwlock_unlock(&rwlock) == 0);
  CHECK(pthread_rwlock_unlock(&rwlock) == 0);
  CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
  CHECK(pthread_rwlock_rdlock(&rwlock) == EDEADLK);
  CHECK(pthread_rwlock_unlock(&rwlock) == 0);
}

/* ---- semaphores ---- */
static sem_t ping, pong;
static int ball;

static void* play(void* unused) {
  for (int i = 0; i < kRounds; ++i) {
    CHECK(sem_wait(&ping) == 0);
    ++ball;
    CHECK(sem_post(&pong) == 0);
  }
  return unused;
}

static void semaphores(void) {
  pthread_t thread;
  int value;
  CHECK(sem_init(&ping, 0, 0) == 0 && sem_init(&pong, 0, 2) == 0);
  CHECK(sem_getvalue(&pong, &value) == 0 && value == 2);
  CHECK(sem_trywait(&pong) == 0 && sem_wait(&pong) == 0);
  CHECK(sem_trywait(&pong) == -1 && errno == EAGAIN);
  struct timespec soon = in_ms(CLOCK_REALTIME, 20);
  CHECK(sem_timedwait(&pong, &soon) == -1 && errno == ETIMEDOUT);
  CHECK(pthread_create(&thread, NULL, play, NULL) == 0);
  for (int i = 0; i < kRounds; ++i) {
    CHECK(ball == i);
    CHECK(sem_post(&ping) == 0);
    CHECK(sem_wait(&pong) == 0);
  }
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(sem_destroy(&ping) == 0 && sem_destroy(&pong) == 0);
}

/* One piece of memory after the other. */
static void memory_again(void) {
  union {
    pthread_cond_t condition;
    pthread_rwlock_t rwlock;
    pthread_once_t once;
    sem_t semaphore;
    pthread_barrier_t barrier;
  }* it = malloc(sizeof *it);
  for (int i = 0; i < 3; ++i) {
    CHECK(sem_init(&it->semaphore, 0, 1) == 0 && sem_wait(&it->semaphore) == 0);
    memset(it, 0, sizeof *it);
    CHECK(pthread_cond_signal(&it->condition) == 0);
    memset(it, 0, sizeof *it);
    CHECK(pthread_rwlock_wrlock(&it->rwlock) == 0 && pthread_rwlock_unlock(&it->rwlock) == 0);
    CHECK(pthread_barrier_init(&it->barrier, NULL, 1) == 0 && pthread_barrier_wait(&it->barrier) != 0);
  }
  free(it);
}

int main(void) {
  mutexes();
  conditions();
  barriers();
  rwlocks();
  semaphores();
  memory_again();
  printf("objects: passed\n");
  return 0;
}
