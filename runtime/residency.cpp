#include "runtime/residency.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "runtime/access_table.hpp"
#include "runtime/check.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14; older kernels answer EINVAL
#endif

namespace netvm {

Residency::Residency(std::uint64_t pages, int frames_fd, std::byte* frames, Env& env, Populate how)
    : frames_fd_(frames_fd), frames_(frames), how_(how), mutex_(env), bits_((pages + kBits - 1) / kBits) {}

PageRange Residency::run(PageId first, std::uint64_t end, bool wanted) const {
  std::uint64_t last = first.value;
  while (last < end) {
    std::uint64_t word = bits_[last / kBits].load(std::memory_order_acquire);  // acquire: partner is mark()
    if (!wanted) word = ~word;
    const std::uint64_t here = static_cast<std::uint64_t>(std::countr_one(word >> (last % kBits)));
    const std::uint64_t left_in_word = kBits - last % kBits;
    last += std::min(here, left_in_word);
    if (here < left_in_word) break;
  }
  return {first, std::min(last, end) - first.value};
}

bool Residency::resident(PageRange pages) const { return run(pages.first, pages.end(), true).count == pages.count; }

void Residency::mark(PageRange pages, bool resident) {
  for (std::uint64_t p = pages.first.value; p < pages.end();) {
    const std::uint64_t count = std::min(pages.end() - p, kBits - p % kBits);
    const std::uint64_t mask = (count == kBits ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1) << (p % kBits);
    if (resident) {
      bits_[p / kBits].fetch_or(mask, std::memory_order_release);  // release: the frame and the listener's news; partner is resident()
    } else {
      bits_[p / kBits].fetch_and(~mask, std::memory_order_release);  // release: partner is resident()
    }
    p += count;
  }
}

Status Residency::populate(PageRange pages) {
  std::byte* const begin = frames_ + pages.first.value * kPageSize;
  const std::size_t bytes = pages.count * kPageSize;
  int error = EINVAL;
  while (how_ == Populate::through_view) {
    error = ::madvise(begin, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    if (error != EINTR && error != EAGAIN) break;
  }
  if (error == 0) return Status::ok;
  if (error != EINVAL) return Status::fault_failed;
  do {  // before Linux 5.14
    error = ::fallocate(frames_fd_, 0, static_cast<off_t>(pages.first.value * kPageSize), static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  return error == 0 ? Status::ok : Status::fault_failed;
}

Status Residency::bring_in(PageRange pages) {
  if (resident(pages)) return Status::ok;
  const std::lock_guard lock(mutex_);
  for (PageId next = pages.first; next.value < pages.end();) {
    next.value += run(next, pages.end(), true).count;
    const PageRange missing = run(next, pages.end(), false);
    if (missing.count == 0) continue;
    if (const Status status = populate(missing); status != Status::ok) return status;
    if (ResidencyListener* listener = listener_.load()) listener->on_map(missing);
    mark(missing, true);
    next.value += missing.count;
  }
  return Status::ok;
}

void Residency::discard(PageRange pages, const AccessTable& rights) {
  const std::lock_guard lock(mutex_);
  for (PageId next = pages.first; next.value < pages.end();) {
    next.value += run(next, pages.end(), false).count;
    const PageRange present = run(next, pages.end(), true);
    if (present.count == 0) continue;
    for (std::uint64_t p = present.first.value; p < present.end(); ++p) {
      const Access access = rights.access(PageId{p});
      NETVM_CHECK(access == Access::none, "page %llu is discarded while the application may %s it", static_cast<unsigned long long>(p),
                  access == Access::read ? "read" : "write");
    }
    mark(present, false);
    if (ResidencyListener* listener = listener_.load()) listener->on_unmap(present);
    next.value += present.count;
  }
  give_back(pages);  // the whole range at once: a hole costs nothing to punch again
}

void Residency::give_back(PageRange pages) {
  while (::fallocate(frames_fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(pages.first.value * kPageSize),
                     static_cast<off_t>(pages.count * kPageSize)) != 0) {
    NETVM_CHECK(errno == EINTR, "giving back the frames of %llu pages at page %llu: %s", static_cast<unsigned long long>(pages.count),
                static_cast<unsigned long long>(pages.first.value), strerrordesc_np(errno));
  }
}

}  // namespace netvm
