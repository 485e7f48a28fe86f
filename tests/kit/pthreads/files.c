/* Files, memory and signals of a program with threads: what docs/porting.md says that works. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { kBytes = 300000 };
static char name[64];
static char* expected;
extern char** environ;

static void fill(char* to, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = (char)(i * 7 % 251);
}

/* Each way to read a file, into memory that nobody has touched, on whatever node this runs. */
static void* read_it(void* unused) {
  char *heap = malloc(kBytes), *line = NULL, text[100], deep[20000];
  size_t size = 0;
  struct stat facts;
  int fd = open(name, O_RDONLY);
  CHECK(fd >= 0 && fstat(fd, &facts) == 0 && facts.st_size == kBytes);
  for (size_t done = 0; done < kBytes;) {
    const ssize_t got = read(fd, heap + done, kBytes - done);
    CHECK(got > 0);
    done += (size_t)got;
  }
  CHECK(memcmp(heap, expected, kBytes) == 0);
  CHECK(pread(fd, deep, sizeof deep, 1000) == sizeof deep && memcmp(deep, expected + 1000, sizeof deep) == 0);
  free(heap);

  char* mapped = mmap(NULL, kBytes, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK(mapped != MAP_FAILED && memcmp(mapped, expected, kBytes) == 0);
  CHECK(munmap(mapped, kBytes) == 0);
  close(fd);

  FILE* file = fopen(name, "rb");
  heap = malloc(kBytes);
  CHECK(file != NULL && fread(heap, 1, kBytes, file) == kBytes && memcmp(heap, expected, kBytes) == 0);
  CHECK(fread(heap, 1, 1, file) == 0 && feof(file));
  fclose(file);
  free(heap);

  file = popen("echo one line; echo another", "r");
  CHECK(file != NULL && getline(&line, &size, file) == 9 && strcmp(line, "one line\n") == 0);
  CHECK(fgets(text, sizeof text, file) != NULL && strcmp(text, "another\n") == 0);
  CHECK(pclose(file) == 0);
  free(line);
  return unused;
}

/* Each way to open a FILE: it works on the node that opens it, and what it took is given back. */
static void* open_it(void* unused) {
  for (int round = 0; round < 20; ++round) {
    char *text = NULL, got[8];
    size_t bytes = 0;
    FILE* file = open_memstream(&text, &bytes);
    CHECK(file != NULL && fprintf(file, "%d and %s", round, "more") > 0 && fclose(file) == 0 && strstr(text, " and more") != NULL);
    file = fmemopen(text, bytes, "r");
    CHECK(file != NULL && fscanf(file, "%*d %7s", got) == 1 && strcmp(got, "and") == 0 && fclose(file) == 0);
    free(text);
    file = tmpfile();
    CHECK(file != NULL && fputs("abc", file) >= 0 && fputc('d', file) == 'd' && fseek(file, 1, SEEK_SET) == 0);
    CHECK(fgets(got, sizeof got, file) != NULL && strcmp(got, "bcd") == 0 && feof(file) && !ferror(file) && fclose(file) == 0);
    file = fdopen(open("/dev/null", O_WRONLY), "w");
    CHECK(file != NULL && setvbuf(file, NULL, _IOLBF, BUFSIZ) == 0 && fprintf(file, "x\n") == 2);
    CHECK((file = freopen(name, "r", file)) != NULL && fgetc(file) == expected[0] && ungetc('y', file) == 'y' && getc(file) == 'y');
    CHECK(fclose(file) == 0);
  }
  return unused;
}

/* A descriptor that one thread opens means the same open file to all, and ends for all. */
enum { kTurns = 6 };
struct turn {
  int number, log, pipe[2], opened, socket[2];
};

static void* take_turn(void* argument) {
  struct turn* turn = argument;
  char line[16], byte;
  struct stat facts;
  snprintf(line, sizeof line, "turn %10d", turn->number);
  CHECK(write(turn->log, line, 15) == 15 && lseek(turn->log, 0, SEEK_CUR) == 15 * (turn->number + 1)); /* one position for all */
  CHECK(write(turn->pipe[1], line, 15) == 15 && send(turn->socket[1], line, 15, 0) == 15);
  CHECK(fstat(turn->log, &facts) == 0 && facts.st_size == 15 * (turn->number + 1) && S_ISREG(facts.st_mode));
  if (turn->number > 0) { /* what the thread before opened; its position is behind what it has read */
    struct pollfd ready = {turn->opened, POLLIN, 0};
    CHECK(poll(&ready, 1, -1) == 1 && (ready.revents & POLLIN) != 0);
    CHECK(read(turn->opened, &byte, 1) == 1 && byte == expected[1] && close(turn->opened) == 0);
    CHECK(read(turn->opened, &byte, 1) == -1 && errno == EBADF && close(turn->opened) == -1 && errno == EBADF);
  }
  turn->opened = open(name, O_RDONLY);
  CHECK(turn->opened > 2 && read(turn->opened, &byte, 1) == 1 && byte == expected[0]);
  return NULL;
}

static void* expect_end(void* argument) {
  struct turn* turn = argument;
  char line[16];
  for (int i = 0; i < kTurns; ++i) CHECK(read(turn->pipe[0], line, 15) == 15 && atoi(line + 5) == i);
  CHECK(read(turn->pipe[0], line, 15) == 0); /* all ends for writing are closed */
  return NULL;
}

/* The end of a FILE over another node's descriptor, and of a command's, is the end for all. */
static void* write_and_end(void* end) {
  FILE* file = fdopen(*(int*)end, "w");
  CHECK(file != NULL && fputs("from a FILE", file) >= 0 && fclose(file) == 0);
  return NULL;
}
static void* write_to_command(void* end) {
  CHECK(write(*(int*)end, "to a command", 12) == 12);
  return NULL;
}
static void end_files(void) {
  char text[16];
  int ends[2];
  pthread_t thread;
  for (int i = 0; i < kTurns; ++i) {
    CHECK(pipe(ends) == 0 && pthread_create(&thread, NULL, write_and_end, &ends[1]) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(read(ends[0], text, sizeof text) == 11 && read(ends[0], text, sizeof text) == 0 && close(ends[0]) == 0);
    FILE* command = popen("cat > /dev/null", "w");
    CHECK(command != NULL);
    ends[1] = fileno(command);
    CHECK(pthread_create(&thread, NULL, write_to_command, &ends[1]) == 0 && pthread_join(thread, NULL) == 0 && pclose(command) == 0);
  }
}

static void share_descriptors(void) {
  char log[80], line[16];
  struct turn turn = {0};
  pthread_t thread, reader;
  snprintf(log, sizeof log, "%s.log", name);
  turn.log = open(log, O_CREAT | O_RDWR | O_TRUNC, 0600);
  CHECK(turn.log > 2 && pipe(turn.pipe) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, turn.socket) == 0);
  for (turn.number = 0; turn.number < kTurns; ++turn.number) {
    CHECK(pthread_create(&thread, NULL, take_turn, &turn) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(recv(turn.socket[0], line, 15, 0) == 15);
  }
  CHECK(pthread_create(&reader, NULL, expect_end, &turn) == 0);
  CHECK(close(turn.pipe[1]) == 0 && pthread_join(reader, NULL) == 0);
  CHECK(lseek(turn.log, 0, SEEK_SET) == 0);
  for (int i = 0; i < kTurns; ++i) CHECK(read(turn.log, line, 15) == 15 && atoi(line + 5) == i);
  const int copy = dup(turn.log), again = fcntl(turn.log, F_DUPFD, 0);
  CHECK(copy > 2 && again > 2 && copy != again && dup2(turn.socket[0], copy) == copy && send(turn.socket[1], "x", 1, 0) == 1);
  CHECK(recv(copy, line, 1, 0) == 1 && line[0] == 'x' && close(copy) == 0 && close(again) == 0);
  close(turn.log), close(turn.pipe[0]), close(turn.socket[0]), close(turn.socket[1]), close(turn.opened);
  for (int fd = 3; fd < 40; ++fd) close(fd); /* as daemons do: what is not the program's stays */
  CHECK(unlink(log) == 0);
}

/* Messages and vectors in memory that nobody has touched, or that the other node had last. */
static void* pass_message(void* argument) {
  const int fd = *(int*)argument;
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  struct msghdr* message = calloc(1, sizeof *message);
  struct iovec* parts = calloc(2, sizeof *parts);
  for (int i = 0; i < 2; ++i) parts[i] = (struct iovec){malloc(1 << 16), 100};
  message->msg_iov = parts;
  message->msg_iovlen = 2;
  CHECK(send(ends[0], expected, 200, 0) == 200 && recvmsg(ends[1], message, 0) == 200);
  CHECK(memcmp(parts[0].iov_base, expected, 100) == 0 && memcmp(parts[1].iov_base, expected + 100, 100) == 0);
  CHECK(sendmsg(ends[1], message, 0) == 200 && recv(ends[0], parts[0].iov_base, 200, 0) == 200);
  CHECK(preadv(fd, parts, 2, 50) == 200 && memcmp(parts[1].iov_base, expected + 150, 100) == 0);
  parts[0].iov_base = (void*)8;
  CHECK(recvmsg(ends[1], message, MSG_DONTWAIT) == -1 && (errno == EFAULT || errno == EAGAIN));
  CHECK(readv(fd, parts, 2) == -1 && errno == EFAULT); /* and not for ever, though one part could be had */
  close(ends[0]), close(ends[1]);
  return NULL;
}

/* A mapping that main() made is everybody's. */
static void* use_mapping(void* mapping) {
  char* bytes = mapping;
  CHECK(memcmp(bytes + 11, expected + 11, kBytes - 11) == 0);
  bytes[10] = 'x';
  return NULL;
}

static int ascending(const void* a, const void* b) {
  const int x = *(const int*)a, y = *(const int*)b;
  return (x > y) - (x < y);
}
static void* sort(void* argument) {
  int* numbers = argument;
  qsort(numbers, 5000, sizeof *numbers, ascending);
  for (int i = 0; i < 5000; ++i) CHECK(numbers[i] == i);
  memmove(numbers + 1, numbers, 4999 * sizeof *numbers);
  CHECK(numbers[4999] == 4998);
  return NULL;
}

static volatile sig_atomic_t signals;
static void on_signal(int number) { signals += number == SIGUSR1; }
static void* signalled(void* unused) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  const int before = signals;
  CHECK(raise(SIGUSR1) == 0 && signals == before + 1);
  CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0 && signals == before + 2);
  return unused;
}

static void* strings(void* out) {
  char *made, **words = out;
  words[0] = strdup("duplicated");
  CHECK(asprintf(&made, "%s %d", "formatted", 42) == 12);
  words[1] = made;
  words[2] = getcwd(NULL, 0);
  words[3] = getenv("NETVM_TEST_WORD") ? getenv("NETVM_TEST_WORD") : "unset";
  words[4] = realpath(name, NULL);
  return NULL;
}

static void* write_it(void* unused) {
  FILE* file = fopen(name, "r+b");
  CHECK(file != NULL && fwrite(expected, 1, kBytes, file) == kBytes && fclose(file) == 0);
  int ends[2], pair[2];
  char back[6], *fresh = malloc(100000);
  CHECK(pipe(ends) == 0 && write(ends[1], "hello", 6) == 6 && read(ends[0], back, 6) == 6 && strcmp(back, "hello") == 0);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && send(pair[0], "hallo", 6, 0) == 6);
  CHECK(recv(pair[1], fresh + 50000, 6, 0) == 6 && strcmp(fresh + 50000, "hallo") == 0);
  for (int i = 0; i < 2; ++i) close(ends[i]), close(pair[i]);
  free(fresh);
  return unused;
}

static void on_two(void* (*f)(void*), void* argument) {
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) {
    CHECK(pthread_create(&threads[i], NULL, f, argument) == 0);
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
}

/// What a call that waits tells us lies in a page that another node writes meanwhile.
struct Wanted {
  pthread_mutex_t lock;
  int status, writes, over;
};

static void* write_beside(void* argument) {
  struct Wanted* wanted = argument;
  for (int over = 0; !over;) {
    CHECK(pthread_mutex_lock(&wanted->lock) == 0);
    ++wanted->writes;
    over = wanted->over;
    CHECK(pthread_mutex_unlock(&wanted->lock) == 0);
  }
  return NULL;
}

static void wait_for_children(void) {
  struct Wanted* wanted = calloc(1, sizeof *wanted);
  pthread_t threads[2];
  CHECK(pthread_mutex_init(&wanted->lock, NULL) == 0);
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, write_beside, wanted) == 0);
  for (int round = 0; round < 3; ++round) {
    char* arguments[] = {"sh", "-c", "sleep 0.1; exit 3", NULL};
    pid_t child;
    CHECK(posix_spawnp(&child, "sh", NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &wanted->status, 0) == child && WEXITSTATUS(wanted->status) == 3);
    CHECK(waitpid(child, &wanted->status, 0) == -1 && errno == ECHILD);
  }
  CHECK(pthread_mutex_lock(&wanted->lock) == 0);
  wanted->over = 1;
  CHECK(pthread_mutex_unlock(&wanted->lock) == 0);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(pthread_mutex_destroy(&wanted->lock) == 0);
  free(wanted);
}

static void others(void) {
  int* numbers = malloc(5000 * sizeof *numbers);
  pthread_t thread;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 5000; ++i) numbers[i] = (i * 1237) % 5000;
    CHECK(pthread_create(&thread, NULL, sort, numbers) == 0 && pthread_join(thread, NULL) == 0);
  }
  free(numbers);
  char* words[5] = {0};
  for (int round = 0; round < 2; ++round) {
    CHECK(pthread_create(&thread, NULL, strings, words) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(strcmp(words[0], "duplicated") == 0 && strcmp(words[1], "formatted 42") == 0 && words[2][0] == '/');
    CHECK(strlen(words[3]) > 0 && strcmp(words[4], name) == 0);
    free(words[4]);
    free(words[0]);
    free(words[1]);
    free(words[2]);
  }
  wait_for_children();
  CHECK(WEXITSTATUS(system("exit 4")) == 4);
}

int main(void) {
  expected = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(expected != MAP_FAILED);
  fill(expected, kBytes);
  snprintf(name, sizeof name, "/tmp/netvm_files.%d.data", (int)getpid());
  int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
  CHECK(fd >= 0 && write(fd, expected, kBytes) == kBytes);
  on_two(read_it, NULL);
  on_two(write_it, NULL);
  on_two(open_it, NULL);
  share_descriptors();
  end_files();
  fd = open(name, O_RDONLY);
  char* mapped = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(mapped != MAP_FAILED);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, use_mapping, mapped) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(mapped[10] == 'x');
  mapped[10] = expected[10];
  on_two(use_mapping, memcpy(malloc(kBytes), mapped, kBytes));
  char byte;
  CHECK(pread(fd, &byte, 1, 10) == 1 && byte == expected[10]); /* the file has not changed */
  on_two(pass_message, &fd);
  on_two(signalled, NULL);
  others();
  close(fd);
  CHECK(unlink(name) == 0);
  printf("files: passed\n");
  return 0;
}
