/* Every macro the way Splash-3 uses it: CREATE(f, P) with the caller as one of the threads, shared globals, objects inside shared structures.
   Prints "suite: passed" if every check held. The other half is suite_queue.C. */
#include "suite.h"
#include <stdio.h>
#include <string.h>

MAIN_ENV

#define ROUNDS 20
#define LEVELS 6

typedef struct {
  LOCKDEC(idlock)
  LOCKDEC(sumlock)
  BARDEC(start)
  ALOCKDEC(cells, 7)
  PAUSEDEC(ready[64])
  GSDEC(subscripts)
  long id;
  long sum;
  long counts[7];
  long handed[64];
  long taken[1000];
} Global_t;

typedef struct node {
  struct node *left, *right;
  long key;
  LOCKDEC(lock)
} Node;

Global_t *Global;                    /* a pointer to shared memory in a global */
long P = 1;
static long table[5000];             /* a shared array of plain globals, over several pages */
FILE *out;                           /* a pointer into a library */
Node *root;                          /* set by a thread, read by all: fmm's Grid */
long errors;                         /* under sumlock */
static __thread long mine = 7;       /* thread-local storage stays private */

struct initialised { long (*twice)(long); const char *name; } initialised;

static long twice(long x) { return 2 * x; }

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "thread %ld, %s:%d: %s\n", MyNum, __FILE__, __LINE__, #condition); \
      LOCK(Global->sumlock)                                                          \
      errors++;                                                                      \
      UNLOCK(Global->sumlock)                                                        \
    }                                                                                \
  } while (0)

static void insert(long key) {
  Node *fresh = (Node *)G_MALLOC(sizeof(Node))
  Node **place = &root;
  Node *at;
  fresh->key = key;
  LOCK(Global->sumlock)              /* a growing structure of pointers, one lock at the top */
  for (at = *place; at != NULL; at = *place) place = key < at->key ? &at->left : &at->right;
  *place = fresh;
  UNLOCK(Global->sumlock)
}

static long count_in_order(Node *at, long *last) {
  long n;
  if (at == NULL) return 0;
  n = count_in_order(at->left, last);
  if (at->key < *last) return -1000000;
  *last = at->key;
  return n + 1 + count_in_order(at->right, last);
}

void SlaveStart(void) {
  long MyNum, i, round, last;
  LOCK(Global->idlock)
  MyNum = Global->id;
  Global->id++;
  UNLOCK(Global->idlock)
  mine = MyNum;

  CHECK(initialised.twice(21) == 42);
  CHECK(strcmp(initialised.name, "initialised") == 0);
  CHECK(table[4999] == 4999);

  for (round = 0; round < ROUNDS; round++) { /* locks in an array, contended */
    ALOCK(Global->cells, round % 7)
    Global->counts[round % 7]++;
    AULOCK(Global->cells, round % 7)
  }
  BARRIER(Global->start, P)
  for (i = 0, last = 0; i < 7; i++) last += Global->counts[i];
  CHECK(last == ROUNDS * P);

  for (round = 0; round < ROUNDS; round++) { /* everybody writes its part of a shared global; false sharing of its pages */
    for (i = MyNum; i < 5000; i += P) table[i] = round * 10000 + i;
    BARRIER(Global->start, P)
    i = (MyNum * 977 + round) % 5000;
    CHECK(table[i] == round * 10000 + i);
    BARRIER(Global->start, P)
  }

  if (MyNum == 0) { /* a chain of pauses */
    Global->handed[0] = 1000;
    SETPAUSE(Global->ready[0])
  } else {
    WAITPAUSE(Global->ready[MyNum - 1])
    CLEARPAUSE(Global->ready[MyNum - 1])
    Global->handed[MyNum] = Global->handed[MyNum - 1] + 1;
    SETPAUSE(Global->ready[MyNum])
  }
  BARRIER(Global->start, P)
  CHECK(Global->handed[P - 1] == 1000 + P - 1);

  for (round = 0; round < 2; round++) { /* self-scheduled subscripts, twice */
    GETSUB(Global->subscripts, i, 499, P)
    while (i >= 0) {
      Global->taken[round * 500 + i] += 1;
      GETSUB(Global->subscripts, i, 499, P)
    }
  }
  for (i = 0, last = 0; i < 1000; i++) last += Global->taken[i] == 1;
  CHECK(last == 1000);
  BARRIER(Global->start, P)

  BARINCLUDE(Global->start)
  for (i = 0; i < 40; i++) insert((MyNum * 7919 + i * 104729) % 10007);
  BARRIER(Global->start, P)
  last = -1;
  CHECK(count_in_order(root, &last) == 40 * P);

  queue_part(MyNum, P);
  RELEASE_FENCE()
  ACQUIRE_FENCE()
  FULL_FENCE()
  CHECK(mine == MyNum);
  BAREXCLUDE(Global->start)
  fprintf(out, "thread %ld was here\n", MyNum);
  BARRIER(Global->start, P)
}

int main(int argc, char **argv) {
  unsigned long begin, end;
  long i, MyNum = 0;
  char *scratch;
  Global = (Global_t *)G_MALLOC(sizeof(Global_t)) /* before MAIN_INITENV, as barnes does */
  if (argc > 1) P = atoi(argv[1]);
  out = stdout;
  MAIN_INITENV(, 60000000)
  CLOCK(begin)
  LOCKINIT(Global->idlock)
  LOCKINIT(Global->sumlock)
  ALOCKINIT(Global->cells, 7)
  BARINIT(Global->start, P)
  for (i = 0; i < 64; i++) PAUSEINIT(Global->ready[i])
  GSINIT(Global->subscripts)
  for (i = 0; i < 5000; i++) table[i] = i;
  initialised.twice = twice;
  initialised.name = "initialised";
  scratch = (char *)NU_MALLOC(100000, 1)
  CHECK(scratch != NULL && scratch[99999] == 0);
  G_FREE(scratch)
  queue_init(P);
  SPLASH3_ROI_BEGIN()
  CREATE(SlaveStart, P)
  WAIT_FOR_END(P)
  SPLASH3_ROI_END()
  CLOCK(end)
  CHECK(end >= begin);
  CHECK(Global->id == P);
  printf(errors == 0 ? "suite: passed\n" : "suite: FAILED\n");
  MAIN_END
}
