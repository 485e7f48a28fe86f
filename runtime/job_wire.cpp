#include "runtime/job_wire.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "runtime/dead_nodes.hpp"

namespace netvm::job {

static_assert(DeadNodes::kMost >= kMaxNodes, "every node of a job can be named dead");

namespace {

constexpr std::size_t kMaxDescriptors = 2 * kNodesPerDescriptors;

/// Appends fields to a payload.
class Writer {
 public:
  template <class T>
  Writer& number(T value) {
    return raw(std::as_bytes(std::span(&value, 1)));
  }
  Writer& raw(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  /// Length, then at most kMaxText bytes.
  Writer& text(std::string_view s) {
    s = s.substr(0, kMaxText);
    number(static_cast<std::uint32_t>(s.size()));
    return raw(std::as_bytes(std::span(s)));
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

/// Takes fields off a payload. After the first that is not there, ok() is false and everything reads as zero.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <class T>
  T number() {
    T value{};
    const auto bytes = raw(sizeof value);
    if (bytes.size() == sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::span<const std::byte> raw(std::size_t bytes) {
    if (!ok_ || bytes > in_.size()) {
      ok_ = false;
      return {};
    }
    const auto out = in_.first(bytes);
    in_ = in_.subspan(bytes);
    return out;
  }
  std::string text() {
    const auto length = number<std::uint32_t>();
    if (length > kMaxText) ok_ = false;
    const auto bytes = raw(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  /// What is left, if it is at most `limit` bytes.
  std::vector<std::byte> rest(std::size_t limit) {
    if (in_.size() > limit) ok_ = false;
    const auto bytes = raw(in_.size());
    return {bytes.begin(), bytes.end()};
  }
  /// Everything was there, and nothing is left over.
  [[nodiscard]] bool complete() const { return ok_ && in_.empty(); }

 private:
  std::span<const std::byte> in_;
  bool ok_ = true;
};

socklen_t abstract_address(const std::string& name, sockaddr_un* address) {
  if (name.size() < 2 || name[0] != '@' || name.size() > sizeof address->sun_path) {
    errno = EINVAL;
    throw_errno(fmt::format("'{}' is not the name of a job's socket (\"@\" and up to {} characters)", name, sizeof address->sun_path - 1));
  }
  *address = {};
  address->sun_family = AF_UNIX;
  std::memcpy(address->sun_path + 1, name.data() + 1, name.size() - 1);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
}

UniqueFd make_socket(int flags) {
  UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0)};
  if (!socket) throw_errno("cannot make a Unix socket");
  const int room = 512 * 1024;  // a frame must fit even where the system's default buffer is small; a hint, so its failure is none
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  return socket;
}

}  // namespace

bool parse_frame(std::span<const std::byte> packet, std::size_t descriptors, Frame* frame, std::string* why) {
  FrameHeader header;
  if (packet.size() < sizeof header) {
    *why = fmt::format("{} bytes are too short for a frame's header", packet.size());
    return false;
  }
  std::memcpy(&header, packet.data(), sizeof header);
  if (header.magic != kMagic) {
    *why = "this is not NetVM's job protocol";
    return false;
  }
  const std::string library = decode_text(std::as_bytes(std::span(header.library, ::strnlen(header.library, sizeof header.library))));
  if (header.version != kProtocolVersion || library != kLibraryVersion) {
    *why = fmt::format(
        "the other side is NetVM {} (job protocol {}), this is NetVM {} (job protocol {}); use one version for netvmrun and program",
        library, header.version, kLibraryVersion, kProtocolVersion);
    return false;
  }
  if (header.bytes != packet.size() - sizeof header || packet.size() > kMaxFrame) {
    *why = fmt::format("a frame says it has {} bytes of payload and has {}", header.bytes, packet.size() - sizeof header);
    return false;
  }
  if (header.descriptors != descriptors) {
    *why = fmt::format("a frame says it carries {} descriptors and carries {} (is the limit of open files, ulimit -n, too low?)",
                       header.descriptors, descriptors);
    return false;
  }
  if (header.type < static_cast<std::uint16_t>(FrameType::hello) || header.type > static_cast<std::uint16_t>(FrameType::died)) {
    *why = fmt::format("there is no frame of type {}", header.type);
    return false;
  }
  frame->type = static_cast<FrameType>(header.type);
  const auto payload = packet.subspan(sizeof header);
  frame->payload.assign(payload.begin(), payload.end());
  return true;
}

std::vector<std::byte> make_packet(FrameType type, std::span<const std::byte> payload, std::size_t descriptors) {
  FrameHeader header{};
  header.magic = kMagic;
  header.version = kProtocolVersion;
  header.type = static_cast<std::uint16_t>(type);
  header.bytes = static_cast<std::uint32_t>(payload.size());
  header.descriptors = static_cast<std::uint32_t>(descriptors);
  static_assert(kLibraryVersion.size() <= sizeof header.library);
  std::memcpy(header.library, kLibraryVersion.data(), kLibraryVersion.size());
  return Writer().number(header).raw(payload).take();
}

// ---- payloads -----------------------------------------------------------------------------------------------------

std::vector<std::byte> Hello::encode() const { return Writer().number(node).raw(secret).text(identity).text(executable).take(); }

std::optional<Hello> Hello::decode(std::span<const std::byte> payload) {
  Reader in(payload);
  Hello out;
  out.node = in.number<std::uint32_t>();
  const auto secret = in.raw(out.secret.size());
  std::copy(secret.begin(), secret.end(), out.secret.begin());
  out.identity = in.text();
  out.executable = in.text();
  if (!in.complete()) return std::nullopt;
  return out;
}

std::vector<std::byte> Welcome::encode() const {
  return Writer()
      .number(node)
      .number(nodes)
      .number(nodes_on_host)
      .number(index_on_host)
      .number(session)
      .number(static_cast<std::uint32_t>(outlives_nodes ? 1 : 0))
      .take();
}

std::optional<Welcome> Welcome::decode(std::span<const std::byte> payload) {
  Reader in(payload);
  Welcome out;
  out.node = in.number<std::uint32_t>();
  out.nodes = in.number<std::uint32_t>();
  out.nodes_on_host = in.number<std::uint32_t>();
  out.index_on_host = in.number<std::uint32_t>();
  out.session = in.number<std::uint64_t>();
  const auto outlives = in.number<std::uint32_t>();
  out.outlives_nodes = outlives == 1;
  const bool sane = outlives <= 1 && out.nodes >= 1 && out.nodes <= kMaxNodes && out.node < out.nodes && out.nodes_on_host >= 1 &&
                    out.nodes_on_host <= out.nodes && out.index_on_host < out.nodes_on_host && out.session != 0;
  if (!in.complete() || !sane) return std::nullopt;
  return out;
}

std::vector<std::byte> Descriptors::encode() const { return Writer().number(first).number(count).take(); }

std::optional<Descriptors> Descriptors::decode(std::span<const std::byte> payload) {
  Reader in(payload);
  Descriptors out;
  out.first = in.number<std::uint32_t>();
  out.count = in.number<std::uint32_t>();
  const bool sane = out.count >= 1 && out.count <= kNodesPerDescriptors && out.first < kMaxNodes && out.count <= kMaxNodes - out.first;
  if (!in.complete() || !sane) return std::nullopt;
  return out;
}

std::vector<std::byte> Exchange::encode() const { return Writer().number(round).number(limit_ms).raw(bytes).take(); }

std::optional<Exchange> Exchange::decode(std::span<const std::byte> payload) {
  Reader in(payload);
  Exchange out;
  out.round = in.number<std::uint32_t>();
  out.limit_ms = in.number<std::uint32_t>();
  out.bytes = in.rest(kMaxExchange);
  if (!in.complete()) return std::nullopt;
  return out;
}

std::vector<std::byte> Died::encode() const { return Writer().number(node).take(); }

std::optional<Died> Died::decode(std::span<const std::byte> payload) {
  Reader in(payload);
  const Died out{in.number<std::uint32_t>()};
  if (!in.complete() || out.node >= kMaxNodes) return std::nullopt;
  return out;
}

std::vector<std::byte> Gathered::encode() const { return Writer().number(round).number(node).raw(bytes).take(); }

std::optional<Gathered> Gathered::decode(std::span<const std::byte> payload) {
  Reader in(payload);
  Gathered out;
  out.round = in.number<std::uint32_t>();
  out.node = in.number<std::uint32_t>();
  out.bytes = in.rest(kMaxExchange);
  if (!in.complete() || out.node >= kMaxNodes) return std::nullopt;
  return out;
}

std::vector<std::byte> encode_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.substr(0, kMaxText)));
  return {bytes.begin(), bytes.end()};
}

std::string decode_text(std::span<const std::byte> payload) {
  payload = payload.first(std::min(payload.size(), kMaxText));
  std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
  for (char& c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c != '\n' && (u < 0x20 || u == 0x7f)) c = '?';
  }
  return text;
}

// ---- secrets ------------------------------------------------------------------------------------------------------

namespace {
void random_bytes(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno != EINTR) throw_errno("cannot get random bytes from the kernel");
    if (got > 0) out = out.subspan(static_cast<std::size_t>(got));
  }
}
}  // namespace

Secret make_secret() {
  Secret secret;
  random_bytes(secret);
  return secret;
}

std::uint64_t random_nonzero() {
  std::uint64_t value = 0;
  while (value == 0) random_bytes(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string hex;
  for (const std::byte b : bytes) hex += fmt::format("{:02x}", static_cast<unsigned>(b));
  return hex;
}

std::optional<Secret> secret_from_hex(std::string_view hex) {
  Secret secret;
  if (hex.size() != 2 * secret.size()) return std::nullopt;
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (std::size_t i = 0; i < secret.size(); ++i) {
    const auto high = kDigits.find(hex[2 * i]);
    const auto low = kDigits.find(hex[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    secret[i] = static_cast<std::byte>(high * 16 + low);
  }
  return secret;
}

void throw_errno(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

bool same_secret(const Secret& a, const Secret& b) {
  volatile unsigned difference = 0;  // volatile: the loop must not end early
  for (std::size_t i = 0; i < a.size(); ++i) difference = difference | static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

// ---- sockets ------------------------------------------------------------------------------------------------------

UniqueFd listen_at(const std::string& name) {
  sockaddr_un address;
  const socklen_t length = abstract_address(name, &address);
  UniqueFd socket = make_socket(SOCK_NONBLOCK);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) throw_errno("cannot take the socket name " + name);
  if (::listen(socket.get(), static_cast<int>(kMaxNodes)) != 0) throw_errno("cannot listen on " + name);
  return socket;
}

UniqueFd connect_to(const std::string& name) {
  sockaddr_un address;
  const socklen_t length = abstract_address(name, &address);
  UniqueFd socket = make_socket(0);
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    if (errno != EINTR) throw_errno("cannot connect to the launcher's socket " + name);
  }
  return socket;
}

UniqueFd make_memory_file(const std::string& name) {
  UniqueFd fd{::memfd_create(name.c_str(), MFD_CLOEXEC)};
  if (!fd) throw_errno("cannot make the memory file " + name);
  return fd;
}

std::optional<Peer> peer_of(int socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return std::nullopt;
  return Peer{credentials.uid, credentials.pid};
}

Io send_packet(int socket, std::span<const std::byte> packet, std::span<const int> descriptors, bool wait) {
  iovec part{const_cast<std::byte*>(packet.data()), packet.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    const std::size_t bytes = descriptors.size_bytes();
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
  }
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
    if (sent >= 0) return Io::done;
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return Io::would_block;
    // More descriptors are on their way than the user may have; they become fewer as nodes receive theirs.
    if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM) return Io::crowded;
    return Io::closed;
  }
}

Io receive_frame(int socket, Frame* frame, std::string* why) {
  std::vector<std::byte> packet(kMaxFrame + 1);  // one more: a longer packet shows as too long
  iovec part{packet.data(), packet.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN ? Io::would_block : Io::closed;
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  if (got == 0) return Io::closed;  // no frame is empty
  packet.resize(static_cast<std::size_t>(got));
  if (!parse_frame(packet, descriptors.size(), frame, why)) return Io::broken;
  frame->descriptors = std::move(descriptors);
  return Io::done;
}

}  // namespace netvm::job
