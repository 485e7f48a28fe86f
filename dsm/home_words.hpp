// HomeWords: two words for each page, in the system area of the page's home, which every node changes with NIC atomics alone. What they mean is the
// protocol's business; 0 at first, and again when the page's memory was freed.
//
// Invariants
//  1. What one node posts to one home (words, page reads, page writes) takes effect in the order of posting.
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>

#include "dsm/dsm.hpp"
#include "dsm/protocol_env.hpp"
#include "nic/nic.hpp"

namespace netvm::dsm {

class HomeWords {
 public:
  explicit HomeWords(ProtocolEnv& env)
      : env_(env), config_(env.parts().config), system_(env.parts().vm.frame(config_.layout.system.first)) {}

  /// An atomic on a word of the page at its home, which may be this node.
  void post(PageId page, unsigned word, NodeId home, const nic::AtomicArgs& args, nic::Completion* completion) {
    env_.nic().post_atomic(config_.system[home.value], offset_of(page, word), args, completion);
    env_.count_one_sided(home, sizeof(std::uint64_t));
  }
  void post_add(PageId page, unsigned word, NodeId home, std::uint64_t value, nic::Completion* completion) {
    nic::AtomicArgs args;
    args.op = nic::AtomicOp::fetch_add;
    args.operand = value;
    post(page, word, home, args, completion);
  }
  void post_or(PageId page, unsigned word, NodeId home, std::uint64_t bits, nic::Completion* completion) {
    nic::AtomicArgs args;
    args.op = nic::AtomicOp::fetch_or;
    args.operand = bits;
    post(page, word, home, args, completion);
  }
  void post_clear(PageId page, unsigned word, NodeId home, std::uint64_t bits, nic::Completion* completion) {
    nic::AtomicArgs args;
    args.op = nic::AtomicOp::masked_cas;
    args.compare_mask = 0;  // whatever is there
    args.swap_mask = bits;
    post(page, word, home, args, completion);
  }
  void post_swap_if(PageId page, unsigned word, NodeId home, std::uint64_t expected, std::uint64_t value, nic::Completion* completion) {
    nic::AtomicArgs args;
    args.op = nic::AtomicOp::compare_swap;
    args.compare = expected;
    args.operand = value;
    post(page, word, home, args, completion);
  }

  /// At home.
  [[nodiscard]] std::atomic_ref<std::uint64_t> local(PageId page, unsigned word) const {
    return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(system_ + offset_of(page, word)));
  }
  /// This node's words of the pages: their memory was freed, and nobody asks for them any more.
  void forget(PageRange pages) {
    for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
      for (unsigned word = 0; word < Layout::kHomeWords; ++word) {
        if (local(PageId{p}, word).load() != 0) local(PageId{p}, word).store(0);
      }
    }
  }

 private:
  [[nodiscard]] std::uint64_t offset_of(PageId page, unsigned word) const {
    return config_.layout.words_offset + ((page.value - config_.layout.shared.first.value) * Layout::kHomeWords + word) * 8;
  }

  ProtocolEnv& env_;
  const DsmConfig& config_;
  std::byte* system_;  // this node's system area
};

}  // namespace netvm::dsm
