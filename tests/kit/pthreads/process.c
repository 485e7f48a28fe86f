/* What a program changes of its process is changed for the threads of all nodes. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

enum { kThreads = 6 };
static char folder[64];
static pthread_barrier_t together;
static long numbers[kThreads];
static int handled[kThreads], ended;
static pthread_mutex_t ends = PTHREAD_MUTEX_INITIALIZER;
static __thread int index_here = -1;

static void note(int number) {
  (void)number;
  if (index_here >= 0) ++handled[index_here];
}
static void at_end(void) {
  pthread_mutex_lock(&ends);
  ++ended;
  pthread_mutex_unlock(&ends);
}
/* The first that was registered, so the last that runs. */
static void last(void) {
  if (ended == kThreads) {
    printf("process: passed\n");
  } else {
    printf("FAILED: %d handlers of %d have run\n", ended, kThreads);
  }
}

static int blocks(int number) {
  sigset_t set;
  CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0);
  return sigismember(&set, number);
}

static void* look(void* argument) {
  char here[PATH_MAX], value[16];
  const int me = (int)(long)argument;
  int ends_of_pipe[2];
  index_here = me;
  /* What main() set before. */
  CHECK(strcmp(getenv("NETVM_TEST_NAME"), "a value") == 0 && getenv("NETVM_TEST_GONE") == NULL && strcmp(getenv("NETVM_TEST_PUT"), "1") == 0);
  CHECK(getcwd(here, sizeof here) != NULL && strcmp(here, folder) == 0);
  CHECK(umask(027) == 027);
  CHECK(strcmp(setlocale(LC_NUMERIC, NULL), "C.UTF-8") == 0 || strcmp(setlocale(LC_NUMERIC, NULL), "C.utf8") == 0);
  CHECK(blocks(SIGUSR1) && !blocks(SIGUSR2));
  CHECK(pipe(ends_of_pipe) == 0 && close(ends_of_pipe[0]) == 0);
  CHECK(write(ends_of_pipe[1], "x", 1) == -1 && errno == EPIPE && close(ends_of_pipe[1]) == 0);
  CHECK(raise(SIGUSR2) == 0 && handled[me] == 1);
  numbers[me] = random();
  CHECK(atexit(at_end) == 0);
  /* What they set, one after the other, is there for all. */
  for (int turn = 0; turn < kThreads; ++turn) {
    if (turn == me) {
      snprintf(value, sizeof value, "%d", me);
      CHECK(setenv("NETVM_TEST_TURN", value, 1) == 0 && setenv("NETVM_TEST_NAME", "another", 0) == 0);
    }
    pthread_barrier_wait(&together);
    CHECK(atoi(getenv("NETVM_TEST_TURN")) == turn && strcmp(getenv("NETVM_TEST_NAME"), "a value") == 0);
    pthread_barrier_wait(&together);
  }
  return NULL;
}

static void* take_signal(void* set) {
  int number = 0;
  CHECK(kill(getpid(), SIGALRM) == 0); /* to this node's process: no thread of which takes it otherwise */
  usleep(1000);
  CHECK(sigwait(set, &number) == 0 && number == SIGALRM);
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  sigset_t set;
  static char put[] = "NETVM_TEST_PUT=1";
  CHECK(atexit(last) == 0);
  strcpy(folder, "/tmp/netvm_process.XXXXXX");
  CHECK(mkdtemp(folder) != NULL && chdir("/tmp") == 0 && chdir(strrchr(folder, '/') + 1) == 0);
  CHECK(setenv("NETVM_TEST_NAME", "a value", 1) == 0 && setenv("NETVM_TEST_GONE", "x", 1) == 0 && unsetenv("NETVM_TEST_GONE") == 0);
  CHECK(putenv(put) == 0 && setenv("A=B", "", 1) == -1 && errno == EINVAL);
  umask(027);
  CHECK(setlocale(LC_NUMERIC, "C.UTF-8") != NULL);
  CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR && signal(SIGUSR2, note) != SIG_ERR);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGALRM);
  CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  srandom(42);
  CHECK(pthread_barrier_init(&together, NULL, kThreads) == 0);
  for (long i = 0; i < kThreads; ++i) CHECK(pthread_create(&threads[i], NULL, look, (void*)i) == 0);
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < kThreads; ++i) {
    for (int k = 0; k < i; ++k) CHECK(numbers[i] != numbers[k]);
  }
  CHECK(rmdir(folder) == 0);
  /* A signal that main() blocks waits for who takes it. */
  sigdelset(&set, SIGUSR1);
  CHECK(pthread_create(&threads[0], NULL, take_signal, &set) == 0);
  CHECK(pthread_join(threads[0], NULL) == 0);
  return 0;
}
