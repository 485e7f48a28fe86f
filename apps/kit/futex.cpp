// syscall(): what std::atomic::wait(), std::barrier, std::latch, std::counting_semaphore and std::future sleep with is the futex, by its number. The
// kernel knows the words of one process only; of words in shared memory the waiters stand in a wait queue of sync/.
//
// Who waits lines up first and looks at the word then; who wakes has written before. So no wake-up is lost, if the memory is sequentially consistent.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <ctime>

#include "apps/kit/pthread_objects.hpp"
#include "apps/kit/real.hpp"

namespace netvm::kit {

namespace {

long real_syscall(long number, const long (&a)[6]) {
  using Function = long (*)(long, ...);
  static const auto function = reinterpret_cast<Function>(find_real("syscall"));
  return function(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

struct Call {
  std::uint32_t* word;
  int operation;
  std::uint32_t value;
  const timespec* time;
};

long fail(int error) {
  errno = error;
  return -1;
}

long wait(const Call& call, std::uint64_t key) {
  const bool absolute = (call.operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
  const clockid_t clock = absolute && (call.operation & FUTEX_CLOCK_REALTIME) != 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
  Nanos deadline = kForever;
  if (call.time != nullptr) {
    timespec until = *call.time;
    if (!absolute) {
      timespec now{};
      ::clock_gettime(clock, &now);
      until.tv_sec += now.tv_sec;
      until.tv_nsec += now.tv_nsec;
      if (until.tv_nsec >= 1'000'000'000) ++until.tv_sec, until.tv_nsec -= 1'000'000'000;
    }
    const auto limit = Pthreads::find()->deadline_of(clock, &until);
    if (!limit) return fail(EINVAL);
    deadline = std::max<Nanos>(*limit, 1);
  }
  const std::uint32_t* const word = call.word;
  const std::uint32_t value = call.value;
  const int error = in_runtime([=]() -> int {
    sync::Objects& objects = Pthreads::find()->objects();
    const std::uint64_t me = detail::this_thread_id();
    std::uint64_t ticket = 0;
    const Status lined_up = as_kind(key, sync::ObjectKind::wait_queue, [&] {
      const auto place = objects.enqueue(key, me);
      if (place) ticket = *place;
      return place.status();
    });
    if (!ok(lined_up)) return error_of(lined_up, "futex()");
    const bool waits = std::atomic_ref<const std::uint32_t>(*word).load() == value;
    const Status status = objects.wait(key, me, ticket, waits ? deadline : 0);
    if (!waits) return EAGAIN;
    return error_of(status, "futex()");
  });
  return error == 0 ? 0 : fail(error);
}

long wake(const Call& call, std::uint64_t key) {
  const std::uint64_t most = call.value;
  return in_runtime([=]() -> long {
    sync::Objects& objects = Pthreads::find()->objects();
    std::uint64_t woken = 0;
    static_cast<void>(as_kind(key, sync::ObjectKind::wait_queue, [&] {
      const auto result = objects.wake(key, detail::this_thread_id(), most);
      if (result) woken = *result;
      return result.status();
    }));
    return static_cast<long>(woken);
  });
}

long futex(const Call& call, std::uint64_t key) {
  switch (call.operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
      return wait(call, key);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
      return wake(call, key);
    default:
      misuse("syscall(SYS_futex)",
             "this operation of the futex does not work on shared memory: FUTEX_WAIT and FUTEX_WAKE do; or use a mutex and a condition "
             "variable");
  }
}

}  // namespace

}  // namespace netvm::kit

extern "C" long syscall(long number, ...) noexcept {
  va_list rest;
  va_start(rest, number);
  long a[6];
  for (long& one : a) one = va_arg(rest, long);
  va_end(rest);
  if (number == SYS_futex) {
    auto* const word = reinterpret_cast<std::uint32_t*>(a[0]);
    if (const auto key = netvm::kit::shared_key(word))
      return netvm::kit::futex({word, static_cast<int>(a[1]), static_cast<std::uint32_t>(a[2]), reinterpret_cast<const timespec*>(a[3])},
                               *key);
  }
  return netvm::kit::real_syscall(number, a);
}
