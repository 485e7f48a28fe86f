// netvm/sync.hpp: std's shapes over sync::Objects.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <stop_token>
#include <system_error>
#include <vector>

#include "dsm/api/job_runtime.hpp"
#include "sync/objects.hpp"

namespace netvm::detail {

namespace {

static_assert(static_cast<int>(ObjectKind::once) == static_cast<int>(sync::ObjectKind::once));
static_assert(static_cast<int>(ObjectKind::barrier) == static_cast<int>(sync::ObjectKind::barrier));

sync::ObjectKind kind_in_sync(ObjectKind kind) { return static_cast<sync::ObjectKind>(kind); }

/// An object, and the calling thread.
struct Call {
  Runtime* runtime;
  sync::Objects* objects;
  std::uint64_t offset;
  std::uint64_t who;
  ObjectKind kind;

  Call(const void* object, ObjectKind the_kind) : kind(the_kind) {
    runtime = Runtime::current_or_null();
    if (runtime == nullptr || !runtime->offset_of(object, &offset) || !runtime->layout.shared.contains(PageId{offset / kPageSize}))
        [[unlikely]]
      refuse(object);
    if (offset % alignof(mutex) != 0) [[unlikely]]
      refuse_alignment(sync::to_string(kind_in_sync(kind)), object);
    objects = &runtime->sync->objects();
    who = this_thread_id();
  }

  [[noreturn]] void refuse(const void* object) const {
    const char* const name = sync::to_string(kind_in_sync(kind));
    (void)Runtime::current(fmt::format("a {}", name));
    throw std::system_error(
        std::make_error_code(std::errc::operation_not_permitted),
        fmt::format("netvm: the {} at {} is not in shared memory: make it with Job::allocate() or put it into a shared structure", name,
                    fmt::ptr(object)));
  }

  [[nodiscard]] Nanos deadline(std::int64_t limit) const {
    if (limit == kNoLimit) return kForever;
    const Nanos now = runtime->env->now();
    return limit >= kForever - now ? kForever : now + limit;
  }

  /// Whether an object of another kind lives here, as far as this node knows: why an operation was refused, if so.
  [[nodiscard]] bool meets_another_kind() const { return objects->kind_of(offset) != kind_in_sync(kind); }
  /// What is wrong with the call, and what to do.
  [[noreturn]] void misuse(const char* what, const std::string& words, std::errc code = std::errc::invalid_argument) const {
    throw std::system_error(std::make_error_code(code), about(what, kind, runtime->address_of(offset), words));
  }
  static std::string about(const char* what, ObjectKind kind, const void* object, const std::string& words) {
    return fmt::format("netvm: {} of the {} at {}: {}", what, sync::to_string(kind_in_sync(kind)), fmt::ptr(object), words);
  }

  /// `misuse`: the error and its words for Status::invalid of this operation.
  void check(Status status, const char* what, std::errc misuse = std::errc::invalid_argument, const char* misuse_words = "") const {
    if (status != Status::ok) [[unlikely]]
      fail(status, what, misuse, misuse_words);
  }
  /// Where a count was refused: words(how the object stands now).
  template <class Words>
  void check_count(Status status, const char* what, Words&& words) const {
    if (status == Status::invalid && !meets_another_kind()) {
      const auto now = objects->counts(offset, who, kind_in_sync(kind));
      check(now.status(), what);
      misuse(what, words(*now));
    }
    check(status, what);
  }
  [[noreturn]] void fail(Status status, const char* what, std::errc misuse, const char* misuse_words) const {
    auto code = std::errc::operation_canceled;
    std::string words = "the job ends";
    if (status == Status::invalid && meets_another_kind() && misuse != std::errc::device_or_resource_busy) {
      code = std::errc::invalid_argument;
      words = fmt::format("a {} lives at this address; call init() of the {} if it is to begin a new life",
                          sync::to_string(objects->kind_of(offset)), sync::to_string(kind_in_sync(kind)));
    } else if (status == Status::invalid) {
      code = misuse;
      words = misuse_words;
    } else if (status == Status::perm) {
      code = std::errc::operation_not_permitted;
      words = "this thread does not hold it";
    } else if (status == Status::exhausted) {
      code = std::errc::no_lock_available;
      words = "the lock table is full: fewer objects in use, or raise NETVM_ADDRESS_SPACE";
    } else if (status == Status::owner_dead || status == Status::peer_dead) {
      code = std::errc::owner_dead;
      words = "a node has died with its state; init() begins it anew";
    }
    this->misuse(what, words, code);
  }
  /// False after a deadline.
  [[nodiscard]] bool check_timed(Status status, const char* what, std::errc misuse = std::errc::invalid_argument,
                                 const char* misuse_words = "") const {
    if (status == Status::timeout) return false;
    check(status, what, misuse, misuse_words);
    return true;
  }
};

/// The count that an object was given before its first use: by a constructor that ran before the job, or by nobody.
auto count_at(const std::int64_t* count) {
  return [count] {
    std::int64_t value = 0;
    std::uint64_t offset = 0;
    if (Runtime::current("a count").offset_of(count, &offset)) {
      checked_load(count, &value, sizeof value);
    } else {
      value = *count;  // the caller's
    }
    return static_cast<std::uint64_t>(value);
  };
}

}  // namespace

namespace {
/// wait(give_up), until the token is asked to stop, if there is one.
template <class Wait>
Status until_stop(const Call& call, const std::stop_token* stop, Wait&& wait) {
  if (stop == nullptr) return wait(nullptr);
  std::atomic<bool> asked{false};
  const std::stop_callback on_stop(*stop, [&] {
    asked.store(true);
    call.objects->look_again(call.offset);
  });
  return wait(&asked);
}
}  // namespace

void object_init(const void* object, ObjectKind kind, std::int64_t count, std::int64_t most) {
  if (count < 0 || count > most) {
    const std::string allowed = most == INT64_MAX ? std::string("0 or more") : fmt::format("0 to {}", most);
    throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                            Call::about("initialisation", kind, object, fmt::format("a count of {}; give {}", count, allowed)));
  }
  std::uint64_t offset = 0;
  Runtime* const runtime = Runtime::current_or_null();
  if (runtime == nullptr || !runtime->offset_of(object, &offset) || !runtime->layout.shared.contains(PageId{offset / kPageSize})) return;
  const Call call(object, kind);
  call.check(call.objects->init(call.offset, call.who, kind_in_sync(kind), static_cast<std::uint64_t>(count)), "initialisation",
             std::errc::device_or_resource_busy, "threads wait for what lives at this address, or hold it");
}

bool semaphore_acquire(const void* object, const std::int64_t* count, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::semaphore);
  const auto wait = [&](const std::atomic<bool>* give_up) {
    return call.objects->acquire(call.offset, call.who, count_at(count), call.deadline(limit), give_up);
  };
  return call.check_timed(until_stop(call, stop, wait), "acquire()");
}

void semaphore_release(const void* object, const std::int64_t* count, std::int64_t permits, std::int64_t most) {
  const Call call(object, ObjectKind::semaphore);
  if (permits < 0) call.misuse("release()", fmt::format("{} permits; give 0 or more", permits));
  const Status status =
      call.objects->release(call.offset, call.who, static_cast<std::uint64_t>(permits), static_cast<std::uint64_t>(most), count_at(count));
  call.check_count(status, "release()", [=](const sync::Objects::Counts& now) {
    return fmt::format("{} more than the {} that it has would be more permits than its max(), {}; nothing was released", permits, now.count,
                       most);
  });
}

bool rwlock_lock(const void* object, bool shared, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::rwlock);
  const Nanos deadline = call.deadline(limit);
  const auto wait = [&](const std::atomic<bool>* give_up) {
    return shared ? call.objects->lock_shared(call.offset, call.who, deadline, give_up)
                  : call.objects->lock(call.offset, call.who, deadline, give_up);
  };
  return call.check_timed(until_stop(call, stop, wait), shared ? "lock_shared()" : "lock()", std::errc::resource_deadlock_would_occur,
                          "this thread holds it already (a netvm::shared_mutex is not recursive)");
}

void rwlock_unlock(const void* object, bool shared) {
  const Call call(object, ObjectKind::rwlock);
  const Status status = shared ? call.objects->unlock_shared(call.offset, call.who) : call.objects->unlock(call.offset, call.who);
  // Its state died with another node: nobody holds it any more, and whoever wants it next is told. Guards' destructors, which call this, must not throw.
  if (status == Status::owner_dead || status == Status::peer_dead) return;
  call.check(status, shared ? "unlock_shared()" : "unlock()");
}

void rwlock_bind(const void* object, const void* first, std::size_t bytes) {
  const Call call(object, ObjectKind::rwlock);
  bind_to_lock({"shared_mutex", object, sync::SyncId::of_object(call.offset)}, first, bytes);
}

std::uint64_t rwlock_fencing_token(const void* object) {
  const Call call(object, ObjectKind::rwlock);
  const auto token = call.objects->fencing_token(call.offset, call.who);
  call.check(token.status(), "fencing_token()");
  return *token;
}

// A thread that enters is in nobody's queue yet, where a stop could be told to it: it looks for one itself, now and then.
std::uint64_t queue_enter(const void* object, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::wait_queue);
  const Nanos deadline = call.deadline(limit);
  for (;;) {
    const Nanos until = stop == nullptr ? deadline : std::min(deadline, call.runtime->env->now() + sync::kPatience);
    const auto ticket = call.objects->enqueue(call.offset, call.who, until);
    if (ticket.status() == Status::timeout && until != deadline && !stop->stop_requested()) continue;
    return call.check_timed(ticket.status(), "enqueue()") ? *ticket : 0;
  }
}

bool queue_wait(const void* object, std::uint64_t ticket, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::wait_queue);
  const auto wait = [&](const std::atomic<bool>* give_up) {
    return call.objects->wait(call.offset, call.who, ticket, call.deadline(limit), give_up);
  };
  if (ticket == 0) call.misuse("wait() or leave()", "a ticket that is no place in a queue; give what enqueue() has returned");
  const Status status = until_stop(call, stop, wait);
  if (status == Status::invalid) {
    call.misuse("wait()",
                "this ticket's place has been used up by a wait() or leave(), or is one in another queue; enqueue() gives a new one");
  }
  return call.check_timed(status, "wait()");
}

void queue_interrupt(std::uint64_t ticket) {
  if (Runtime* const runtime = Runtime::current_or_null(); runtime != nullptr) runtime->sync->objects().interrupt(ticket);
}

std::uint64_t queue_wake(const void* object, std::uint64_t most) {
  const Call call(object, ObjectKind::wait_queue);
  const auto woken = call.objects->wake(call.offset, call.who, most);
  call.check(woken.status(), "wake");
  return *woken;
}

namespace {
sync::Objects::Arrival arrival_of(const Call& call, const char* what, const BarrierCall& arrival) {
  if (arrival.arrivals <= 0) call.misuse(what, fmt::format("{} arrivals; give 1 or more", arrival.arrivals));
  if (arrival.must_be < 0) call.misuse(what, fmt::format("{} threads are expected; give 1 or more", arrival.must_be));
  return {static_cast<std::uint64_t>(arrival.arrivals), arrival.drops, static_cast<std::uint64_t>(arrival.must_be), arrival.on_completion};
}

void check_arrival(const Call& call, Status status, const char* what, const BarrierCall& arrival) {
  call.check_count(status, what, [&arrival](const sync::Objects::Counts& now) -> std::string {
    if (now.limit == 0) return "it was given no count: construct it with one, call init(count), or arrive_and_wait(count)";
    if (arrival.must_be != 0 && static_cast<std::uint64_t>(arrival.must_be) != now.limit) {
      return fmt::format("{} threads are expected, but it is a barrier of {}; say the same everywhere, or init({}) it while nobody waits",
                         arrival.must_be, now.limit, arrival.must_be);
    }
    return fmt::format("{} arrivals, where {} of its {} are missing in this phase; nobody has arrived", arrival.arrivals, now.count,
                       now.limit);
  });
}
}  // namespace

std::uint64_t barrier_arrive(const void* object, const BarrierCall& arrival) {
  const Call call(object, ObjectKind::barrier);
  const auto phase = call.objects->arrive(call.offset, call.who, count_at(arrival.count), arrival_of(call, "arrive()", arrival));
  check_arrival(call, phase.status(), "arrive()", arrival);
  return *phase;
}

void barrier_arrive_and_wait(const void* object, const BarrierCall& arrival) {
  const Call call(object, ObjectKind::barrier);
  const sync::Objects::Arrival mine = arrival_of(call, "arrive_and_wait()", arrival);
  check_arrival(call, call.objects->arrive_and_wait(call.offset, call.who, count_at(arrival.count), mine), "arrive_and_wait()", arrival);
}

bool barrier_wait(const void* object, std::uint64_t phase, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::barrier);
  const auto wait = [&](const std::atomic<bool>* give_up) {
    return call.objects->await_phase(call.offset, call.who, phase, call.deadline(limit), give_up);
  };
  return call.check_timed(until_stop(call, stop, wait), "wait()");
}

void latch_count_down(const void* object, const std::int64_t* count, std::int64_t by) {
  const Call call(object, ObjectKind::latch);
  if (by < 0) call.misuse("count_down()", fmt::format("by {}; give 0 or more", by));
  const Status status = call.objects->count_down(call.offset, call.who, count_at(count), static_cast<std::uint64_t>(by));
  call.check_count(status, "count_down()", [by](const sync::Objects::Counts& now) {
    return fmt::format("by {}, where its count is {}; it was left as it was", by, now.count);
  });
}

bool latch_wait(const void* object, const std::int64_t* count, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::latch);
  const auto wait = [&](const std::atomic<bool>* give_up) {
    return call.objects->await_latch(call.offset, call.who, count_at(count), call.deadline(limit), give_up);
  };
  return call.check_timed(until_stop(call, stop, wait), "wait()");
}

void flag_set(const void* object, bool value) {
  const Call call(object, ObjectKind::flag);
  call.check(call.objects->set_flag(call.offset, call.who, value), value ? "set()" : "clear()");
}

bool flag_wait(const void* object, std::int64_t limit, const std::stop_token* stop) {
  const Call call(object, ObjectKind::flag);
  const auto wait = [&](const std::atomic<bool>* give_up) {
    return call.objects->await_flag(call.offset, call.who, call.deadline(limit), give_up);
  };
  return call.check_timed(until_stop(call, stop, wait), "wait()");
}

namespace {
/// Those whose function the calling thread is inside of: it would wait for itself.
thread_local std::vector<const void*> t_runs_once;
}  // namespace

OnceTurn once_begin(const void* object, const std::stop_token* stop) {
  const Call call(object, ObjectKind::once);
  if (std::find(t_runs_once.begin(), t_runs_once.end(), object) != t_runs_once.end())
    call.fail(Status::invalid, "call_once()", std::errc::resource_deadlock_would_occur,
              "this thread is inside the function that it runs once");
  bool mine = false;
  const auto wait = [&](const std::atomic<bool>* give_up) {
    const auto must = call.objects->begin_once(call.offset, call.who, give_up);
    mine = must && *must;
    return must.status();
  };
  if (!call.check_timed(until_stop(call, stop, wait), "call_once()")) return OnceTurn::stopped;
  if (mine) t_runs_once.push_back(object);
  return mine ? OnceTurn::mine : OnceTurn::done;
}

void once_end(const void* object, bool done) {
  const Call call(object, ObjectKind::once);
  std::erase(t_runs_once, object);
  call.check(call.objects->end_once(call.offset, call.who, done), "call_once()");
}

}  // namespace netvm::detail
