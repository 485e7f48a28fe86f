/* What cannot work, one after the other: the job must end with a sentence that names the macro and says what to do. */
#include <stdio.h>
#include <string.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

MAIN_ENV

static const char *what;
static long P = 2;
struct shared {
  LOCKDEC(lock)
  BARDEC(bar)
  long numbers[1000];
} *shared;
long *small;
volatile long done; /* nobody should spin on a plain variable */

static int is(const char *name) { return strcmp(what, name) == 0; }

static long deep(long n) {
  volatile char frame[4096];
  frame[0] = (char)n;
  return n < 0 ? 0 : deep(n + 1) + frame[0];
}

void Work(void) {
  int last;
  LOCK(shared->lock)
  last = ++shared->numbers[0] == P;
  UNLOCK(shared->lock)
  BARRIER(shared->bar, P)
  if (!last) {
    BARRIER(shared->bar, P)
    if (is("spin")) {
      while (!done) continue;
    }
    return;
  }
  if (is("spin")) {
    sleep(1); /* the other one waits at the barrier by now, and then spins */
    BARRIER(shared->bar, P)
    sleep(1);
    done = 1;
    return;
  }
  if (is("null")) *(volatile long *)0 = 1;
  if (is("overflow")) shared->numbers[1] = deep(0);
  if (is("beyond")) ((volatile char *)small)[3 * 1048576] = 1;
  if (is("divide")) shared->numbers[1] = shared->numbers[2] / shared->numbers[3];
  if (is("exit")) exit(0);
  if (is("status")) exit(9);
  if (is("create") && strcmp(getenv("NETVM_NODE"), "1") == 0) CREATE(Work, 3)
  BARRIER(shared->bar, P)
}

int main(int argc, char **argv) {
  LOCKDEC(on_stack)
  what = argc > 1 ? argv[1] : "";
  MAIN_INITENV()
  shared = (struct shared *)G_MALLOC(sizeof(struct shared));
  small = (long *)G_MALLOC(1048576);
  if (is("stack")) LOCK(on_stack)
  if (is("overflow main")) small[0] = deep(0);
  if (is("twice")) {
    LOCK(shared->lock)
    LOCK(shared->lock)
  }
  if (is("unlock")) UNLOCK(shared->lock)
  if (is("fork")) fork();
  if (is("exec")) execl("/bin/true", "true", (char *)0);
  if (is("shmget")) shmget(IPC_PRIVATE, 4096, 0600);
  if (is("shmat")) shmat(0, NULL, 0);
  if (is("execv")) execv("/bin/true", argv);
  if (is("huge")) shared = (struct shared *)G_MALLOC((size_t)1 << 45);
  if (is("free")) G_FREE(&shared->numbers[3]);
  if (is("barrier")) BARRIER(shared->bar, 3)
  if (is("wait")) WAIT_FOR_END(5)
  if (is("many")) CREATE(Work, 100000)
  if (is("system")) {
    if (system("echo from another program") != 0) return 1;
    MAIN_END
  }
  CREATE(Work, P)
  WAIT_FOR_END(P)
  printf(is("spin") ? "misuse: the spin has ended\n" : "misuse: nothing happened\n");
  MAIN_END
}
