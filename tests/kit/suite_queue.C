/* The other half of suite.C: condition variables with locks of an array, declared before EXTERN_ENV as fmm does, a task queue, a lock for each task. */
typedef struct task {
  CONDVARDEC(done_cv)
  LOCKDEC(lock)
  long state;
  long owner;
  struct task *next;
} Task;

EXTERN_ENV

#include "suite.h"
#include <stdio.h>

#define TASKS 60

static struct {
  ALOCKDEC(locks, 3)
  CONDVARDEC(more)
  BARDEC(end)
  Task *first;
  long open;
  long done;
} *queue;

static Task *tasks[TASKS];

void queue_init(long p) {
  long i;
  queue = G_MALLOC(sizeof(*queue))
  ALOCKINIT(queue->locks, 3)
  CONDVARINIT(queue->more)
  if (p < 1) exit(2);
  BARINIT(queue->end, p)
  for (i = 0; i < TASKS; i++) {
    tasks[i] = (Task *)G_MALLOC(sizeof(Task)) /* its objects are never initialised: zeroed ones are fresh */
  }
  queue->open = 1;
}

void queue_part(long me, long p) {
  long i;
  Task *task;
  if (me == 0) { /* the producer */
    for (i = 0; i < TASKS; i++) {
      ALOCK(queue->locks, 1)
      tasks[i]->next = queue->first;
      queue->first = tasks[i];
      CONDVARSIGNAL(queue->more)
      AULOCK(queue->locks, 1)
    }
    ALOCK(queue->locks, 1)
    queue->open = 0;
    CONDVARBCAST(queue->more)
    AULOCK(queue->locks, 1)
  }
  if (me != 0 || p == 1) {
    for (;;) {
      ALOCK(queue->locks, 1)
      while (queue->first == NULL && queue->open) CONDVARWAIT(queue->more, AGETL(queue->locks, 1))
      task = queue->first;
      if (task != NULL) queue->first = task->next;
      AULOCK(queue->locks, 1)
      if (task == NULL) break;
      LOCK(task->lock)
      task->state = 1;
      task->owner = me;
      CONDVARBCAST(task->done_cv)
      UNLOCK(task->lock)
      ALOCK(queue->locks, 2)
      queue->done++;
      AULOCK(queue->locks, 2)
    }
  }
  for (i = me; i < TASKS; i += p) { /* everybody waits for some tasks, whoever does them */
    LOCK(tasks[i]->lock)
    while (tasks[i]->state == 0) CONDVARWAIT(tasks[i]->done_cv, tasks[i]->lock)
    UNLOCK(tasks[i]->lock)
  }
  BARRIER(queue->end, p)
  if (queue->done != TASKS) {
    fprintf(stderr, "thread %ld: %ld of %d tasks were done\n", me, queue->done, TASKS);
    exit(3);
  }
}
