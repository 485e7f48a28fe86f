#include <array>

#include "dsm/protocol.hpp"
#include "dsm/protocols/entry.hpp"
#include "dsm/protocols/erc.hpp"
#include "dsm/protocols/hlrc.hpp"
#include "dsm/protocols/lease.hpp"
#include "dsm/protocols/lrc.hpp"
#include "dsm/protocols/sc_directory.hpp"
#include "dsm/protocols/sc_dynamic.hpp"
#include "dsm/protocols/sc_fixed.hpp"
#include "dsm/protocols/scope.hpp"
#include "dsm/protocols/self.hpp"
#include "dsm/protocols/update.hpp"

namespace netvm::dsm {

std::span<const ProtocolEntry> protocols() {
  // The place in this list is a protocol's number on the wire: append only.
  static constexpr std::array kProtocols{
      ProtocolEntry{Hlrc::kTraits, Hlrc::make},       ProtocolEntry{ScDirectory::kTraits, ScDirectory::make},
      ProtocolEntry{Scope::kTraits, Scope::make},     ProtocolEntry{Entry::kTraits, Entry::make},
      ProtocolEntry{ScFixed::kTraits, ScFixed::make}, ProtocolEntry{ScDynamic::kTraits, ScDynamic::make},
      ProtocolEntry{Lrc::kTraits, Lrc::make},         ProtocolEntry{Erc::kTraits, Erc::make},
      ProtocolEntry{Update::kTraits, Update::make},   ProtocolEntry{Self::kTraits, Self::make},
      ProtocolEntry{Lease::kTraits, Lease::make},
  };
  return kProtocols;
}

int find_protocol(std::string_view name) {
  const std::span<const ProtocolEntry> all = protocols();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].traits.name == name) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace netvm::dsm
