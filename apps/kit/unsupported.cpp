// Calls that cannot work in a program whose memory is spread over nodes: each ends the job with a sentence that says what to do instead. netvm-cc links
// the program's calls of f() to __wrap_f() (--wrap); those of libraries, such as system() and popen(), which run another program, stay as they are.
#include <semaphore.h>
#include <sys/types.h>

#include <cstddef>

#include "apps/kit/kit.hpp"

namespace {

[[noreturn]] void refuse(const char* call, const char* advice) {
  const netvm::kit::Place place{call, "", 0};
  netvm::kit::Kit::of(place).stop(place, advice);
}

constexpr const char* kFork =
    "the child would have no shared memory. Create threads (pthread_create, or CREATE of c.m4.netvm), and start other programs with "
    "system() or "
    "posix_spawn()";
constexpr const char* kExec = "the new program would be no node of the job. Start other programs with system() or posix_spawn()";
constexpr const char* kSystemV =
    "such memory is shared inside one host only, and other nodes would not see it. Allocate with malloc() in a program with threads, with "
    "G_MALLOC in one of the macros";

}  // namespace

extern "C" {

pid_t __wrap_fork() { refuse("fork()", kFork); }
pid_t __wrap_vfork() { refuse("vfork()", kFork); }
int __wrap_execl(const char*, const char*, ...) { refuse("execl()", kExec); }
int __wrap_execlp(const char*, const char*, ...) { refuse("execlp()", kExec); }
int __wrap_execle(const char*, const char*, ...) { refuse("execle()", kExec); }
int __wrap_execv(const char*, char* const*) { refuse("execv()", kExec); }
int __wrap_execvp(const char*, char* const*) { refuse("execvp()", kExec); }
int __wrap_execve(const char*, char* const*, char* const*) { refuse("execve()", kExec); }
int __wrap_shmget(int, std::size_t, int) { refuse("shmget()", kSystemV); }
void* __wrap_shmat(int, const void*, int) { refuse("shmat()", kSystemV); }
sem_t* __wrap_sem_open(const char*, int, ...) {
  refuse("sem_open()", "named semaphores belong to one host, and other nodes would not see them: use sem_init() on a global variable");
}
int __wrap_shm_open(const char*, int, mode_t) { refuse("shm_open()", kSystemV); }

}  // extern "C"
