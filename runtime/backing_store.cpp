#include "runtime/backing_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/file_size.hpp"

namespace netvm {
namespace {

ssize_t call_pread_at_once(int fd, void* to, std::size_t bytes, off_t offset) {
  const iovec one{to, bytes};
  return ::preadv2(fd, &one, 1, offset, RWF_NOWAIT);
}

int call_fallocate(int fd, int mode, off_t offset, off_t bytes) { return ::fallocate(fd, mode, offset, bytes); }

struct Opened {
  UniqueFd fd;
  std::string name;
};

bool is_folder(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string because(int error) { return std::string(": ") + std::strerror(error); }

// A file without a name. Not every file system has O_TMPFILE; there it has a name for a moment.
UniqueFd open_nameless(const std::string& folder, std::string* why) {
  UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL)) {
    std::string path = folder + "/netvm-backing-XXXXXX";
    fd.reset(::mkostemp(path.data(), O_CLOEXEC));
    if (fd) ::unlink(path.c_str());
  }
  if (!fd) *why = "no backing file can be made in the folder " + folder + because(errno) + ". Name another place with NETVM_BACKING";
  return fd;
}

Opened open_file(const std::string& path, std::string* why) {
  if (path.empty()) {
    const char* chosen = std::getenv("TMPDIR");
    const std::string folder = chosen != nullptr && chosen[0] != '\0' ? chosen : "/var/tmp";
    return {open_nameless(folder, why), "the nameless backing file in " + folder};
  }
  if (is_folder(path)) return {open_nameless(path, why), "the nameless backing file in " + path};
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) {
    *why = "the backing file " + path + " cannot be made" + because(errno);
    *why += errno == EEXIST ? ". NetVM overwrites nothing: remove it, or name another" : ". Name another place with NETVM_BACKING";
    return {std::move(fd), path};
  }
  ::unlink(path.c_str());  // however the process ends, nothing is left
  return {std::move(fd), "the backing file " + path};
}

}  // namespace

const BackingCalls& system_backing_calls() {
  static constexpr BackingCalls kCalls{&::pwrite, &::pread, &call_fallocate, &call_pread_at_once};
  return kCalls;
}

Result<std::unique_ptr<FileBackingStore>> FileBackingStore::open(const std::string& path, std::uint64_t pages, std::string* why,
                                                                 const BackingCalls& calls) {
  if (!fits_file_size_limit("the backing file, which is as long as the address range,", pages * kPageSize, why)) return Status::exhausted;
  Opened file = open_file(path, why);
  if (!file.fd) return Status::exhausted;
  std::unique_ptr<FileBackingStore> store(new FileBackingStore(std::move(file.fd), std::move(file.name), pages, calls));
  if (!store->reserved_.valid()) {
    *why = "no address space for the table of the backing file: lower NETVM_ADDRESS_SPACE";
    return Status::exhausted;
  }
  if (::ftruncate(store->fd_.get(), static_cast<off_t>(pages * kPageSize)) != 0) {
    *why = std::string(store->name()) + " cannot be " + std::to_string(pages * kPageSize) + " bytes long" + because(errno);
    return Status::exhausted;
  }
  // A disk that is full already is refused now.
  if (const int error = store->reserve({PageId{0}, 1}); error != 0) {
    *why = std::string(store->name()) + " gets no space" + because(error) + ". Name another place with NETVM_BACKING";
    return Status::exhausted;
  }
  return store;
}

FileBackingStore::FileBackingStore(UniqueFd fd, std::string name, std::uint64_t pages, const BackingCalls& calls)
    : fd_(std::move(fd)), name_(std::move(name)), pages_(pages), calls_(calls), reserved_(pages / kExtent + 1) {}

int FileBackingStore::allocate(std::uint64_t first, std::uint64_t count) noexcept {
  for (;;) {
    if (calls_.fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first * kPageSize), static_cast<off_t>(count * kPageSize)) == 0)
      return 0;
    if (errno == EINTR) continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    can_reserve_.store(false);
    return 0;
  }
}

int FileBackingStore::reserve(PageRange pages) noexcept {
  if (!can_reserve_.load()) return 0;
  for (std::uint64_t extent = pages.first.value / kExtent; extent * kExtent < pages.end(); ++extent) {
    // acquire: the blocks that another thread has reserved; partner is the store below
    if (reserved_[extent].load(std::memory_order_acquire) != 0) continue;
    const std::uint64_t begin = extent * kExtent;
    const std::uint64_t end = std::min(begin + kExtent, pages_);
    if (allocate(begin, end - begin) == 0) {
      reserved_[extent].store(1, std::memory_order_release);  // release: partner is the load above
      continue;
    }
    // Not room for all of it, but perhaps for what is needed.
    const std::uint64_t first = std::max(begin, pages.first.value);
    const std::uint64_t last = std::min(end, pages.end());
    if (const int error = allocate(first, last - first); error != 0) return error;
  }
  return 0;
}

BackingResult FileBackingStore::write(PageRange pages, const std::byte* from) noexcept {
  const std::uint64_t begin = pages.first.value * kPageSize;
  if (const int error = reserve(pages); error != 0) return {error, begin};
  const std::uint64_t bytes = pages.count * kPageSize;
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t got = calls_.pwrite(fd_.get(), from + done, bytes - done, static_cast<off_t>(begin + done));
    if (got > 0) {
      done += static_cast<std::uint64_t>(got);
    } else if (got == 0 || errno != EINTR) {
      return {got == 0 ? ENOSPC : errno, begin + done};
    }
  }
  return {};
}

BackingResult FileBackingStore::read(PageRange pages, std::byte* to) noexcept {
  const std::uint64_t begin = pages.first.value * kPageSize;
  const std::uint64_t bytes = pages.count * kPageSize;
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t got = calls_.pread(fd_.get(), to + done, bytes - done, static_cast<off_t>(begin + done));
    if (got > 0) {
      done += static_cast<std::uint64_t>(got);
    } else if (got == 0 || errno != EINTR) {
      return {got == 0 ? EIO : errno, begin + done};  // an end of the file in here: somebody has cut it short
    }
  }
  return {};
}

BackingResult FileBackingStore::read_at_once(PageRange pages, std::byte* to) noexcept {
  const std::uint64_t begin = pages.first.value * kPageSize;
  const std::uint64_t bytes = pages.count * kPageSize;
  if (!reads_at_once()) return {EAGAIN, begin};
  const ssize_t got = calls_.pread_at_once(fd_.get(), to, bytes, static_cast<off_t>(begin));
  if (got == static_cast<ssize_t>(bytes)) return {};
  if (got < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) can_read_at_once_.store(false);
  return {EAGAIN, begin};  // an error, too: read() meets it again and says which
}

void FileBackingStore::forget(PageRange pages) noexcept {
  // Extents that lose blocks must be reserved again; their other pages keep theirs. A writer that misses the news writes into a hole: right,
  // but a full disk is then met by the kernel's own write-back only.
  for (std::uint64_t extent = pages.first.value / kExtent; extent * kExtent < pages.end(); ++extent) {
    if (reserved_[extent].load() != 0) reserved_[extent].store(0);
  }
  while (calls_.fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(pages.first.value * kPageSize),
                          static_cast<off_t>(pages.count * kPageSize)) != 0 &&
         errno == EINTR) {
  }
}

std::uint64_t FileBackingStore::bytes_in_use() const noexcept {
  struct stat info {};
  return ::fstat(fd_.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_blocks) * 512 : 0;
}

}  // namespace netvm
