// How the coherence payloads of several protocols travel in one: sections of (protocol number, length, bytes), each protocol at most once, in
// ascending order; empty ones are left out. Numbers are varints.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "sync/coherence_hook.hpp"

namespace netvm::dsm {

struct PayloadSection {
  unsigned protocol = 0;
  std::span<const std::byte> bytes;
};

/// Appends a section; nothing if `bytes` is empty.
void append_section(unsigned protocol, std::span<const std::byte> bytes, sync::Bytes& out);
/// The section of that protocol, if there is no other; of an empty payload an empty one.
[[nodiscard]] std::optional<std::span<const std::byte>> only_section(std::span<const std::byte> payload, unsigned protocol);
/// Splits a payload. False if malformed or naming a protocol that does not exist.
[[nodiscard]] bool split_payload(std::span<const std::byte> payload, std::vector<PayloadSection>& out);

}  // namespace netvm::dsm
