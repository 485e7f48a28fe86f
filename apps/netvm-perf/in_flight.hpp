// A stream of operations, so many of them in flight, as osu_put_bw, ib_write_bw and their like keep it: on a queue pair, as posted operations with a
// completion each, or, to compare, one after the other with a verb that blocks.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "apps/netvm-perf/session.hpp"
#include "nic/queue_pair.hpp"

namespace netvm::perf {

class InFlight {
 public:
  InFlight(Session& session, int window, Verbs verbs = Verbs::queue_pair)
      : session_(session),
        nic_(session.nic()),
        to_(session.peer()),
        offset_(session.data_offset()),
        source_(session.source()),
        verbs_(verbs),
        window_(static_cast<std::size_t>(window)),
        pair_(nic::QueuePair::create(session.nic(), {session.peer().node, std::bit_ceil(static_cast<std::uint32_t>(window))}).value()),
        completions_(verbs == Verbs::posted ? window_ : 0) {}

  /// One put or get of the data area. Waits for completions where the window is full.
  void post(bool put, std::size_t bytes) {
    if (verbs_ == Verbs::blocking) return execute(put, bytes);
    if (in_flight_ == window_) reap();
    if (verbs_ == Verbs::posted) {
      post_alone(put, bytes);
    } else {
      post_on_pair(put, bytes);
    }
    ++in_flight_;
  }
  void finish_all() {
    while (in_flight_ > 0) reap();
  }

 private:
  /// Room for a completion, which can be used once.
  struct Place {
    nic::Completion* make() { return new (bytes.data()) nic::Completion; }
    nic::Completion& get() { return *std::launder(reinterpret_cast<nic::Completion*>(bytes.data())); }
    alignas(nic::Completion) std::array<std::byte, sizeof(nic::Completion)> bytes;
  };
  static_assert(std::is_trivially_destructible_v<nic::Completion>);

  void execute(bool put, std::size_t bytes) {
    const Status status = put ? nic_.write(to_, offset_, source_, bytes) : nic_.read(to_, offset_, source_, bytes);
    if (!ok(status)) [[unlikely]]
      session_.require(status, "the stream");
  }
  void post_on_pair(bool put, std::size_t bytes) {
    const std::array<nic::Piece, 1> piece = {nic::Piece::source(source_, bytes)};
    const nic::QueuePair::Posted posted =
        pair_->post(put ? nic::QpRequest::write(to_, offset_, piece) : nic::QpRequest::read(to_, offset_, piece));
    if (!ok(posted.status)) [[unlikely]]
      session_.require(posted.status, "posting");
  }
  void post_alone(bool put, std::size_t bytes) {
    nic::Completion* const end = completions_[next_].make();
    next_ = next_ + 1 == window_ ? 0 : next_ + 1;
    if (put) {
      nic_.post_write(to_, offset_, source_, bytes, end);
    } else {
      nic_.post_read(to_, offset_, source_, bytes, end);
    }
  }

  void reap() {
    if (verbs_ == Verbs::posted) {
      reap_oldest();
    } else {
      reap_pair();
    }
  }
  void reap_oldest() {
    const std::size_t oldest = (next_ + window_ - in_flight_) % window_;
    const Status status = nic_.wait(completions_[oldest].get());
    if (!ok(status)) [[unlikely]]
      session_.require(status, "the stream");
    --in_flight_;
  }
  /// Takes completions: those that are there, else waits for some.
  void reap_pair() {
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
  // At hand, as a program has them: a loop that looks them up through the session for each transfer would be measured, too.
  nic::Nic& nic_;
  nic::RemoteRegion to_;
  std::uint64_t offset_;
  std::byte* source_;
  Verbs verbs_;
  std::size_t window_;
  std::size_t in_flight_ = 0;
  std::unique_ptr<nic::QueuePair> pair_;
  std::vector<Place> completions_;  // a ring; of posted operations
  std::size_t next_ = 0;
};

}  // namespace netvm::perf
