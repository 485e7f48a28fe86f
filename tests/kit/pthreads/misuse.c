/* What cannot work, one after the other: a sentence must name the call and say what to do. And how a program may end. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static const char* what;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int is(const char* name) { return strcmp(what, name) == 0; }

static void at_exit(void) { printf("the program's handler\n"); }
static long deep(long n) {
  volatile char frame[4096];
  frame[0] = (char)n;
  return n < 0 ? 0 : deep(n + 1) + frame[0];
}

static FILE* file;
static volatile long* flag;
static char* large;

static void* run(void* argument) {
  char* volatile block = argument, * volatile same = argument;
  if (is("unlock")) pthread_mutex_unlock(&mutex);
  if (is("null")) *(volatile int*)0 = 1;
  if (is("beyond")) ((volatile char*)large)[600 << 20] = 1; /* the heap does not reach as far */
  if (is("spin")) {
    while (flag[1] == 0) continue;
  }
  if (is("overflow")) return (void*)deep(0);
  if (is("twice")) {
    free(block);
    free(same);
  }
  if (is("exit")) exit(7);
  if (is("exit0")) exit(0);
  if (is("fork")) fork();
  if (is("handler")) signal(SIGSEGV, SIG_DFL);
  if (is("fprintf")) fprintf(file, "%p\n", argument);
  if (is("fgets")) CHECK(fgets((char[8]){0}, 8, file) == NULL);
  if (is("fclose")) fclose(file);
  if (is("inlined")) putc_unlocked('x', file);
  if (is("getchar")) getchar();
  if (is("scanf")) CHECK(scanf("%*d") != 5);
  if (is("stdin")) {
    char word[8] = {0};
    CHECK(read(0, word, 4) > 0);
    fprintf(stderr, "has read %s\n", word);
  }
  if (is("dup2")) dup2(1, 3);
  if (is("own file")) {
    FILE* mine = fopen("/dev/null", "w");
    CHECK(fprintf(mine, "%p\n", argument) > 0 && fclose(mine) == 0);
    fprintf(stdout, "stdout of all\n");
    fprintf(stderr, "stderr of all\n");
  }
  if (is("cancel") || is("kill") || is("sleep")) pause();
  return NULL;
}

static volatile sig_atomic_t ends_here; /* one for all nodes */
static void note_end(int number) {
  (void)number;
  ends_here = 1;
}
static void* until_end(void* unused) {
  while (!ends_here) usleep(10000);
  return unused;
}

static void* stay(void* unused) {
  pthread_mutex_lock(&mutex);
  return unused;
}

int main(int argc, char** argv) {
  pthread_t thread, second;
  what = argc > 1 ? argv[1] : "";
  atexit(at_exit);
  file = fopen("/dev/null", is("fgets") ? "r" : "w");
  if (is("many")) {
    pthread_attr_t small;
    int made = 0, error = 0;
    pthread_mutex_lock(&mutex);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    while (made < 5000 && (error = pthread_create(&thread, &small, stay, NULL)) == 0) ++made;
    printf("made %d, then %s\n", made, strerror(error));
    return 0;
  }
  if (is("stack")) { /* on node 0, then on node 1: what cannot be had is an error that the program sees, and the next thread is none the worse */
    pthread_attr_t huge;
    pthread_attr_init(&huge);
    CHECK(pthread_attr_setstacksize(&huge, (size_t)1 << 40) == 0);
    for (int i = 0; i < 4; ++i) CHECK(pthread_create(&thread, &huge, stay, NULL) == EAGAIN);
    for (int i = 0; i < 4; ++i) CHECK(pthread_create(&thread, NULL, stay, NULL) == 0 && pthread_detach(thread) == 0);
    printf("all got EAGAIN\n");
    return 0;
  }
  if (is("interrupted")) { /* by a signal that it handles: it ends in good order, threads of the other node too */
    CHECK(signal(SIGTERM, note_end) != SIG_ERR);
    CHECK(pthread_create(&thread, NULL, until_end, NULL) == 0 && pthread_create(&second, NULL, until_end, NULL) == 0);
    printf("is ready\n");
    pthread_join(thread, NULL);
    pthread_join(second, NULL);
    printf("has saved\n");
    return 0;
  }
  if (is("spin")) flag = calloc(5, sizeof(long));
  if (is("beyond")) large = malloc(1 << 20);
  pthread_mutex_lock(&mutex);
  if (!is("cancel") && !is("kill")) { /* on node 0, the next on node 1 */
    CHECK(pthread_create(&second, NULL, run, malloc(10)) == 0);
    pthread_join(second, NULL);
    CHECK(pthread_join(second, NULL) == ESRCH);
  }
  CHECK(pthread_create(&thread, NULL, run, malloc(10)) == 0); /* on node 1 */
  if (is("again")) pthread_mutex_lock(&mutex);
  if (is("cancel")) pthread_cancel(thread);
  if (is("kill")) pthread_kill(thread, SIGUSR1);
  pthread_join(thread, NULL);
  return is("status") ? 5 : 0;
}
