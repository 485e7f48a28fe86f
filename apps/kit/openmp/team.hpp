// Teams of OpenMP's over the nodes: the library that netvm-cc --spread-openmp links programs with instead of libgomp, for code that gcc has compiled with
// -fopenmp. Everything here is a program with POSIX threads like any other: it is linked into the executable, so that its variables are shared memory.
//
// Invariants
//  1. A thread that begins parallel regions has a Crew: the threads that serve its regions, made when they are first needed and kept. All of them pass the
//     gate when a region begins and the end barrier when it ends; those beyond the region's team do nothing between.
//  2. A region inside a region has a team of one. Tasks are done at once by the thread that makes them.
//  3. Each thread of a team comes by the same work-sharing constructs in the same order: the n-th uses place n mod kPlaces. A place is taken for construct
//     n + kPlaces when all have left construct n.
// Compiled without exceptions and without what needs the C++ library: programs in C are linked with it.
#pragma once

#include <pthread.h>

namespace netvm::openmp {

using Body = void (*)(void*);

/// A loop, sections, or a single block, while its parts are being given away.
struct WorkShare {
  static constexpr unsigned kPlaces = 16;

  pthread_mutex_t mutex;
  pthread_cond_t changed;  // somebody left, or an ordered iteration is over
  unsigned long number;    // which construct it is for, from 1 on; 0: none yet
  int left;                // threads of the team that are through with it
  unsigned long next;      // iterations that were given away
  unsigned long count;
  unsigned long chunk;
  unsigned long turn;  // whose piece begins with that iteration may be in ordered blocks
  bool guided;
  void* copied;  // of a single block with copyprivate
};

struct Team {
  int size;
  Body body;
  void* data;
  pthread_barrier_t barrier;
  int barrier_of;  // threads that it was made for; 0: not made
  WorkShare shares[WorkShare::kPlaces];
};

struct Crew {
  Team team;
  int threads;  // the one that begins the regions included
  pthread_barrier_t gate;
  pthread_barrier_t end;
  bool over;
};

/// The calling thread.
struct Self {
  Team* team = nullptr;  // null: outside of parallel regions
  int number = 0;
  int depth = 0;                 // of regions inside each other
  unsigned long constructs = 0;  // that it has come by in this region
  WorkShare* share = nullptr;    // of the construct that it is in
  unsigned long first = 0;       // the piece of the loop that it has
  unsigned long last = 0;
  unsigned long pieces = 0;  // of a static schedule, that it has had
  unsigned char schedule = 0;
  bool ordered = false;  // the loop may have ordered blocks
  long begin = 0;        // what iteration 0 means
  long step = 0;
  Crew* crew = nullptr;  // that serves its regions
};

extern thread_local constinit Self t_self;

inline int team_size() { return t_self.team != nullptr ? t_self.team->size : 1; }

/// Runs body(data) by a team of `wanted` threads; 0: of as many as omp_set_num_threads() or the environment says.
void run_parallel(Body body, void* data, unsigned wanted);

/// All threads of the team.
void team_barrier();

/// The calling thread comes to its next construct: the first is told so and sets it up before others are let in.
WorkShare& enter_share(bool* first);
/// Lets others in, after the first has set it up: enter_share() returns with the mutex held.
void opened(WorkShare& share);
void leave_share();

/// Ends the program.
[[noreturn]] void fail(const char* what);

/// What threads of a region are asked to be, by default.
int default_threads();
void set_default_threads(int threads);

}  // namespace netvm::openmp
