// The nodes' output: read from their pipes, put together line by line, written to our own standard output and error.
//
// Invariants
//  1. Bytes are never changed, lost or reordered within one node's stream; only with --tag something is added, at line starts.
//  2. Lines of different nodes never mix, up to kMaxLine bytes a line; a longer one goes on in pieces.
//  3. Nothing here blocks the event loop: a slow reader of ours slows the nodes' output down (backlog() says so), not the launcher.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/unique_fd.hpp"

namespace netvm::run {

using Clock = std::chrono::steady_clock;

inline constexpr std::size_t kMaxLine = 256 * 1024;
/// With more than this waiting to be written, no more is read from the nodes.
inline constexpr std::size_t kMaxBacklog = 1024 * 1024;

/// One of our own streams.
class OutputSink {
 public:
  /// Of a descriptor that stays the caller's. Leaves its flags alone: other processes share them.
  explicit OutputSink(int fd);

  void append(std::string_view bytes);
  /// Writes what goes without waiting. Returns 0, or, once, the error (errno) that ends the stream: EPIPE where the reader is gone.
  /// Everything later is dropped.
  [[nodiscard]] int flush();
  /// Writes everything, waiting for the reader until the deadline. Returns as flush() does.
  [[nodiscard]] int drain(Clock::time_point deadline);

  [[nodiscard]] std::size_t backlog() const { return pending_.size() - written_; }
  /// What to poll for room; -1 if writing never waits (a regular file).
  [[nodiscard]] int poll_fd() const { return kind_ == Kind::file ? -1 : target(); }

 private:
  enum class Kind : std::uint8_t {
    file,      // never waits
    own,       // reopened for us alone, not blocking
    socket,    // asked not to block at each call
    cautious,  // blocking and shared: written in small pieces after a poll
  };
  [[nodiscard]] int target() const { return own_ ? own_.get() : fd_; }
  [[nodiscard]] long write_some(std::string_view bytes);

  int fd_;
  UniqueFd own_;
  Kind kind_ = Kind::cautious;
  std::string pending_;
  std::size_t written_ = 0;  // of pending_
  bool gone_ = false;
};

/// One of a node's streams.
class OutputSource {
 public:
  enum class Partial : std::uint8_t {
    wait,       ///< an unfinished line waits for its end
    interject,  ///< ... but not for long: somebody may be waiting for a prompt
    pass,       ///< is passed on at once: there is nobody to mix with
  };
  OutputSource(std::uint32_t node, UniqueFd pipe, std::string tag, Partial partial, OutputSink& sink)
      : node_(node), pipe_(std::move(pipe)), tag_(std::move(tag)), partial_(partial), sink_(&sink) {}

  [[nodiscard]] std::uint32_t node() const { return node_; }
  [[nodiscard]] int fd() const { return pipe_.get(); }
  [[nodiscard]] bool open() const { return static_cast<bool>(pipe_); }
  [[nodiscard]] OutputSink& sink() { return *sink_; }

  /// Reads once. At the stream's end passes the last unfinished line on and closes.
  void read_some();
  /// Reads all that is in the pipe now.
  void read_what_is_there();
  /// When an unfinished line should be passed on as it is.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;
  void on_time(Clock::time_point now);
  /// Reads all that is in the pipe now, passes an unfinished line on and closes.
  void finish();

 private:
  void take(std::string_view bytes);
  void emit(std::string_view bytes);

  std::uint32_t node_;
  UniqueFd pipe_;
  std::string tag_;
  Partial partial_;
  OutputSink* sink_;
  std::string line_;           // unfinished
  bool at_line_start_ = true;  // of what has been emitted
  Clock::time_point last_read_;
};

}  // namespace netvm::run
