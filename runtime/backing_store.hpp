// Backing store: where pages are kept that the memory budget has no room for. Page p lies at offset p * kPageSize, so neighbours are one
// system call, a slot needs no search, and nothing is allocated while a fault is served.
//
// Invariants
//  1. write() that succeeded: read() of those pages gives the same bytes, until the next write() or forget() of them. Nothing is promised of pages
//     that were never written, or whose last write() failed.
//  2. read() and write() may run inside a signal handler: no allocation, no locks of the C library.
//  3. The file store has disk blocks reserved for a page before the page is written, so a full disk is met by write(), not later by the kernel.
//  4. A file that the store did not make, or that holds something, is never touched.
// Threads: any; calls for one page are serialised by the caller.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"
#include "runtime/status.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm {

/// How a transfer ended.
struct BackingResult {
  int error = 0;             ///< errno; 0: all of it was transferred
  std::uint64_t offset = 0;  ///< where in the store it failed
  [[nodiscard]] bool ok() const { return error == 0; }
};

class BackingStore {
 public:
  virtual ~BackingStore() = default;
  virtual BackingResult write(PageRange pages, const std::byte* from) noexcept = 0;
  virtual BackingResult read(PageRange pages, std::byte* to) noexcept = 0;
  /// read(), where it takes no waiting, because the bytes are in memory. EAGAIN: it does, or nobody knows; the memory at `to` may have changed.
  virtual BackingResult read_at_once(PageRange /*pages*/, std::byte* /*to*/) noexcept { return {EAGAIN, 0}; }
  /// Whether read_at_once() may ever succeed.
  [[nodiscard]] virtual bool reads_at_once() const { return false; }
  /// The pages' contents are needed no more; their space is given back where that is possible.
  virtual void forget(PageRange pages) noexcept = 0;
  /// Space in use, in bytes.
  [[nodiscard]] virtual std::uint64_t bytes_in_use() const noexcept = 0;
  /// For messages: what a person would look for.
  [[nodiscard]] virtual const char* name() const = 0;
};

/// The system calls of the file store; a test hands in others.
struct BackingCalls {
  ssize_t (*pwrite)(int, const void*, std::size_t, off_t);
  ssize_t (*pread)(int, void*, std::size_t, off_t);
  int (*fallocate)(int, int, off_t, off_t);
  ssize_t (*pread_at_once)(int, void*, std::size_t, off_t) = nullptr;  ///< EAGAIN rather than wait; null: there is none
};
[[nodiscard]] const BackingCalls& system_backing_calls();

/// A sparse file.
class FileBackingStore final : public BackingStore {
 public:
  /// For `pages` pages. `path`: a folder (the file in it has no name and goes with the process), the name of a file that does not exist yet (it
  /// loses its name at once), or empty: a nameless file in $TMPDIR or /var/tmp. Not on failure: *why then says in a sentence what was wrong and what to do.
  static Result<std::unique_ptr<FileBackingStore>> open(const std::string& path, std::uint64_t pages, std::string* why,
                                                        const BackingCalls& calls = system_backing_calls());
  FileBackingStore(const FileBackingStore&) = delete;
  FileBackingStore& operator=(const FileBackingStore&) = delete;

  BackingResult write(PageRange pages, const std::byte* from) noexcept override;
  BackingResult read(PageRange pages, std::byte* to) noexcept override;
  BackingResult read_at_once(PageRange pages, std::byte* to) noexcept override;
  [[nodiscard]] bool reads_at_once() const override { return calls_.pread_at_once != nullptr && can_read_at_once_.load(); }
  void forget(PageRange pages) noexcept override;
  [[nodiscard]] const char* name() const override { return name_.c_str(); }
  [[nodiscard]] std::uint64_t bytes_in_use() const noexcept override;

 private:
  static constexpr std::uint64_t kExtent = 256;  // pages: 1 MiB is reserved at once

  FileBackingStore(UniqueFd fd, std::string name, std::uint64_t pages, const BackingCalls& calls);
  int reserve(PageRange pages) noexcept;  // errno
  int allocate(std::uint64_t first, std::uint64_t count) noexcept;

  UniqueFd fd_;
  std::string name_;
  std::uint64_t pages_;
  BackingCalls calls_;
  SparseArray<std::atomic<std::uint8_t>> reserved_;  // by extent: whether all of it has disk blocks
  std::atomic<bool> can_reserve_{true};              // false: this file system has no fallocate
  std::atomic<bool> can_read_at_once_{true};         // false: this file system cannot say whether a read would wait
};

}  // namespace netvm
