// The control protocol between netvmrun and the nodes: frames over an abstract Unix socket (SOCK_SEQPACKET, so that the kernel keeps
// frames apart and descriptors with the frame that names them). Both sides use this file.
//
// A conversation:  node: hello                         launcher: welcome, descriptors*, or refused
//                  node: exchange                      launcher: gathered x nodes, or failed
//                  node: watching                      launcher: died x deaths, whenever one happens
//                  node: report*, leave | abort        launcher: -
//
// Invariants
//  1. Whatever arrives is judged here, once: parse_frame() and the decode() functions accept exactly what encode makes, and say
//     what is wrong otherwise. They read no byte outside the packet.
//  2. The header never changes between versions: two sides of different versions can always tell each other theirs.
//  3. No frame is larger than kMaxFrame; longer things travel in pieces.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace netvm::job {

inline constexpr std::uint32_t kMagic = 0x4a4d564e;  // "NVMJ" in memory
inline constexpr std::uint16_t kProtocolVersion = 1;
/// The library's version, checked at joining. apps/netvmrun/CMakeLists.txt holds it to the project's.
inline constexpr std::string_view kLibraryVersion = "0.1.0";
inline constexpr std::uint32_t kMaxNodes = 256;
/// The most that one node gives to an exchange, and the size of a report's pieces.
inline constexpr std::size_t kMaxExchange = 64 * 1024;
inline constexpr std::size_t kMaxText = 4 * 1024;
/// A node may hand over a report of at most this size; what is beyond it is dropped.
inline constexpr std::size_t kMaxReport = std::size_t{64} << 20;
/// Descriptors of this many nodes travel in one frame (two each; the kernel's limit is 253 descriptors).
inline constexpr std::uint32_t kNodesPerDescriptors = 64;

inline constexpr std::string_view kRendezvousVariable = "NETVM_RENDEZVOUS";
inline constexpr std::string_view kNodeVariable = "NETVM_NODE";
inline constexpr std::string_view kKeyVariable = "NETVM_JOB_KEY";

enum class FrameType : std::uint16_t {
  hello = 1,    ///< node -> launcher: who I am, and the secret
  welcome,      ///< launcher -> node: the job
  refused,      ///< launcher -> node: text; the connection ends
  descriptors,  ///< launcher -> node: frames and device memory of some nodes
  exchange,     ///< node -> launcher: my contribution to a round
  gathered,     ///< launcher -> node: one node's contribution to a round
  failed,       ///< launcher -> node: text; the round will never complete
  report,       ///< node -> launcher: a piece of the report
  leave,        ///< node -> launcher: farewell
  abort,        ///< node -> launcher: text; end the job
  watching,     ///< node -> launcher: from now on this node can go on without others
  died,         ///< launcher -> node: a node has ended, and the job goes on
};

struct FrameHeader {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t type;
  std::uint32_t bytes;        ///< of the payload
  std::uint32_t descriptors;  ///< that travel with it
  char library[16];           ///< the sender's kLibraryVersion, NUL-padded
};
static_assert(sizeof(FrameHeader) == 32 && alignof(FrameHeader) == 4);
inline constexpr std::size_t kMaxFrame = sizeof(FrameHeader) + 16 + kMaxExchange;

struct Frame {
  FrameType type{};
  std::vector<std::byte> payload;
  std::vector<UniqueFd> descriptors;
};

/// Judges one packet. On success fills type and payload of `*frame`; otherwise returns false and says why, for a person.
[[nodiscard]] bool parse_frame(std::span<const std::byte> packet, std::size_t descriptors, Frame* frame, std::string* why);
/// The packet of a frame, without its descriptors.
[[nodiscard]] std::vector<std::byte> make_packet(FrameType type, std::span<const std::byte> payload, std::size_t descriptors);

// ---- payloads -----------------------------------------------------------------------------------------------------
using Secret = std::array<std::byte, 32>;

struct Hello {
  std::uint32_t node = 0;
  Secret secret{};
  std::string identity;    ///< names the executable's build: all nodes must run the same one
  std::string executable;  ///< its path, for messages
  [[nodiscard]] std::vector<std::byte> encode() const;
  static std::optional<Hello> decode(std::span<const std::byte> payload);
};

struct Welcome {
  std::uint32_t node = 0;
  std::uint32_t nodes = 0;
  std::uint32_t nodes_on_host = 0;
  std::uint32_t index_on_host = 0;
  std::uint64_t session = 0;
  bool outlives_nodes = false;
  [[nodiscard]] std::vector<std::byte> encode() const;
  static std::optional<Welcome> decode(std::span<const std::byte> payload);
};

/// Nodes [first, first + count); each has two descriptors in the frame: frames, device.
struct Descriptors {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  [[nodiscard]] std::vector<std::byte> encode() const;
  static std::optional<Descriptors> decode(std::span<const std::byte> payload);
};

struct Exchange {
  std::uint32_t round = 0;
  std::uint32_t limit_ms = 0;  ///< how long this node waits for the others
  std::vector<std::byte> bytes;
  [[nodiscard]] std::vector<std::byte> encode() const;
  static std::optional<Exchange> decode(std::span<const std::byte> payload);
};

struct Gathered {
  std::uint32_t round = 0;
  std::uint32_t node = 0;
  std::vector<std::byte> bytes;
  [[nodiscard]] std::vector<std::byte> encode() const;
  static std::optional<Gathered> decode(std::span<const std::byte> payload);
};

struct Died {
  std::uint32_t node = 0;
  [[nodiscard]] std::vector<std::byte> encode() const;
  static std::optional<Died> decode(std::span<const std::byte> payload);
};

/// refused, failed, abort: a sentence; cut at kMaxText, control characters replaced (it ends on a terminal).
[[nodiscard]] std::vector<std::byte> encode_text(std::string_view text);
[[nodiscard]] std::string decode_text(std::span<const std::byte> payload);

// ---- secrets ------------------------------------------------------------------------------------------------------
[[nodiscard]] Secret make_secret();
[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);
[[nodiscard]] std::optional<Secret> secret_from_hex(std::string_view hex);
/// Takes the same time wherever the two differ.
[[nodiscard]] bool same_secret(const Secret& a, const Secret& b);
/// From the kernel; never 0.
[[nodiscard]] std::uint64_t random_nonzero();

// ---- sockets ------------------------------------------------------------------------------------------------------
/// Throws std::system_error with errno.
[[noreturn]] void throw_errno(const std::string& what);

/// Both throw std::system_error. Names are abstract: "@netvm-..." with '@' standing for the NUL.
[[nodiscard]] UniqueFd listen_at(const std::string& name);
[[nodiscard]] UniqueFd connect_to(const std::string& name);

/// A memory file (memfd) of no size yet; `name` shows in /proc/PID/maps. Throws std::system_error.
[[nodiscard]] UniqueFd make_memory_file(const std::string& name);

struct Peer {
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
};
[[nodiscard]] std::optional<Peer> peer_of(int socket);

enum class Io : std::uint8_t {
  done,
  would_block,
  crowded,  ///< too many descriptors are on their way; try again in a moment
  closed,   ///< the other side is gone
  broken,   ///< not a frame; `why` says what is wrong with it
};
/// Sends a packet of make_packet(). `wait`: block until there is room.
[[nodiscard]] Io send_packet(int socket, std::span<const std::byte> packet, std::span<const int> descriptors, bool wait);
/// Receives one frame; does not block.
[[nodiscard]] Io receive_frame(int socket, Frame* frame, std::string* why);

}  // namespace netvm::job
