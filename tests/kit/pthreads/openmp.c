/* OpenMP inside threads of the program: a team stays on the node of the thread that begins it. */
#include <omp.h>
#include <pthread.h>

#include "check.h"

enum { kNumbers = 20000, kThreads = 3 };
static double numbers[kThreads][kNumbers];

static void* sum(void* argument) {
  double *mine = argument, all = 0;
  int team = 0;
#pragma omp parallel num_threads(3)
  {
#pragma omp single
    team = omp_get_num_threads();
#pragma omp for schedule(dynamic, 100) reduction(+ : all)
    for (int i = 0; i < kNumbers; ++i) all += mine[i] = i;
#pragma omp critical
    team += 10;
#pragma omp barrier
#pragma omp for
    for (int i = 0; i < kNumbers; ++i) mine[i] *= 2;
  }
  CHECK(team == 33 && all == kNumbers * (kNumbers - 1.0) / 2);
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_create(&threads[i], NULL, sum, numbers[i]) == 0);
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < kThreads; ++i) CHECK(numbers[i][kNumbers - 1] == 2 * (kNumbers - 1));
  printf("openmp: passed\n");
  return 0;
}
