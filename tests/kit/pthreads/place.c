/* On which nodes threads run: prints the node of each, as the environment of its process says. */
#include <pthread.h>
#include <string.h>

#include "check.h"

static char nodes[8];
static void* run(void* where) {
  const char* node = getenv("NETVM_NODE");
  *(char*)where = node ? node[0] : '0';
  return NULL;
}

int main(void) {
  pthread_t threads[6];
  for (int i = 0; i < 6; ++i) CHECK(pthread_create(&threads[i], NULL, run, &nodes[i]) == 0);
  for (int i = 0; i < 6; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  printf("place: %s\n", nodes);
  return 0;
}
