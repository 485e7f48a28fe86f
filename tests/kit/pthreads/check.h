/* A program's own checks: a failed one says where and ends the program. */
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                     \
  do {                                                                  \
    if (!(what)) {                                                      \
      printf("FAILED: %s:%d: %s\n", __FILE__, __LINE__, #what);         \
      fflush(stdout);                                                   \
      exit(1);                                                          \
    }                                                                   \
  } while (0)
