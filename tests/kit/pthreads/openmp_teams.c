/* OpenMP's constructs by one team: with libgomp it stays on a node, with netvm-cc --spread-openmp it has threads of all of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <omp.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { kNumbers = 3000, kTeam = 4 };
static double numbers[kNumbers];
static int mine;
#pragma omp threadprivate(mine)

static long fibonacci(int n) {
  long x, y;
  if (n < 2) return n;
#pragma omp task shared(x)
  x = fibonacci(n - 1);
#pragma omp task shared(y)
  y = fibonacci(n - 2);
#pragma omp taskwait
  return x + y;
}

static void loops(void) {
  double sum = 0;
  int in_order = 0;
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int i = 0; i < kNumbers; ++i) numbers[i] = i;
#pragma omp for schedule(dynamic, 70) reduction(+ : sum)
    for (int i = 0; i < kNumbers; ++i) sum += numbers[i];
#pragma omp for schedule(guided, 10)
    for (int i = kNumbers - 1; i >= 0; i -= 3) numbers[i] *= 2;
#pragma omp for schedule(runtime) nowait
    for (int i = 0; i < kNumbers; ++i) mine += i % 2;
#pragma omp for schedule(static, 7)
    for (int i = 0; i < kNumbers; ++i) numbers[i] += 1;
#pragma omp for ordered schedule(dynamic, 3)
    for (int i = 0; i < 50; ++i) {
      if (i % 5 != 0) {
#pragma omp ordered
        {
          CHECK(in_order < i);
          in_order = i;
        }
      }
    }
  }
  CHECK(sum == kNumbers * (kNumbers - 1.0) / 2 && in_order == 49);
  for (int i = 0; i < kNumbers; ++i) CHECK(numbers[i] == (i % 3 == (kNumbers - 1) % 3 ? 2.0 * i : i) + 1);
#pragma omp parallel for collapse(2) schedule(dynamic, 100)
  for (int i = 0; i < 50; ++i) {
    for (int j = 0; j < 60; ++j) numbers[i * 60 + j] = i + j;
  }
  for (int i = 0; i < kNumbers; ++i) CHECK(numbers[i] == i / 60 + i % 60);
#pragma omp parallel for schedule(dynamic)
  for (int i = 5; i < 5; ++i) abort(); /* no iterations */
}

static void blocks(void) {
  int once = 0, parts = 0, copied = 0, critical = 0, named = 0, locked = 0, counted = 0;
  omp_lock_t lock;
  omp_nest_lock_t nested;
  omp_init_lock(&lock);
  omp_init_nest_lock(&nested);
#pragma omp parallel
  {
    int own = 0;
#pragma omp single
    ++once;
#pragma omp single copyprivate(own)
    own = 7;
#pragma omp critical
    critical += own;
#pragma omp critical(named)
    named += own;
#pragma omp atomic
    copied += own;
    omp_set_lock(&lock);
    locked += own;
    omp_unset_lock(&lock);
    omp_set_nest_lock(&nested);
    omp_set_nest_lock(&nested);
    ++counted;
    omp_unset_nest_lock(&nested);
    omp_unset_nest_lock(&nested);
#pragma omp barrier
#pragma omp master
    CHECK(counted == kTeam && copied == kTeam * 7 && critical == copied && named == copied && locked == copied);
#pragma omp sections
    {
#pragma omp section
#pragma omp atomic
      parts += 1;
#pragma omp section
#pragma omp atomic
      parts += 10;
#pragma omp section
#pragma omp atomic
      parts += 100;
    }
    for (int i = 0; i < 40; ++i) { /* a thread may be far ahead of another */
#pragma omp single nowait
#pragma omp atomic
      ++once;
    }
  }
  CHECK(once == 41 && parts == 111);
#pragma omp parallel sections num_threads(3)
  {
#pragma omp section
    parts = omp_get_num_threads();
  }
  CHECK(parts == 3);
  omp_destroy_lock(&lock);
  omp_destroy_nest_lock(&nested);
}

int main(void) {
  pid_t nodes[kTeam] = {0};
  int different = 0;
  long result = 0;
  const char* job = getenv("NETVM_NODES");
  omp_set_num_threads(kTeam);
  loops();
  blocks();
#pragma omp parallel
#pragma omp single
  result = fibonacci(10);
  CHECK(result == 55);
#pragma omp parallel
#pragma omp single
#pragma omp taskloop
  for (int i = 0; i < kNumbers; ++i) numbers[i] = 1;
  CHECK(numbers[0] + numbers[kNumbers - 1] == 2 && omp_get_num_threads() == 1 && !omp_in_parallel());
#pragma omp parallel
  {
    nodes[omp_get_thread_num()] = getpid();
#pragma omp parallel num_threads(2)
    CHECK(omp_get_num_threads() <= 2);
  }
  for (int i = 0; i < kTeam; ++i) {
    int seen = 0;
    for (int j = 0; j < i; ++j) seen |= nodes[j] == nodes[i];
    different += !seen;
  }
  CHECK(different == (strcmp(program_invocation_short_name, "openmp_spread") == 0 && job ? atoi(job) : 1));
  printf("%s: passed\n", program_invocation_short_name);
  return 0;
}
