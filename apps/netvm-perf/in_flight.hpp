// A stream of operations on a queue pair, so many of them in flight: what osu_put_bw, ib_write_bw and their like do.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "apps/netvm-perf/session.hpp"
#include "nic/queue_pair.hpp"

namespace netvm::perf {

class InFlight {
 public:
  InFlight(Session& session, int window)
      : session_(session),
        window_(static_cast<std::size_t>(window)),
        pair_(nic::QueuePair::create(session.nic(), {session.peer().node, std::bit_ceil(static_cast<std::uint32_t>(window))}).value()) {}

  /// One put or get of the data area. Waits for completions where the window is full.
  void post(bool put, std::size_t bytes) {
    if (in_flight_ == window_) reap();
    const std::array<nic::Piece, 1> piece = {nic::Piece::source(session_.source(), bytes)};
    const nic::QueuePair::Posted posted = pair_->post(put ? nic::QpRequest::write(session_.peer(), session_.data_offset(), piece)
                                                          : nic::QpRequest::read(session_.peer(), session_.data_offset(), piece));
    if (!ok(posted.status)) [[unlikely]]
      session_.require(posted.status, "posting");
    ++in_flight_;
  }
  void finish_all() {
    while (in_flight_ > 0) reap();
  }

 private:
  /// Takes completions: those that are there, else waits for some.
  void reap() {
    std::array<nic::QpCompletion, 16> ends;
    std::size_t count = pair_->poll(ends);
    while (count == 0) {
      const Result<std::size_t> waited = pair_->wait(ends);
      session_.require(waited.status(), "waiting for a completion");
      count = waited.value();
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (!ok(ends[i].status)) [[unlikely]]
        session_.require(ends[i].status, "the stream");
    }
    in_flight_ -= count;
  }

  Session& session_;
  std::size_t window_;
  std::size_t in_flight_ = 0;
  std::unique_ptr<nic::QueuePair> pair_;
};

}  // namespace netvm::perf
