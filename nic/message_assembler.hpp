// Message assembler: puts the fragments of one channel's messages together. Fragments of a message are consecutive in the channel's
// sequence and arrive here in that order.
//
// Invariants
//  1. At most one message of a channel is under way. A fragment that does not continue it exactly is refused; the rest of the broken
//     message is refused too, and the next first fragment starts afresh.
//  2. Memory grows with the bytes that have arrived, never with the length that a header claims.
// Threads: the driver of the NIC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "nic/wire.hpp"

namespace netvm::nic {

class MessageAssembler final {
 public:
  enum class Step : std::uint8_t { whole, partial, refused };
  /// Takes the next fragment. whole: *body is the message, valid until the next call here.
  Step add(const PacketHeader& header, std::span<const std::byte> fragment, std::span<const std::byte>* body);
  void clear();

 private:
  static constexpr std::size_t kKeep = std::size_t{1} << 20;  // a longer buffer is given back after use

  std::vector<std::byte> buffer_;
  std::uint64_t total_ = 0;  // of the message under way; 0: none is
  std::uint8_t kind_ = 0;
};

}  // namespace netvm::nic
