// What gcc makes of OpenMP's constructs: the calls of libgomp's interface that are served here. A program that needs another is told so by the linker.
#include <cstdlib>
#include <cstring>

#include "apps/kit/openmp/team.hpp"

namespace netvm::openmp {

namespace {

pthread_mutex_t g_critical = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t g_atomic = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t g_named = PTHREAD_MUTEX_INITIALIZER;  // of making those of named critical blocks

/// How a loop is given away. The last is OMP_SCHEDULE's or omp_set_schedule()'s.
enum Schedule : unsigned char { kStatic = 1, kDynamic, kGuided };

unsigned char g_schedule = 0;  // of "runtime"; 0: OMP_SCHEDULE has not been read
unsigned long g_chunk = 0;

void read_schedule() {
  if (g_schedule != 0) return;
  const char* const text = std::getenv("OMP_SCHEDULE");
  unsigned char found = kDynamic;  // as libgomp
  if (text != nullptr && std::strstr(text, "static") != nullptr) found = kStatic;
  if (text != nullptr && std::strstr(text, "guided") != nullptr) found = kGuided;
  const char* const comma = text != nullptr ? std::strchr(text, ',') : nullptr;
  g_chunk = comma != nullptr ? std::strtoul(comma + 1, nullptr, 10) : 0;
  g_schedule = found;
}

/// The next piece of the loop that the calling thread is in: [first, last) of its iterations. Static pieces need nobody.
bool next_piece(unsigned long* first, unsigned long* last) {
  Self& me = t_self;
  WorkShare& share = *me.share;
  const auto size = static_cast<unsigned long>(team_size());
  if (me.schedule == kStatic) {
    const auto number = static_cast<unsigned long>(me.number);
    if (share.chunk == 0) {  // one piece each, as even as can be
      if (me.pieces++ != 0) return false;
      const unsigned long each = share.count / size;
      const unsigned long more = share.count % size;
      *first = number * each + (number < more ? number : more);
      *last = *first + each + (number < more ? 1 : 0);
    } else {
      *first = (me.pieces++ * size + number) * share.chunk;
      *last = *first + share.chunk < share.count ? *first + share.chunk : share.count;
    }
    return *first < share.count && *first < *last;
  }
  pthread_mutex_lock(&share.mutex);
  const unsigned long left = share.count - share.next;
  unsigned long piece = share.chunk;
  if (share.guided && left / size > piece) piece = (left + size - 1) / size;
  if (piece > left) piece = left;
  *first = share.next;
  *last = share.next += piece;
  pthread_mutex_unlock(&share.mutex);
  return piece != 0;
}

/// Waits until all iterations before the calling thread's piece have been in their ordered blocks. The mutex is held behind it.
void await_turn() {
  WorkShare& share = *t_self.share;
  pthread_mutex_lock(&share.mutex);
  while (share.turn != t_self.first) pthread_cond_wait(&share.changed, &share.mutex);
}

bool next_iterations(long* begin, long* end) {
  Self& me = t_self;
  unsigned long first = 0;
  unsigned long last = 0;
  if (me.ordered && me.last != 0) {  // it is through with a piece
    await_turn();
    me.share->turn = me.last;
    pthread_cond_broadcast(&me.share->changed);
    pthread_mutex_unlock(&me.share->mutex);
  }
  if (!next_piece(&first, &last)) return false;
  me.first = first;
  me.last = last;
  *begin = me.begin + static_cast<long>(first) * me.step;
  *end = me.begin + static_cast<long>(last) * me.step;
  return true;
}

/// chunk 0: one piece each (static), or one iteration at a time.
void begin_loop(long begin, long end, long step, unsigned char schedule, unsigned long chunk, bool ordered = false) {
  Self& me = t_self;
  bool first = false;
  WorkShare& share = enter_share(&first);
  if (first) {
    const long span = step > 0 ? end - begin + step - 1 : begin - end - step - 1;
    const long stride = step > 0 ? step : -step;
    share.count = span < stride ? 0 : static_cast<unsigned long>(span / stride);
    share.chunk = chunk != 0 || schedule == kStatic ? chunk : 1;
    share.guided = schedule == kGuided;
  }
  opened(share);
  me.schedule = schedule;
  me.begin = begin;
  me.step = step;
  me.pieces = 0;
  me.first = me.last = 0;
  me.ordered = ordered;
}

bool start_loop(long begin, long end, long step, unsigned char schedule, long chunk, long* from, long* to, bool ordered) {
  begin_loop(begin, end, step, schedule, static_cast<unsigned long>(chunk), ordered);
  return next_iterations(from, to);
}

/// A parallel region that is a loop: each thread of the team comes to the loop before its body asks for iterations.
struct ParallelLoop {
  Body body;
  void* data;
  long begin, end, step;
  unsigned char schedule;
  unsigned long chunk;
};

void run_parallel_loop(const ParallelLoop& loop, unsigned threads) {
  run_parallel(
      [](void* it) {
        const auto& mine = *static_cast<const ParallelLoop*>(it);
        begin_loop(mine.begin, mine.end, mine.step, mine.schedule, mine.chunk);
        mine.body(mine.data);
      },
      const_cast<ParallelLoop*>(&loop), threads);
}

void* align(void* memory, long alignment) {
  const auto unit = static_cast<unsigned long>(alignment);
  return reinterpret_cast<void*>((reinterpret_cast<unsigned long>(memory) + unit - 1) / unit * unit);
}

}  // namespace

}  // namespace netvm::openmp

using namespace netvm::openmp;

extern "C" {

void GOMP_parallel(Body body, void* data, unsigned threads, unsigned) { run_parallel(body, data, threads); }
void GOMP_barrier() { team_barrier(); }

void GOMP_critical_start() { pthread_mutex_lock(&g_critical); }
void GOMP_critical_end() { pthread_mutex_unlock(&g_critical); }
void GOMP_atomic_start() { pthread_mutex_lock(&g_atomic); }
void GOMP_atomic_end() { pthread_mutex_unlock(&g_atomic); }
void GOMP_critical_name_start(void** name) {
  pthread_mutex_lock(&g_named);
  if (*name == nullptr) *name = std::calloc(1, sizeof(pthread_mutex_t));
  auto* const mutex = static_cast<pthread_mutex_t*>(*name);
  pthread_mutex_unlock(&g_named);
  pthread_mutex_lock(mutex);
}
void GOMP_critical_name_end(void** name) { pthread_mutex_unlock(static_cast<pthread_mutex_t*>(*name)); }

bool GOMP_single_start() {
  bool first = false;
  WorkShare& share = enter_share(&first);
  opened(share);
  leave_share();
  return first;
}
void* GOMP_single_copy_start() {
  bool first = false;
  WorkShare& share = enter_share(&first);
  opened(share);
  if (first) return nullptr;
  team_barrier();  // until GOMP_single_copy_end()
  void* const copied = share.copied;
  leave_share();
  return copied;
}
void GOMP_single_copy_end(void* data) {
  t_self.share->copied = data;
  team_barrier();
  leave_share();
}

// Loops. Names with "nonmonotonic" allow what is not done here.
#define NETVM_LOOP(name, schedule, ordered)                                                          \
  bool GOMP_loop_##name##_start(long begin, long end, long step, long chunk, long* from, long* to) { \
    return start_loop(begin, end, step, schedule, chunk, from, to, ordered);                         \
  }                                                                                                  \
  bool GOMP_loop_##name##_next(long* from, long* to) { return next_iterations(from, to); }
#define NETVM_RUNTIME_LOOP(name, ordered)                                                           \
  bool GOMP_loop_##name##_start(long begin, long end, long step, long* from, long* to) {            \
    read_schedule();                                                                                \
    return start_loop(begin, end, step, g_schedule, static_cast<long>(g_chunk), from, to, ordered); \
  }                                                                                                 \
  bool GOMP_loop_##name##_next(long* from, long* to) { return next_iterations(from, to); }
#define NETVM_PARALLEL_LOOP(name, schedule)                                                                                        \
  void GOMP_parallel_loop_##name(Body body, void* data, unsigned threads, long begin, long end, long step, long chunk, unsigned) { \
    run_parallel_loop({body, data, begin, end, step, schedule, static_cast<unsigned long>(chunk)}, threads);                       \
  }
#define NETVM_PARALLEL_RUNTIME_LOOP(name)                                                                              \
  void GOMP_parallel_loop_##name(Body body, void* data, unsigned threads, long begin, long end, long step, unsigned) { \
    read_schedule();                                                                                                   \
    run_parallel_loop({body, data, begin, end, step, g_schedule, g_chunk}, threads);                                   \
  }
NETVM_LOOP(static, kStatic, false)
NETVM_LOOP(dynamic, kDynamic, false)
NETVM_LOOP(guided, kGuided, false)
NETVM_LOOP(nonmonotonic_dynamic, kDynamic, false)
NETVM_LOOP(nonmonotonic_guided, kGuided, false)
NETVM_LOOP(ordered_static, kStatic, true)
NETVM_LOOP(ordered_dynamic, kDynamic, true)
NETVM_LOOP(ordered_guided, kGuided, true)
NETVM_RUNTIME_LOOP(runtime, false)
NETVM_RUNTIME_LOOP(nonmonotonic_runtime, false)
NETVM_RUNTIME_LOOP(maybe_nonmonotonic_runtime, false)
NETVM_RUNTIME_LOOP(ordered_runtime, true)
NETVM_PARALLEL_LOOP(static, kStatic)
NETVM_PARALLEL_LOOP(dynamic, kDynamic)
NETVM_PARALLEL_LOOP(guided, kGuided)
NETVM_PARALLEL_LOOP(nonmonotonic_dynamic, kDynamic)
NETVM_PARALLEL_LOOP(nonmonotonic_guided, kGuided)
NETVM_PARALLEL_RUNTIME_LOOP(runtime)
NETVM_PARALLEL_RUNTIME_LOOP(nonmonotonic_runtime)
NETVM_PARALLEL_RUNTIME_LOOP(maybe_nonmonotonic_runtime)

void GOMP_loop_end_nowait() { leave_share(); }
void GOMP_loop_end() {
  leave_share();
  team_barrier();
}

// Ordered blocks: a thread has its turn for all iterations of a piece, and gives it on when it asks for another.
void GOMP_ordered_start() {
  await_turn();
  pthread_mutex_unlock(&t_self.share->mutex);
}
void GOMP_ordered_end() {}

// Sections are a loop of one at a time, counted from 1; 0: no more.
unsigned GOMP_sections_next() {
  unsigned long first = 0;
  unsigned long last = 0;
  return next_piece(&first, &last) ? static_cast<unsigned>(first) + 1 : 0;
}
unsigned GOMP_sections_start(unsigned count) {
  begin_loop(0, static_cast<long>(count), 1, kDynamic, 1);
  return GOMP_sections_next();
}
void GOMP_parallel_sections(Body body, void* data, unsigned threads, unsigned count, unsigned) {
  run_parallel_loop({body, data, 0, static_cast<long>(count), 1, kDynamic, 1}, threads);
}
void GOMP_sections_end_nowait() { leave_share(); }
void GOMP_sections_end() { GOMP_loop_end(); }

// Tasks, at once: what they wait for is done.
void GOMP_task(Body body, void* data, void (*copy)(void*, void*), long bytes, long alignment, bool, unsigned, void**, int, void*) {
  if (copy == nullptr) return body(data);
  void* const argument = align(__builtin_alloca(static_cast<unsigned long>(bytes + alignment)), alignment);
  copy(argument, data);
  body(argument);
}
void GOMP_taskloop(Body body, void* data, void (*copy)(void*, void*), long bytes, long alignment, unsigned flags, unsigned long, int,
                   long begin, long end, long step) {
  constexpr unsigned kReduction = 1U << 12;
  if ((flags & kReduction) != 0) fail("reductions of taskloop are not served: use a loop of parallel for");
  if (step > 0 ? begin >= end : begin <= end) return;
  void* const argument = align(__builtin_alloca(static_cast<unsigned long>(bytes + alignment)), alignment);
  if (copy != nullptr) copy(argument, data);
  if (copy == nullptr) std::memcpy(argument, data, static_cast<unsigned long>(bytes));
  static_cast<long*>(argument)[0] = begin;  // gcc's place for the bounds
  static_cast<long*>(argument)[1] = end;
  body(argument);
}
void GOMP_taskwait() {}
void GOMP_taskwait_depend(void**) {}
void GOMP_taskyield() {}
void GOMP_taskgroup_start() {}
void GOMP_taskgroup_end() {}

// For omp_set_schedule() and omp_get_schedule().
void netvm_openmp_set_schedule(unsigned char schedule, unsigned long chunk) {
  g_schedule = schedule;
  g_chunk = chunk;
}
void netvm_openmp_get_schedule(unsigned char* schedule, unsigned long* chunk) {
  read_schedule();
  *schedule = g_schedule;
  *chunk = g_chunk;
}

}  // extern "C"
