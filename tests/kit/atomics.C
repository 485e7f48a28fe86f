/* Splash-4's atomic operations, and its way of calling m4 (-P). */
#include <stdio.h>

MAIN_ENV

static long P;
struct shared {
  BARDEC(start)
  _Atomic long id;
  _Atomic uint64_t counter;
  _Atomic int turn;
  double total;
  long owner[2000];
} *gl;

void Work(void) {
  long me = FETCH_ADD(gl->id, 1)
  long i;
  int seen;
  BARRIER(gl->start, P)
  for (i = 0; i < 200; i++) {
    uint64_t mine = FETCH_ADD(gl->counter, 1)
    gl->owner[mine] = me + 1;
    FETCH_ADD_DOUBLE(&(gl->total), 0.5)
  }
  do { /* everybody in turn */
    seen = (int)me;
  } while (!CAS(gl->turn, seen, (int)me + 1));
  if (LOAD(gl->turn) <= me) STORE(gl->turn, -1000);
  FETCH_SUB(gl->id, 1)
  BARRIER(gl->start, P)
}

int main(int argc, char **argv) {
  long i, missing = 0;
  P = argc > 1 ? atol(argv[1]) : 1;
  MAIN_INITENV();
  gl = (struct shared *)G_MALLOC(sizeof(struct shared));
  BARINIT(gl->start, P);
  SPLASH4_ROI_BEGIN();
  CREATE(Work, P);
  WAIT_FOR_END(P);
  SPLASH4_ROI_END();
  for (i = 0; i < 200 * P; i++) missing += gl->owner[i] == 0;
  if (missing == 0 && gl->counter == 200 * (uint64_t)P && gl->total == 100.0 * P && gl->turn == P && gl->id == 0) printf("atomics: passed\n");
  MAIN_END;
}
