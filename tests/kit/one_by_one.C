/* The way SPLASH-2 does it: threads created one by one, old-style functions, input read into shared globals, a sparse heap. */
#include <stdio.h>
#include <string.h>

MAIN_ENV

#define MILLION 1048576

char line[200];
char block[70000];
long numbers[10];
int P;
struct shared {
  LOCKDEC(lock)
  BARDEC(bar)
  long next;
  double total;
} *shared;
char *huge; /* 16 GiB of addresses, of which little is touched */
char read_by_slave[300];

void Slave(void);

void Slave() {
  long me, i;
  char name[32];
  FILE *file;
  LOCK(shared->lock)
  me = shared->next++;
  UNLOCK(shared->lock)
  for (i = 0; i < 10; i++) {
    LOCK(shared->lock)
    shared->total += numbers[i];
    UNLOCK(shared->lock)
  }
  huge[(size_t)me * 1024 * MILLION] = (char)(me + 1);
  BARRIER(shared->bar, P)
  if (me == P - 1) { /* system calls with shared buffers, on whichever node this is */
    strcpy(name, "one_by_one.tmp");
    file = fopen(name, "w");
    if (file == NULL || fwrite(block, 1, sizeof block, file) != sizeof block || fclose(file) != 0) exit(4);
    memset(block, 0, sizeof block);
    file = fopen(name, "r");
    if (file == NULL || fread(block, 1, sizeof block, file) != sizeof block || fclose(file) != 0) exit(5);
    file = fopen(name, "r");
    if (file == NULL || read(fileno(file), read_by_slave, sizeof read_by_slave) != sizeof read_by_slave) exit(6);
    fclose(file);
    remove(name);
  }
  BARRIER(shared->bar, P)
}

int main(argc, argv)
int argc;
char *argv[];
{
  int i;
  long sum;
  MAIN_INITENV(, 80000000)
  if (fgets(line, sizeof line, stdin) == NULL || sscanf(line, "%d", &P) != 1) return 7;
  for (i = 0; i < 10; i++)
    if (scanf("%ld", &numbers[i]) != 1) return 8;
  memset(block, 'x', sizeof block);
  shared = (struct shared *)G_MALLOC(sizeof(struct shared));
  huge = (char *)G_MALLOC((size_t)16 * 1024 * MILLION);
  LOCKINIT(shared->lock)
  BARINIT(shared->bar)
  for (i = 1; i < P; i++) CREATE(Slave)
  Slave();
  WAIT_FOR_END(P - 1)
  for (i = 0, sum = 0; i < P; i++) sum += huge[(size_t)i * 1024 * MILLION];
  if (sum == P * (P + 1) / 2 && shared->total == P * 55.0 && block[69999] == 'x' && read_by_slave[299] == 'x') printf("one_by_one: passed\n");
  G_FREE(huge);
  MAIN_END;
}
