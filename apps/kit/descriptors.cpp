#include "apps/kit/descriptors.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "runtime/job_wire.hpp"
#include "runtime/signals_blocked.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm::kit {

namespace {

constexpr unsigned kSelectable = 1024;  // what an fd_set holds
constexpr unsigned kRoom = 16;          // numbers below the slices, for descriptors that NetVM opens later
constexpr unsigned kMostHigh = 4096;    // of a node

using NodeSet = std::bitset<job::kMaxNodes>;

// ---- what nodes ask each other ---------------------------------------------------------------------------------------------------------

enum class Ask : std::uint32_t {
  give,         // of the owner: the descriptor; the asker has a copy from now on
  begin_close,  // of the owner: who has copies; it gives none away until the end
  end_close,    // of the owner: closes it
  drop,         // of another: closes its copy
};

struct Request {
  Ask what = Ask::give;
  std::int32_t fd = -1;
  std::int32_t from = 0;
};

struct Reply {
  std::int32_t error = 0;
  NodeSet copies;
};

struct Address {
  sockaddr_un name{};
  socklen_t bytes = 0;
};

/// Of another node's descriptor.
struct Copy {
  bool here = false;
  unsigned drops = 0;  // one that comes after another drop than it was asked for is closed already at its owner
};

/// This node's own that others may have copies of, and its copies of theirs.
struct Books {
  std::mutex mutex;
  std::map<int, NodeSet> lent;
  std::set<int> closing;
  std::map<int, Copy> copies;
};

Books& books() {
  static auto* const all = new Books;  // never destroyed: threads may be inside
  return *all;
}

NETVM_REAL(close);

int g_node = 0;
unsigned g_nodes = 1;
unsigned g_first = 0, g_low_width = 0;                  // the slices below 1024: of node n from g_first + n * g_low_width on
unsigned g_high_first = kSelectable, g_high_width = 0;  // and those above
std::vector<Address> g_addresses;
int g_service = -1;

bool is_live(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

/// A datagram socket with a name that the system chooses.
UniqueFd make_socket(Address* address) {
  UniqueFd fd{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  address->name.sun_family = AF_UNIX;
  address->bytes = sizeof address->name;
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address->name), sizeof(sa_family_t)) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address->name), &address->bytes) != 0)
    throw std::system_error(errno, std::generic_category(), "a socket between the nodes");
  return fd;
}

/// Ancillary data: one descriptor, or the sender's credentials.
union Ancillary {
  std::array<char, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int))> bytes;
  cmsghdr aligned;
};

/// Of this node's copy: somebody closes it. Returns whether there was one. Under the books' mutex.
bool forget_copy(int fd) {
  Copy& copy = books().copies[fd];
  ++copy.drops;
  return std::exchange(copy.here, false);
}

/// The owner's part. Never waits (invariant 2). `give`: the descriptor to send.
Reply answer(const Request& request, int* give) {
  Books& all = books();
  Reply reply;
  const std::lock_guard guard(all.mutex);
  if (request.what == Ask::drop) {
    if (forget_copy(request.fd)) ::close(request.fd);
    return reply;
  }
  const bool closing = all.closing.count(request.fd) != 0;
  switch (request.what) {
    case Ask::give:
      if (closing || !is_live(request.fd)) {
        reply.error = EBADF;
      } else {
        all.lent[request.fd].set(static_cast<std::size_t>(request.from));
        *give = request.fd;
      }
      break;
    case Ask::begin_close:
      if (closing || !is_live(request.fd)) {
        reply.error = EBADF;
      } else {
        all.closing.insert(request.fd);
        reply.copies = all.lent[request.fd];
        all.lent.erase(request.fd);
      }
      break;
    default:
      all.closing.erase(request.fd);
      reply.error = ::close(request.fd) == 0 ? 0 : errno;
  }
  return reply;
}

void serve_one() {
  Request request;
  Ancillary ancillary;
  Address asker;
  iovec part{&request, sizeof request};
  msghdr message{};
  message.msg_name = &asker.name;
  message.msg_namelen = sizeof asker.name;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &ancillary;
  message.msg_controllen = sizeof ancillary;
  if (::recvmsg(g_service, &message, MSG_CMSG_CLOEXEC) != sizeof request) return;
  const cmsghdr* const who = CMSG_FIRSTHDR(&message);
  ucred credentials{};
  if (who == nullptr || who->cmsg_type != SCM_CREDENTIALS) return;
  std::memcpy(&credentials, CMSG_DATA(who), sizeof credentials);
  if (credentials.uid != ::getuid()) return;  // anybody on the host can write to the name
  int give = -1;
  Reply reply = answer(request, &give);
  part = {&reply, sizeof reply};
  message.msg_control = nullptr;
  message.msg_controllen = 0;
  if (give >= 0) {
    message.msg_control = &ancillary;
    message.msg_controllen = CMSG_SPACE(sizeof give);
    cmsghdr* const sent = CMSG_FIRSTHDR(&message);
    sent->cmsg_level = SOL_SOCKET;
    sent->cmsg_type = SCM_RIGHTS;
    sent->cmsg_len = CMSG_LEN(sizeof give);
    std::memcpy(CMSG_DATA(sent), &give, sizeof give);
  }
  static_cast<void>(::sendmsg(g_service, &message, MSG_NOSIGNAL));
}

/// Asks a node and waits for its answer; `given`: the descriptor that comes with it.
Reply ask(int node, Ask what, int fd, UniqueFd* given = nullptr) {
  const Request request{what, fd, g_node};
  if (node == g_node) {
    int give = -1;
    return answer(request, &give);
  }
  Address mine;
  const UniqueFd socket = make_socket(&mine);
  const Address& there = g_addresses[static_cast<std::size_t>(node)];
  Reply reply;
  reply.error = EIO;
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&there.name), there.bytes) != 0 ||
      ::send(socket.get(), &request, sizeof request, MSG_NOSIGNAL) != sizeof request)
    return reply;
  Ancillary ancillary;
  iovec part{&reply, sizeof reply};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &ancillary;
  message.msg_controllen = sizeof ancillary;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  const cmsghdr* const sent = CMSG_FIRSTHDR(&message);
  if (given != nullptr && sent != nullptr && sent->cmsg_type == SCM_RIGHTS) {
    int fd_here = -1;
    std::memcpy(&fd_here, CMSG_DATA(sent), sizeof fd_here);
    given->reset(fd_here);
  }
  if (got != sizeof reply) reply.error = EIO;
  return reply;
}

/// in_runtime().
void drop_copies(const NodeSet& copies, int fd) {
  for (std::size_t node = 0; node < g_nodes; ++node) {
    if (copies.test(node)) static_cast<void>(ask(static_cast<int>(node), Ask::drop, fd));
  }
}

/// Closes the number at its owner and wherever it was lent to. `caller_closes`: but for this node's copy. Returns errno's value, or 0. in_runtime().
int end_for_all(int owner, int fd, bool caller_closes) {
  Reply begun = ask(owner, Ask::begin_close, fd);
  if (begun.error != 0) return begun.error;
  if (caller_closes) {
    begun.copies.reset(static_cast<std::size_t>(g_node));
    const std::lock_guard guard(books().mutex);
    static_cast<void>(forget_copy(fd));
  }
  drop_copies(begun.copies, fd);
  return ask(owner, Ask::end_close, fd).error;
}

unsigned highest_descriptor() {
  unsigned highest = 2;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    highest = std::max(highest, static_cast<unsigned>(std::stoul(entry.path().filename())));
  return highest;
}

/// A duplicate in one of the slices, which are (first number, width); -1: they are full. in_runtime().
int duplicate_into(int fd, std::initializer_list<std::pair<unsigned, unsigned>> slices) {
  const int how = (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD;
  for (const auto& [first, width] : slices) {
    const int found = width != 0 ? ::fcntl(fd, how, static_cast<int>(first)) : -1;
    if (static_cast<unsigned>(found) - first < width) return found;
    if (found >= 0) ::close(found);
  }
  return -1;
}

}  // namespace

void Descriptors::open(Kit& kit) {
  g_node = kit.node();
  g_nodes = static_cast<unsigned>(kit.nodes());
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, kSelectable + rlim_t{kMostHigh} * g_nodes);  // the slices above
    static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
    static_cast<void>(::getrlimit(RLIMIT_NOFILE, &limit));
  }
  struct Facts {
    Address service;
    unsigned highest;
    unsigned limit;
  } mine{};
  UniqueFd service = make_socket(&mine.service);
  const int on = 1;
  if (::setsockopt(service.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    throw std::system_error(errno, std::generic_category(), "a socket between the nodes");
  mine.limit = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, kSelectable + rlim_t{kMostHigh} * g_nodes));
  mine.highest = highest_descriptor();
  unsigned end = mine.limit;
  for (const Facts& node : kit.runtime().exchange(mine)) {
    g_addresses.push_back(node.service);
    g_first = std::max(g_first, node.highest + 1 + kRoom);
    end = std::min(end, node.limit);
  }
  g_high_first = std::max(kSelectable, g_first);
  const auto width = [](unsigned first, unsigned last) { return (std::max(first, last) - first) / g_nodes; };
  g_low_width = width(g_first, std::min(end, kSelectable));
  g_high_width = width(g_high_first, end);
  const auto me = static_cast<unsigned>(g_node);
  low_ = g_first + me * g_low_width;
  low_width_ = g_low_width;
  high_ = g_high_first + me * g_high_width;
  high_width_ = g_high_width;
  g_service = service.release();
  if (g_nodes > 1) {
    const SignalsBlocked signals;
    std::thread([] {
      for (;;) serve_one();
    }).detach();
  }
  open_.store(true, std::memory_order_release);  // release: partner is is_open()
}

int Descriptors::owner_of(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (fd == 0) return 0;
  if (number - g_first < g_low_width * g_nodes) return static_cast<int>((number - g_first) / g_low_width);
  if (number - g_high_first < g_high_width * g_nodes) return static_cast<int>((number - g_high_first) / g_high_width);
  return -1;
}

int Descriptors::move(int fd) {
  const int moved = in_runtime([fd] {
    const int found = duplicate_into(fd, {{low_, low_width_}, {high_, high_width_}});
    ::close(fd);
    return found;
  });
  if (moved < 0) errno = EMFILE;
  return moved;
}

FILE* Descriptors::adopt(FILE* file) {
  if (!is_open() || file == nullptr || file->_fileno <= 2 || is_mine(file->_fileno) || !program_calls()) return file;
  const int before = file->_fileno;
  const int moved = in_runtime([before] {
    const int found = duplicate_into(before, {{low_, low_width_}, {high_, high_width_}});
    if (found >= 0) ::close(before);
    return found;
  });
  if (moved >= 0) file->_fileno = moved;  // else it keeps its own, which is of use on this node only
  return file;
}

bool Descriptors::bring(int fd) {
  const int owner = owner_of(fd);
  if (owner == g_node) return true;
  if (owner < 0) {  // a library's own, or NetVM's
    if (static_cast<unsigned>(fd) >= g_first || fd < 0) return true;
    const int flags = in_runtime([fd] { return ::fcntl(fd, F_GETFD); });
    if (flags < 0) errno = EBADF;
    return flags >= 0;
  }
  const int error = in_runtime([=]() -> int {
    Books& all = books();
    unsigned drops = 0;
    {
      const std::lock_guard guard(all.mutex);
      const Copy& copy = all.copies[fd];
      if (is_live(fd) && (copy.here || fd != 0)) return 0;  // the copy, or what a library opened here
      drops = copy.drops;
    }
    UniqueFd given;
    const Reply reply = ask(owner, Ask::give, fd, &given);
    if (reply.error == EBADF) return EBADF;
    const std::lock_guard guard(all.mutex);
    Copy& copy = all.copies[fd];
    if (copy.drops != drops) return EBADF;  // closed meanwhile
    if (reply.error != 0 || !given || ::dup3(given.get(), fd, O_CLOEXEC) != fd) return EIO;
    copy.here = true;
    return 0;
  });
  if (error == EIO) {
    misuse("a file descriptor",
           fmt::format(
               "descriptor {} was opened on node {} and cannot be had here: use it in a thread of that node (NETVM_PLACE), or open the "
               "file here",
               fd, owner));
  }
  if (error != 0) errno = error;
  return error == 0;
}

int Descriptors::close(int fd) {
  if (!is_open() || !program_calls() || (fd >= 0 && fd <= 2)) return real_close(fd);
  const int owner = owner_of(fd);
  const int error = in_runtime([=]() -> int {
    if (owner < 0) return static_cast<unsigned>(fd) < g_first ? EBADF : real_close(fd) == 0 ? 0 : errno;  // NetVM's are not there for it
    return end_for_all(owner, fd, false);
  });
  if (error != 0) errno = error;
  return error == 0 ? 0 : -1;
}

void Descriptors::recall(int fd) {
  if (!is_open() || fd <= 2 || !program_calls()) return;
  const int owner = owner_of(fd);
  if (owner < 0) return;
  in_runtime([=] {
    if (owner != g_node) {
      static_cast<void>(end_for_all(owner, fd, true));
      return;
    }
    NodeSet copies;
    {
      Books& all = books();
      const std::lock_guard guard(all.mutex);
      const auto found = all.lent.find(fd);
      if (found == all.lent.end()) return;
      copies = found->second;
      all.lent.erase(found);
    }
    drop_copies(copies, fd);
  });
}

void Descriptors::require_target(const char* call, int fd) {
  if (!is_open() || !program_calls() || is_mine(fd)) return;
  if (fd == 0 && g_node != 0) misuse(call, "descriptor 0 is node 0's for the threads of all nodes: let a thread there do that");
  if (fd <= 2) return;
  const int owner = owner_of(fd);
  if (owner < 0 && static_cast<unsigned>(fd) >= g_first) return;
  misuse(call, owner >= 0
                   ? fmt::format("number {} is one of node {}'s: let a thread there do that, or use dup()", fd, owner)
                   : fmt::format("number {} may be a descriptor of NetVM's on some node: use dup(), or a number from {} on", fd, g_first));
}

}  // namespace netvm::kit
