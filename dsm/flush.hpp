// DiffFlush: carries this node's changes of pages to their homes: diffs each against its twin, gathers the pieces by home, writes them
// into the homes' frames as vectored writes, and waits until all of it is placed.
//
// Use: with the pages' long locks held and write access revoked: add() each, then finish() before the locks are given back.
// Threads: one object a thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "dsm/diff.hpp"
#include "dsm/protocol_env.hpp"

namespace netvm::dsm {

class DiffFlush {
 public:
  explicit DiffFlush(ProtocolEnv& env) : env_(env) {}
  DiffFlush(const DiffFlush&) = delete;
  DiffFlush& operator=(const DiffFlush&) = delete;

  /// Requires a twin; gives it back. The page's frame must stay unchanged until finish(); it is kept in memory until its changes are on their way.
  void add(PageId page, NodeId home);
  /// Blocks until everything added is visible in the homes' frames.
  void finish();

 private:
  // One request carries at most about this much: enough to amortise a message, little enough to overlap, and the list stays in the first cache.
  static constexpr std::size_t kMaxSegments = 1024;
  static constexpr std::size_t kMaxBytes = 256 * 1024;
  static constexpr std::uint64_t kMaxPins = 256;

  struct Batch {
    std::vector<nic::Segment> segments;  // the first `count` are in use
    std::size_t count = 0;
    std::size_t bytes = 0;
  };
  struct Posted {
    nic::Completion completion;
    NodeId home{};
  };
  void post(NodeId home, Batch& batch);
  void post_all();

  ProtocolEnv& env_;
  std::vector<std::uint64_t> masks_;
  std::map<NodeId, Batch> batches_;
  std::deque<Posted> posted_;
  std::vector<FramePins> pins_;     // of the pages that batches_ points into
  std::uint64_t pinned_pages_ = 0;  // by pins_
};

}  // namespace netvm::dsm
