/* What the macros of c.m4.netvm expand to: the C interface of NetVM's porting kit for programs written to the macros of Argonne and Stanford
   (SPLASH-2, Splash-3, Splash-4). Plain C90, so that every C and C++ compiler takes it. Programs are compiled and linked with netvm-cc.

   Objects (locks, barriers, ...) are known by their addresses in shared memory; zeroed memory is a fresh object, and none costs anything before it is
   used. `file` and `line` say where the macro stands: every error names them. Errors end the job with a message; nothing is returned. */
#ifndef NETVM_SPLASH_H
#define NETVM_SPLASH_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*netvm_splash_function)(void); /* NOLINT(modernize-use-using): C has no other way */

/* MAIN_INITENV: says so if the program was not linked with netvm-cc. (main() has joined the job before it began.) */
void netvm_splash_init(const char *file, int line);

/* CREATE(f, p): threads 1 .. p-1 run f(), spread over the nodes in order; the caller is thread 0 and calls f() itself. */
void netvm_splash_create_all(netvm_splash_function f, const char *name, long p, const char *file, int line);
/* CREATE(f): one more thread runs f(), on the next node in turn. */
void netvm_splash_create(netvm_splash_function f, const char *name, const char *file, int line);
/* WAIT_FOR_END: all threads that were created have ended, and what they wrote is visible. */
void netvm_splash_wait_for_end(long p, const char *file, int line);

void netvm_splash_lock_init(void *lock, const char *file, int line);
void netvm_splash_lock(void *lock, const char *file, int line);
void netvm_splash_unlock(void *lock, const char *file, int line);

void netvm_splash_barrier_init(void *barrier, const char *file, int line);
void netvm_splash_barrier(void *barrier, long p, const char *file, int line);

void netvm_splash_pause_init(void *flag, const char *file, int line);
void netvm_splash_pause_set(void *flag, int value, const char *file, int line);
void netvm_splash_pause_wait(void *flag, const char *file, int line);

void netvm_splash_condition_init(void *condition, const char *file, int line);
void netvm_splash_condition_wait(void *condition, void *lock, const char *file, int line);
void netvm_splash_condition_signal(void *condition, int all, const char *file, int line);

/* GETSUB: 0 .. last once each over all threads, then -1 to each of the p threads when all of them have come; then it begins anew. */
void netvm_splash_subscripts_init(void *subscripts, const char *file, int line);
long netvm_splash_subscript(void *subscripts, long last, long p, const char *file, int line);

/* G_MALLOC: zeroed shared memory. NU_MALLOC: the same at a node. G_FREE. */
void *netvm_splash_malloc(size_t bytes, const char *file, int line);
void *netvm_splash_malloc_at(size_t bytes, long node, const char *file, int line);
void netvm_splash_free(void *memory, const char *file, int line);

/* Splash-4's atomic operations run between these two; they exclude each other for one address on all nodes and carry the memory. */
void netvm_splash_atomic_begin(const volatile void *variable, const char *file, int line);
void netvm_splash_atomic_end(const volatile void *variable, const char *file, int line);

/* CLOCK: microseconds of the time of day. */
unsigned long netvm_splash_clock(void);

#ifdef __cplusplus
}
#endif

#endif
