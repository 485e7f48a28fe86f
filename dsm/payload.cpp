#include "dsm/payload.hpp"

#include "dsm/protocol.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

void append_section(unsigned protocol, std::span<const std::byte> bytes, sync::Bytes& out) {
  if (bytes.empty()) return;
  put_varint(out, protocol);
  put_varint(out, bytes.size());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::optional<std::span<const std::byte>> only_section(std::span<const std::byte> payload, unsigned protocol) {
  if (payload.empty()) return payload;
  WireReader reader(payload);
  const std::uint64_t whose = reader.varint();
  const std::span<const std::byte> bytes = reader.bytes(reader.varint());
  if (!reader.ok() || !reader.at_end() || whose != protocol) return std::nullopt;
  return bytes;
}

bool split_payload(std::span<const std::byte> payload, std::vector<PayloadSection>& out) {
  WireReader reader(payload);
  std::uint64_t next = 0;  // sections ascend
  while (!reader.at_end()) {
    const std::uint64_t protocol = reader.varint();
    const std::span<const std::byte> bytes = reader.bytes(reader.varint());
    if (!reader.ok() || protocol < next || protocol >= protocols().size()) return false;
    next = protocol + 1;
    out.push_back({static_cast<unsigned>(protocol), bytes});
  }
  return reader.ok();
}

}  // namespace netvm::dsm
