/* Threads: how they begin and end, and what they share: globals, the heap, stacks. An ordinary pthreads program. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { kThreads = 9 };

static int table[kThreads] = {1, 1, 1, 1, 1, 1, 1, 1, 1}; /* .data */
static long sum;                                          /* .bss */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread int own = 7;

struct node {
  struct node* next;
  int number;
  char text[40];
};
static struct node* list;

struct work {
  int number;
  int* on_stack; /* of main() */
  pthread_t me;
  const char* name; /* of argv */
};

static void* run(void* argument) {
  struct work* w = argument;
  struct node* n = malloc(sizeof *n);
  CHECK(own == 7);
  own = w->number;
  CHECK(pthread_equal(pthread_self(), w->me) || w->me == 0);
  CHECK(strlen(w->name) > 0);
  table[w->number] += w->number;
  *w->on_stack = w->number * w->number;
  n->number = w->number;
  snprintf(n->text, sizeof n->text, "from thread %d", w->number);
  pthread_mutex_lock(&mutex);
  n->next = list;
  list = n;
  sum += w->number;
  pthread_mutex_unlock(&mutex);
  CHECK(own == w->number);
  errno = w->number;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  CHECK(errno == w->number);
  if (w->number % 2) pthread_exit((void*)(long)(1000 + w->number));
  return (void*)(long)(1000 + w->number);
}

static void many(const char* name) {
  pthread_t threads[kThreads];
  struct work work[kThreads];
  int squares[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    work[i] = (struct work){i, &squares[i], 0, name};
    CHECK(pthread_create(&threads[i], NULL, run, &work[i]) == 0);
  }
  for (int i = 0; i < kThreads; ++i) {
    void* result;
    CHECK(pthread_join(threads[i], &result) == 0);
    CHECK((long)result == 1000 + i);
    CHECK(squares[i] == i * i);
  }
  int count = 0;
  for (struct node *n = list, *next; n; n = next, ++count) {
    char text[40];
    snprintf(text, sizeof text, "from thread %d", n->number);
    CHECK(strcmp(text, n->text) == 0);
    next = n->next;
    free(n);
  }
  list = NULL;
  CHECK(count == kThreads);
}

/* A tree: threads create threads, and hand them what lies on their stacks. */
static void* grow(void* argument) {
  long depth = *(long*)argument;
  if (depth == 0) return (void*)1;
  long below = depth - 1;
  pthread_t left, right;
  void *a, *b;
  CHECK(pthread_create(&left, NULL, grow, &below) == 0);
  CHECK(pthread_create(&right, NULL, grow, &below) == 0);
  CHECK(pthread_join(left, &a) == 0 && pthread_join(right, &b) == 0);
  return (void*)((long)a + (long)b);
}

static pthread_cond_t all_gone = PTHREAD_COND_INITIALIZER;
static int gone;

static void* detached(void* argument) {
  (void)argument;
  pthread_mutex_lock(&mutex);
  if (++gone == 4) pthread_cond_signal(&all_gone);
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static pthread_key_t key;
static int destroyed;
static void destroy(void* value) {
  CHECK(pthread_getspecific(key) == NULL);
  pthread_mutex_lock(&mutex);
  destroyed += *(int*)value;
  pthread_mutex_unlock(&mutex);
  free(value);
}
static void set_value(void* unused) {
  (void)unused;
  int* value = malloc(sizeof *value);
  *value = 5;
  CHECK(pthread_getspecific(key) == NULL);
  CHECK(pthread_setspecific(key, value) == 0);
  CHECK(pthread_getspecific(key) == value);
}

static int cleaned;
static void clean(void* by) {
  pthread_mutex_lock(&mutex);
  cleaned += *(int*)by;
  pthread_mutex_unlock(&mutex);
}
static void* keyed(void* by) {
  set_value(NULL);
  pthread_cleanup_push(clean, by);
  if (*(int*)by == 1) pthread_exit(NULL);
  pthread_cleanup_pop(1);
  return NULL;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int onces;
static void do_once(void) {
  usleep(20000);
  ++onces;
}
static void* once_thread(void* unused) {
  pthread_once(&once, do_once);
  CHECK(onces == 1);
  return unused;
}

static pthread_t main_thread;
static void* last(void* unused) {
  (void)unused;
  CHECK(pthread_join(main_thread, NULL) == 0);
  CHECK(sum == 72);
  printf("threads: passed\n");
  return NULL;
}

int main(int argc, char** argv) {
  (void)argc;
  pthread_t thread, two[2];
  pthread_attr_t attributes;
  void* result;
  many(argv[0]);
  for (int i = 0; i < kThreads; ++i) CHECK(table[i] == 1 + i);
  many("again");
  CHECK(sum == 2 * 36);

  long depth = 3;
  CHECK(pthread_create(&thread, NULL, grow, &depth) == 0);
  CHECK(pthread_join(thread, &result) == 0);
  CHECK((long)result == 8);

  CHECK(pthread_attr_init(&attributes) == 0);
  CHECK(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
  CHECK(pthread_attr_setstacksize(&attributes, 1 << 18) == 0);
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&two[i], &attributes, detached, NULL) == 0);
  CHECK(pthread_join(two[0], NULL) == EINVAL);
  for (int i = 0; i < 2; ++i) {
    CHECK(pthread_create(&thread, NULL, detached, NULL) == 0);
    CHECK(pthread_detach(thread) == 0);
  }
  while (gone < 4) pthread_cond_wait(&all_gone, &mutex);
  pthread_mutex_unlock(&mutex);
  pthread_attr_destroy(&attributes);

  int by[3] = {1, 2, 4};
  pthread_t keys[3];
  CHECK(pthread_key_create(&key, destroy) == 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_create(&keys[i], NULL, keyed, &by[i]) == 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(keys[i], NULL) == 0);
  CHECK(destroyed == 15);
  CHECK(cleaned == 7);
  CHECK(pthread_key_delete(key) == 0);

  for (int i = 0; i < 3; ++i) CHECK(pthread_create(&keys[i], NULL, once_thread, NULL) == 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(keys[i], NULL) == 0);

  struct timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  pthread_mutex_lock(&mutex);
  gone = 0;
  CHECK(pthread_create(&thread, NULL, detached, NULL) == 0);
  CHECK(pthread_timedjoin_np(thread, NULL, &soon) == ETIMEDOUT);
  CHECK(pthread_tryjoin_np(thread, NULL) == EBUSY);
  pthread_mutex_unlock(&mutex);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(pthread_join(pthread_self(), NULL) == EDEADLK);

  /* The process lives as long as a thread does. */
  main_thread = pthread_self();
  CHECK(pthread_create(&thread, NULL, last, NULL) == 0);
  pthread_exit(NULL);
}
