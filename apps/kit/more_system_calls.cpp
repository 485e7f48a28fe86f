// System calls of programs with threads, whose buffers lie on shared stacks or in the heap: the faults that the kernel needs are taken first. And calls that
// start other programs, which read their arguments in the middle of a system call: they get private copies.
#include <dirent.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/kit/descriptors.hpp"
#include "apps/kit/file_area.hpp"
#include "apps/kit/heap.hpp"
#include "apps/kit/malloc.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/stdio_calls.hpp"
#include "apps/kit/thread_state.hpp"
#include "apps/kit/with_rights.hpp"

namespace netvm::kit {

namespace {

NETVM_REAL(recv);
NETVM_REAL(recvfrom);
NETVM_REAL(send);
NETVM_REAL(sendto);
NETVM_REAL(sendmsg);
NETVM_REAL(recvmsg);
NETVM_REAL(preadv);
NETVM_REAL(pwritev);
NETVM_REAL(pipe);
NETVM_REAL(pipe2);
NETVM_REAL(socketpair);
NETVM_REAL(getrandom);
NETVM_REAL(waitpid);
NETVM_REAL(poll);
NETVM_REAL(uname);
NETVM_REAL(gethostname);
NETVM_REAL(readlink);
NETVM_REAL(getrlimit);
NETVM_REAL(getcwd);
NETVM_REAL(access);
NETVM_REAL(chmod);
NETVM_REAL(lstat);
NETVM_REAL(mkdir);
NETVM_REAL(opendir);
NETVM_REAL(remove);
NETVM_REAL(rename);
NETVM_REAL(rmdir);
NETVM_REAL(truncate);
NETVM_REAL(unlink);
NETVM_REAL(setvbuf);
NETVM_REAL(popen);
NETVM_REAL(pclose);
NETVM_REAL(closedir);
NETVM_REAL(freopen);
NETVM_REAL(posix_spawn);
NETVM_REAL(posix_spawnp);

/// The descriptors of a pair that was opened, with the call's result.
int adopt_both(int ends[2], int result) {
  if (result != 0) return result;
  for (int end = 0; end < 2; ++end) {
    if ((ends[end] = Descriptors::adopt(ends[end])) >= 0) continue;
    Descriptors::close(ends[1 - end]);
    return -1;
  }
  return 0;
}

/// A null-terminated array of strings, in private memory.
class PrivateStrings {
 public:
  explicit PrivateStrings(char* const* strings) {
    for (; strings != nullptr && *strings != nullptr; ++strings) texts_.emplace_back(*strings);
    for (std::string& text : texts_) pointers_.push_back(text.data());
    pointers_.push_back(nullptr);
  }
  [[nodiscard]] char* const* get() const { return pointers_.data(); }

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

template <class Spawn>
int spawn(Spawn&& real, pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
          char* const* argv, char* const* envp) {
  if (!program_calls()) return real(pid, path, actions, attributes, argv, envp);
  pid_t child = 0;
  const int error = in_runtime([&] {
    const std::string its_path(path);
    const PrivateStrings arguments(argv);
    const PrivateStrings environment(envp);
    std::unique_ptr<posix_spawnattr_t> its_attributes(attributes != nullptr ? new posix_spawnattr_t(*attributes) : nullptr);
    std::unique_ptr<posix_spawn_file_actions_t> its_actions(actions != nullptr ? new posix_spawn_file_actions_t(*actions) : nullptr);
    pid_t started = 0;
    const int result = real(&started, its_path.c_str(), its_actions.get(), its_attributes.get(), arguments.get(), environment.get());
    child = started;
    return result;
  });
  if (pid != nullptr) *pid = child;
  return error;
}

/// f(copies of both texts) on the private stack, errno included: for calls that give them to the kernel when they can no longer be made again.
template <class F>
FILE* with_private_texts(const char* first, const char* second, F&& f) {
  if (!program_calls() || first == nullptr) return f(first, second);
  int error = 0;
  FILE* const file = in_runtime([&] {
    const std::string its_first(first);
    const std::string its_second(second);
    FILE* const opened = f(its_first.c_str(), its_second.c_str());
    error = errno;
    return opened;
  });
  if (file == nullptr) errno = error;
  return file;
}

}  // namespace

}  // namespace netvm::kit

namespace kit = netvm::kit;
using netvm::kit::with_rights;
using netvm::kit::with_string;

extern "C" {

ssize_t recv(int fd, void* buffer, std::size_t bytes, int flags) {
  if (!kit::Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, true, [=] { return kit::real_recv(fd, buffer, bytes, flags); });
}
ssize_t recvfrom(int fd, void* buffer, std::size_t bytes, int flags, sockaddr* from, socklen_t* length) {
  if (!kit::Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, true, [=] {
    return with_rights(length, sizeof *length, true, [=] {
      return with_rights(from, from != nullptr ? *length : 0, true,
                         [=] { return kit::real_recvfrom(fd, buffer, bytes, flags, from, length); });
    });
  });
}
ssize_t send(int fd, const void* buffer, std::size_t bytes, int flags) {
  if (!kit::Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, false, [=] { return kit::real_send(fd, buffer, bytes, flags); });
}
ssize_t sendto(int fd, const void* buffer, std::size_t bytes, int flags, const sockaddr* to, socklen_t length) {
  if (!kit::Descriptors::here(fd)) return -1;
  return with_rights(buffer, bytes, false, [=] {
    return with_rights(to, length, false, [=] { return kit::real_sendto(fd, buffer, bytes, flags, to, length); });
  });
}
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (!kit::Descriptors::here(fd)) return -1;
  return kit::with_message(message, false, [=] { return kit::real_sendmsg(fd, message, flags); });
}
ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (!kit::Descriptors::here(fd)) return -1;
  return kit::with_message(message, true, [=] { return kit::real_recvmsg(fd, message, flags); });
}
ssize_t preadv(int fd, const iovec* segments, int count, off_t at) {
  if (!kit::Descriptors::here(fd)) return -1;
  return kit::with_segments(segments, static_cast<std::size_t>(count), true, [=] { return kit::real_preadv(fd, segments, count, at); });
}
ssize_t pwritev(int fd, const iovec* segments, int count, off_t at) {
  if (!kit::Descriptors::here(fd)) return -1;
  return kit::with_segments(segments, static_cast<std::size_t>(count), false, [=] { return kit::real_pwritev(fd, segments, count, at); });
}
int pipe(int ends[2]) noexcept {
  return kit::adopt_both(ends, with_rights(ends, 2 * sizeof(int), true, [=] { return kit::real_pipe(ends); }));
}
int pipe2(int ends[2], int flags) noexcept {
  return kit::adopt_both(ends, with_rights(ends, 2 * sizeof(int), true, [=] { return kit::real_pipe2(ends, flags); }));
}
int socketpair(int domain, int type, int protocol, int ends[2]) noexcept {
  return kit::adopt_both(ends,
                         with_rights(ends, 2 * sizeof(int), true, [=] { return kit::real_socketpair(domain, type, protocol, ends); }));
}
ssize_t getrandom(void* buffer, std::size_t bytes, unsigned flags) {
  return with_rights(buffer, bytes, true, [=] { return kit::real_getrandom(buffer, bytes, flags); });
}
// A child is waited for once: should another node take the page of `status` meanwhile, there is no second try.
pid_t waitpid(pid_t pid, int* status, int options) {
  if (!kit::program_calls()) return kit::real_waitpid(pid, status, options);
  int error = 0, its_status = 0;
  const pid_t child = kit::in_runtime([&, pid, options] {
    int found = 0;
    const pid_t ended = kit::real_waitpid(pid, &found, options);
    error = errno;
    its_status = found;
    return ended;
  });
  if (child == -1) errno = error;
  if (child > 0 && status != nullptr) *status = its_status;
  return child;
}
pid_t wait(int* status) { return waitpid(-1, status, 0); }
int poll(pollfd* files, nfds_t count, int timeout) {
  for (nfds_t i = 0; i < count; ++i)
    static_cast<void>(files[i].fd >= 0 && kit::Descriptors::here(files[i].fd));  // what is nobody's is POLLNVAL
  return with_rights(files, count * sizeof *files, true, [=] { return kit::real_poll(files, count, timeout); });
}
int uname(utsname* to) noexcept {
  return with_rights(to, sizeof *to, true, [=] { return kit::real_uname(to); });
}
int gethostname(char* to, std::size_t bytes) noexcept {
  return with_rights(to, bytes, true, [=] { return kit::real_gethostname(to, bytes); });
}
ssize_t readlink(const char* path, char* to, std::size_t bytes) noexcept {
  return with_string(path, [=] { return with_rights(to, bytes, true, [=] { return kit::real_readlink(path, to, bytes); }); });
}
int getrlimit(__rlimit_resource_t resource, rlimit* to) noexcept {
  return with_rights(to, sizeof *to, true, [=] { return kit::real_getrlimit(resource, to); });
}
// Of files by their names.
int access(const char* path, int how) noexcept {
  return with_string(path, [=] { return kit::real_access(path, how); });
}
int chmod(const char* path, mode_t mode) noexcept {
  return with_string(path, [=] { return kit::real_chmod(path, mode); });
}
int lstat(const char* path, struct stat* to) noexcept {
  return with_string(path, [=] { return with_rights(to, sizeof *to, true, [=] { return kit::real_lstat(path, to); }); });
}
int mkdir(const char* path, mode_t mode) noexcept {
  return with_string(path, [=] { return kit::real_mkdir(path, mode); });
}
DIR* opendir(const char* path) {
  DIR* folder = nullptr;
  (void)with_string(path, [&] { return (folder = kit::real_opendir(path)) != nullptr ? 0 : -1; });
  return folder;
}
int remove(const char* path) noexcept {
  return with_string(path, [=] { return kit::real_remove(path); });
}
int rename(const char* path, const char* to) noexcept {
  return with_string(path, [=] { return with_string(to, [=] { return kit::real_rename(path, to); }); });
}
int rmdir(const char* path) noexcept {
  return with_string(path, [=] { return kit::real_rmdir(path); });
}
int truncate(const char* path, off_t bytes) noexcept {
  return with_string(path, [=] { return kit::real_truncate(path, bytes); });
}
int unlink(const char* path) noexcept {
  return with_string(path, [=] { return kit::real_unlink(path); });
}

char* getcwd(char* to, std::size_t bytes) noexcept {
  if (to == nullptr && kit::program_calls()) {
    constexpr std::size_t kUsual = 4096;
    to = static_cast<char*>(kit::allocate_for_program(bytes != 0 ? bytes : kUsual));
    if (bytes == 0) bytes = kUsual;
  }
  char* result = nullptr;
  (void)with_rights(to, bytes, true, [&] { return (result = kit::real_getcwd(to, bytes)) != nullptr ? 0 : -1; });
  return result;
}

// The kernel would be given the buffer from inside the C library, which does not try again: the file keeps one of its own.
int setvbuf(FILE* file, char* buffer, int mode, std::size_t bytes) noexcept {
  kit::require_own_file("setvbuf()", file, __builtin_return_address(0));
  return kit::real_setvbuf(file, kit::Heap::is_shared(buffer) ? nullptr : buffer, mode, bytes);
}
void setbuf(FILE* file, char* buffer) noexcept { setvbuf(file, buffer, buffer != nullptr ? _IOFBF : _IONBF, BUFSIZ); }
void setbuffer(FILE* file, char* buffer, std::size_t bytes) noexcept { setvbuf(file, buffer, buffer != nullptr ? _IOFBF : _IONBF, bytes); }

FILE* popen(const char* command, const char* mode) {
  const kit::FileArea::Opening opening;
  return kit::Descriptors::adopt(kit::with_private_texts(
      command, mode, [](const char* its_command, const char* its_mode) { return kit::real_popen(its_command, its_mode); }));
}
int pclose(FILE* file) {
  kit::require_own_file("pclose()", file, __builtin_return_address(0));
  kit::Descriptors::recall(file->_fileno);
  return kit::in_runtime(
      [file] { return kit::real_pclose(file); });  // the C library is told the status on the stack, which is shared memory
}
int closedir(DIR* folder) {
  kit::Descriptors::recall(::dirfd(folder));
  return kit::real_closedir(folder);
}
// It closes the file before it opens the other: there is no second try.
FILE* freopen(const char* path, const char* mode, FILE* file) {
  kit::require_own_file("freopen()", file, __builtin_return_address(0));
  kit::Descriptors::recall(file->_fileno);
  return kit::Descriptors::adopt(kit::with_private_texts(
      path, mode, [file](const char* its_path, const char* its_mode) { return kit::real_freopen(its_path, its_mode, file); }));
}
FILE* freopen64(const char* path, const char* mode, FILE* file) { return freopen(path, mode, file); }
int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
                char* const* argv, char* const* envp) {
  return kit::spawn(kit::real_posix_spawn, pid, path, actions, attributes, argv, envp);
}
int posix_spawnp(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
                 char* const* argv, char* const* envp) {
  return kit::spawn(kit::real_posix_spawnp, pid, path, actions, attributes, argv, envp);
}

}  // extern "C"
