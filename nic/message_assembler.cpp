#include "nic/message_assembler.hpp"

#include <algorithm>

namespace netvm::nic {

MessageAssembler::Step MessageAssembler::add(const PacketHeader& header, std::span<const std::byte> fragment,
                                             std::span<const std::byte>* body) {
  if (total_ == 0) {
    if (header.offset != 0) return Step::refused;
    if (fragment.size() == header.total) {  // the usual case: no copy
      *body = fragment;
      return Step::whole;
    }
    if (buffer_.capacity() > kKeep) clear();
    buffer_.clear();
    total_ = header.total;
    kind_ = header.code;
  } else if (header.offset != buffer_.size() || header.total != total_ || header.code != kind_) {
    total_ = 0;
    return Step::refused;
  }
  if (buffer_.capacity() - buffer_.size() < fragment.size()) {
    buffer_.reserve(std::min<std::uint64_t>(total_, std::max<std::uint64_t>(2 * buffer_.capacity(), buffer_.size() + fragment.size())));
  }
  buffer_.insert(buffer_.end(), fragment.begin(), fragment.end());
  if (buffer_.size() < total_) return Step::partial;
  total_ = 0;
  *body = buffer_;
  return Step::whole;
}

void MessageAssembler::clear() {
  buffer_ = {};
  total_ = 0;
}

}  // namespace netvm::nic
