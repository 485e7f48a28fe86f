// FileBackingStore: what is written comes back, whatever the system calls do on the way; and what cannot be is told.
#include "runtime/backing_store.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using namespace netvm;

namespace {

std::vector<std::byte> pattern(std::uint64_t pages, unsigned salt) {
  std::vector<std::byte> bytes(pages * kPageSize);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 31 + salt) >> 3);
  return bytes;
}

/// A folder that goes with its contents.
struct Folder {
  Folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~Folder() {
    for (const std::string& file : files) ::unlink((path + "/" + file).c_str());
    ::rmdir(path.c_str());
  }
  std::string path = "/tmp/netvm-test-XXXXXX";
  std::vector<std::string> files;
};

std::unique_ptr<FileBackingStore> open_store(std::uint64_t pages, const BackingCalls& calls = system_backing_calls()) {
  std::string why;
  auto store = FileBackingStore::open("", pages, &why, calls);
  REQUIRE_MESSAGE(store.has_value(), why);
  return std::move(store).value();
}

// What the injected calls do; the calls are plain functions.
thread_local int interruptions = 0;
thread_local int write_error = 0;
thread_local int read_error = 0;
thread_local int reserve_error = 0;
thread_local bool cut_short = false;

ssize_t odd_pwrite(int fd, const void* from, std::size_t bytes, off_t at) {
  if (interruptions++ % 3 == 0) return errno = EINTR, -1;
  if (write_error != 0) return errno = write_error, -1;
  return ::pwrite(fd, from, std::min<std::size_t>(bytes, 1000), at);
}
ssize_t odd_pread(int fd, void* to, std::size_t bytes, off_t at) {
  if (interruptions++ % 3 == 0) return errno = EINTR, -1;
  if (read_error != 0) return errno = read_error, -1;
  if (cut_short) return 0;
  return ::pread(fd, to, std::min<std::size_t>(bytes, 777), at);
}
int odd_fallocate(int fd, int mode, off_t at, off_t bytes) {
  if (interruptions++ % 3 == 0) return errno = EINTR, -1;
  const bool reserves = (mode & FALLOC_FL_PUNCH_HOLE) == 0;
  // The store asks for whole extents first: they do not fit, a few pages do.
  if (reserves && reserve_error != 0) return errno = reserve_error, -1;
  if (reserves && bytes > 64 * static_cast<off_t>(kPageSize)) return errno = ENOSPC, -1;
  return ::fallocate(fd, mode, at, bytes);
}
constexpr BackingCalls kOddCalls{&odd_pwrite, &odd_pread, &odd_fallocate};

struct CleanInjection {
  CleanInjection() { reset(); }
  ~CleanInjection() { reset(); }
  static void reset() {
    interruptions = write_error = read_error = reserve_error = 0;
    cut_short = false;
  }
};

}  // namespace

TEST_CASE("backing_store: pages come back as they were written, in any order and grouping") {
  auto store = open_store(10'000);
  const std::vector<std::byte> first = pattern(7, 1);
  const std::vector<std::byte> second = pattern(3, 2);
  REQUIRE(store->write({PageId{9'990}, 7}, first.data()).ok());
  REQUIRE(store->write({PageId{254}, 3}, second.data()).ok());  // over the border of an extent
  REQUIRE(store->write({PageId{9'992}, 3}, second.data()).ok());
  std::vector<std::byte> back(7 * kPageSize);
  REQUIRE(store->read({PageId{9'990}, 7}, back.data()).ok());
  CHECK(std::memcmp(back.data(), first.data(), 2 * kPageSize) == 0);
  CHECK(std::memcmp(back.data() + 2 * kPageSize, second.data(), 3 * kPageSize) == 0);
  CHECK(std::memcmp(back.data() + 5 * kPageSize, first.data() + 5 * kPageSize, 2 * kPageSize) == 0);
}

TEST_CASE("backing_store: short transfers and interruptions are gone on with") {
  const CleanInjection clean;
  auto store = open_store(1'000, kOddCalls);
  const std::vector<std::byte> bytes = pattern(20, 3);
  REQUIRE(store->write({PageId{100}, 20}, bytes.data()).ok());
  std::vector<std::byte> back(bytes.size());
  REQUIRE(store->read({PageId{100}, 20}, back.data()).ok());
  CHECK(back == bytes);
}

TEST_CASE("backing_store: a read at once gives all bytes, or EAGAIN; without the call always that") {
  const CleanInjection clean;
  auto store = open_store(1'000);
  const std::vector<std::byte> bytes = pattern(5, 3);
  REQUIRE(store->write({PageId{100}, 5}, bytes.data()).ok());
  std::vector<std::byte> back(bytes.size());
  const BackingResult read = store->read_at_once({PageId{100}, 5}, back.data());
  CHECK((read.ok() ? back == bytes : read.error == EAGAIN));
  auto without = open_store(1'000, kOddCalls);
  CHECK_FALSE(without->reads_at_once());
  CHECK(without->read_at_once({PageId{0}, 1}, back.data()).error == EAGAIN);
}

TEST_CASE("backing_store: errors name their number and place") {
  const CleanInjection clean;
  auto store = open_store(1'000, kOddCalls);
  std::vector<std::byte> bytes = pattern(4, 4);
  REQUIRE(store->write({PageId{8}, 4}, bytes.data()).ok());

  read_error = EIO;
  CHECK(store->read({PageId{8}, 4}, bytes.data()).error == EIO);
  CHECK(store->read({PageId{8}, 4}, bytes.data()).offset == 8 * kPageSize);
  read_error = 0;
  cut_short = true;
  CHECK(store->read({PageId{8}, 4}, bytes.data()).error == EIO);
  cut_short = false;

  write_error = EIO;
  CHECK(store->write({PageId{8}, 4}, bytes.data()).error == EIO);
  write_error = 0;
  reserve_error = ENOSPC;
  CHECK(store->write({PageId{600}, 4}, bytes.data()).error == ENOSPC);
  CHECK(store->write({PageId{600}, 4}, bytes.data()).offset == 600 * kPageSize);
  reserve_error = EOPNOTSUPP;  // a file system that cannot reserve serves all the same
  CHECK(store->write({PageId{600}, 4}, bytes.data()).ok());
}

TEST_CASE("backing_store: a disk that is full is met before the page is written") {
  const CleanInjection clean;
  auto store = open_store(1'000, kOddCalls);
  const std::vector<std::byte> bytes = pattern(1, 5);
  reserve_error = ENOSPC;
  write_error = EDOM;  // would show that it was tried
  CHECK(store->write({PageId{500}, 1}, bytes.data()).error == ENOSPC);
}

TEST_CASE("backing_store: a disk that is full at the start is refused") {
  const CleanInjection clean;
  reserve_error = ENOSPC;
  std::string why;
  CHECK(FileBackingStore::open("", 100, &why, kOddCalls).status() == Status::exhausted);
  CHECK(why.find("No space left") != std::string::npos);
  CHECK(why.find("NETVM_BACKING") != std::string::npos);
}

TEST_CASE("backing_store: what is forgotten gives its space back") {
  auto store = open_store(10'000);
  const std::vector<std::byte> bytes = pattern(512, 6);
  REQUIRE(store->write({PageId{1024}, 512}, bytes.data()).ok());
  const std::uint64_t full = store->bytes_in_use();
  CHECK(full >= 512 * kPageSize);
  store->forget({PageId{1024}, 512});
  CHECK(store->bytes_in_use() <= full - 512 * kPageSize);
  REQUIRE(store->write({PageId{1030}, 2}, bytes.data()).ok());
  std::vector<std::byte> back(2 * kPageSize);
  REQUIRE(store->read({PageId{1030}, 2}, back.data()).ok());
  CHECK(std::memcmp(back.data(), bytes.data(), back.size()) == 0);
}

TEST_CASE("backing_store: in a folder it has no name; a file of its own loses its name at once; what exists is never touched") {
  Folder folder;
  std::string why;
  const auto entries = [&] { return std::system(("test -z \"$(ls -A " + folder.path + ")\"").c_str()); };
  {
    auto store = FileBackingStore::open(folder.path, 100, &why);
    REQUIRE_MESSAGE(store.has_value(), why);
    CHECK(entries() == 0);
    CHECK(std::string((*store)->name()).find(folder.path) != std::string::npos);
  }
  const std::string file = folder.path + "/pages";
  folder.files.emplace_back("pages");
  {
    auto store = FileBackingStore::open(file, 100, &why);
    REQUIRE_MESSAGE(store.has_value(), why);
    CHECK(entries() == 0);  // a process that is killed leaves nothing
    CHECK(std::string((*store)->name()).find(file) != std::string::npos);
  }
  { const UniqueFd existing(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)); }
  CHECK(FileBackingStore::open(file, 100, &why).status() == Status::exhausted);
  CHECK(why.find("overwrites nothing") != std::string::npos);
  CHECK(::access(file.c_str(), F_OK) == 0);
  CHECK(FileBackingStore::open(folder.path + "/no/such", 100, &why).status() == Status::exhausted);
  CHECK(why.find("NETVM_BACKING") != std::string::npos);
}

TEST_CASE("backing_store: a limit on file sizes is a sentence, not a signal") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{1 << 20, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string why;
  const auto store = FileBackingStore::open("", 1'000, &why);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(store.status() == Status::exhausted);
  CHECK(why.find("ulimit -f") != std::string::npos);
}
