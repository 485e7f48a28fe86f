// netvm::mutex: std's shape over sync::Sync.
#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "dsm/api/job_runtime.hpp"

namespace netvm {

namespace {

using detail::Runtime;

struct Place {
  Runtime* runtime;
  std::uint64_t offset;
};

/// Where the mutex lies; it must be shared memory, as its address is its identity on every node.
Place place_of(const mutex* m) {
  Runtime& rt = Runtime::current("a netvm::mutex");
  std::uint64_t offset = 0;
  if (!rt.offset_of(m, &offset) || !rt.layout.shared.contains(PageId{offset / kPageSize})) {
    throw std::system_error(
        std::make_error_code(std::errc::operation_not_permitted),
        fmt::format(
            "netvm: the mutex at {} is not in shared memory: make it with allocate<netvm::mutex>() or put it into a shared structure",
            fmt::ptr(m)));
  }
  if (offset % alignof(mutex) != 0) [[unlikely]]
    detail::refuse_alignment("mutex", m);
  return {&rt, offset};
}

bool is_death(Status status) { return status == Status::owner_dead || status == Status::peer_dead; }

[[noreturn]] void fail(Status status, const char* what, const Place& place) {
  const auto code = status == Status::invalid     ? std::errc::resource_deadlock_would_occur
                    : status == Status::perm      ? std::errc::operation_not_permitted
                    : status == Status::exhausted ? std::errc::no_lock_available
                    : is_death(status)            ? std::errc::owner_dead
                                                  : std::errc::operation_canceled;
  const char* hint = status == Status::invalid     ? "this thread holds it already (a netvm::mutex is not recursive)"
                     : status == Status::perm      ? "this thread does not hold it"
                     : status == Status::exhausted ? "the lock table is full: fewer mutexes in use, or raise NETVM_ADDRESS_SPACE"
                     : is_death(status) ? "a node died that had it, or knew who has it; nobody gets it before a thread calls recover()"
                                        : "the job ends";
  throw std::system_error(std::make_error_code(code),
                          fmt::format("netvm: {} of the mutex at {}: {}", what, fmt::ptr(place.runtime->address_of(place.offset)), hint));
}

}  // namespace

void mutex::lock() {
  const Place place = place_of(this);
  const Status status = place.runtime->sync->lock(place.offset, detail::this_thread_id());
  if (status != Status::ok) fail(status, "lock()", place);
}

bool mutex::lock(const std::stop_token& stop) {
  const Place place = place_of(this);
  std::atomic<bool> give_up{false};
  const std::stop_callback on_stop(stop, [&] {
    give_up.store(true);
    place.runtime->sync->look_again(place.offset);
  });
  const Status status = place.runtime->sync->lock(place.offset, detail::this_thread_id(), kForever, &give_up);
  if (status == Status::timeout) return false;
  if (status != Status::ok) fail(status, "lock()", place);
  return true;
}

bool mutex::recover() {
  const Place place = place_of(this);
  const auto recovered = place.runtime->sync->recover(place.offset, detail::this_thread_id());
  if (!recovered) fail(recovered.status(), "recover()", place);
  return *recovered;
}

std::uint64_t mutex::fencing_token() const {
  const Place place = place_of(this);
  return place.runtime->sync->epoch_of(place.offset);
}

bool mutex::try_lock() {
  const Place place = place_of(this);
  const auto got = place.runtime->sync->try_lock(place.offset, detail::this_thread_id());
  if (!got) fail(got.status(), "try_lock()", place);
  return *got;
}

bool mutex::try_lock_ns(std::int64_t ns) {
  if (ns <= 0) return try_lock();
  const Place place = place_of(this);
  const Nanos now = place.runtime->env->now();
  const Nanos deadline = ns >= kForever - now ? kForever : now + ns;
  const Status status = place.runtime->sync->lock(place.offset, detail::this_thread_id(), deadline);
  if (status == Status::timeout) return false;
  if (status != Status::ok) fail(status, "try_lock_for()", place);
  return true;
}

void mutex::bind_bytes(const void* first, std::size_t bytes) {
  const Place place = place_of(this);
  detail::bind_to_lock({"mutex", this, sync::SyncId{place.offset}}, first, bytes);
}

namespace detail {

void refuse_alignment(const char* kind, const void* object) {
  throw std::system_error(
      std::make_error_code(std::errc::invalid_argument),
      fmt::format("netvm: the {} at {} does not begin at a multiple of {} bytes: it lies in a packed structure, or the pointer is wrong",
                  kind, fmt::ptr(object), alignof(mutex)));
}

void bind_to_lock(const LockPlace& lock, const void* first, std::size_t bytes) {
  Runtime& rt = Runtime::current("netvm: bind()");
  const std::uint64_t at = lock.id.offset & ~sync::SyncId::kObjectBit;
  if (!rt.dsm->size_of(at)) {
    throw Error(fmt::format("netvm: the {} at {} cannot guard anything: no allocation lies there (was it freed?)", lock.kind,
                            fmt::ptr(lock.address)));
  }
  std::uint64_t offset = 0;
  if (rt.offset_of(first, &offset) && rt.dsm->bind(lock.id, offset, bytes)) return;
  throw Error(fmt::format("netvm: the {} at {} cannot guard [{}, {}): that is not inside one allocation of coherent shared memory",
                          lock.kind, fmt::ptr(lock.address), fmt::ptr(first), fmt::ptr(static_cast<const std::byte*>(first) + bytes)));
}

}  // namespace detail

void mutex::unlock() {
  const Place place = place_of(this);
  const Status status = place.runtime->sync->unlock(place.offset, detail::this_thread_id());
  if (status != Status::ok) fail(status, "unlock()", place);
}

}  // namespace netvm
