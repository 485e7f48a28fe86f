/* A program that shares memory of G_MALLOC alone, linked with --private-globals: each node has globals of its own, with the values that they had at
   CREATE (as processes made by fork() would), and locks in them work all the same. */
#include <stdio.h>

MAIN_ENV

struct shared {
  LOCKDEC(lock)
  long id;
  long count;
  long wrong;
} *shared;
LOCKDEC(global_lock)
long P;
long own = 1;

void Work(void) {
  long i, me;
  LOCK(shared->lock)
  me = shared->id++;
  if (own != 2) shared->wrong++;
  UNLOCK(shared->lock)
  own = 100 + me;
  for (i = 0; i < 100; i++) {
    LOCK(global_lock)
    shared->count++;
    if (own != 100 + me) shared->wrong++;
    UNLOCK(global_lock)
  }
}

int main(int argc, char **argv) {
  MAIN_INITENV()
  P = argc > 1 ? atol(argv[1]) : 1; /* one thread a node: threads of one node share its globals */
  own = 2;
  shared = (struct shared *)G_MALLOC(sizeof(struct shared));
  CREATE(Work, P)
  WAIT_FOR_END(P)
  if (shared->count == 100 * P && shared->wrong == 0 && own < 100 + P && own >= 100) printf("private_globals: passed\n");
  MAIN_END
}
