// The sub-commands that measure between two nodes. Each is run by A and B alike and fills A's table.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/netvm-perf/session.hpp"
#include "apps/netvm-perf/table.hpp"

namespace netvm::perf {

Table measure_latency(Session& session);
Table measure_bandwidth(Session& session);
Table measure_message_rate(Session& session);
Table measure_atomics(Session& session);
Table measure_notify(Session& session);
Table measure_fault_ladder(Session& session);

/// What pages that are missing cost a put.
struct LadderStep {
  std::string missing;
  std::string fault;  ///< "minor", "major", "-"
  double ns;
  double floor_ns;
  Interval ratio;  ///< ours over the floor
  bool meets;      ///< the target must do something
  Interval met;    ///< ours over the floor and one bare hand-over to another process and back
};
/// Of puts of that many bytes. Major faults only in a job whose nodes have a memory budget. Needs a data area of kLadderPages pages, and of all pages of a put.
std::vector<LadderStep> run_fault_ladder(Session& session, std::size_t bytes);
inline constexpr std::size_t kLadderPages = 64;

/// The p99 of A's puts while a third node's puts to B fault all the time, over the p99 without; called by all nodes. Nothing except at A, and
/// where there is no third node or no memory budget.
std::optional<Interval> measure_faulting_peer(Session& session);

/// "put latency, direct, nodes 0 and 1"
[[nodiscard]] std::string title_of(Session& session, const std::string& what);
/// Remarks the rows whose interval says that the machine was not quiet.
void note_noise(Table& table, const std::vector<std::string>& noisy_rows);

// ---- operations, for arms ---------------------------------------------------------------------------------------------------------------

/// One put towards the peer's data area that need not be waited for: executed here and now on the direct way, posted on the other.
class QuickPut {
 public:
  explicit QuickPut(Session& session) : session_(session) {}
  void operator()(const std::byte* from, std::size_t bytes) {
    if (!session_.packet()) {
      const Status status = session_.nic().write(session_.peer(), session_.data_offset(), from, bytes);
      if (!ok(status)) [[unlikely]]
        session_.require(status, "put");
      return;
    }
    finish();
    completion_.emplace();
    session_.nic().post_write(session_.peer(), session_.data_offset(), from, bytes, &*completion_);
  }
  /// Waits for the last.
  void finish() {
    if (completion_) session_.require(session_.nic().wait(*completion_), "put");
    completion_.reset();
  }

 private:
  Session& session_;
  std::optional<nic::Completion> completion_;
};

/// Each side puts `bytes` into the other's memory and spins on the last word of what it expects. Returns nanoseconds one way. `each`:
/// where single one-way times go (A). put(from, bytes) does it; put.finish() is called at the end.
template <class Put>
double ping_pong(Session& session, Put&& put, std::size_t bytes, int rounds, std::vector<double>* each = nullptr) {
  auto* last = reinterpret_cast<std::uint64_t*>(session.source() + bytes - 8);
  const std::byte* const arrival = session.data() + bytes - 8;
  std::int64_t begin = 0;
  for (int i = 0; i <= rounds; ++i) {  // the first round trip brings both sides here
    const std::uint64_t serial = session.next_serial();
    if (i == 1) begin = clock_ns();
    if (session.measures()) {
      const std::int64_t before = each != nullptr ? clock_ns() : 0;
      *last = serial;
      put(session.source(), bytes);
      session.await_word(arrival, serial);
      if (each != nullptr && i > 0) each->push_back(static_cast<double>(clock_ns() - before) / 2);
    } else {
      session.await_word(arrival, serial);
      *last = serial;
      put(session.source(), bytes);
    }
  }
  const double ns = static_cast<double>(clock_ns() - begin) / (2.0 * rounds);
  put.finish();
  return ns;
}

/// The same with a notification of each put, waited for at the other side's event counter.
double notify_ping_pong(Session& session, nic::WaitMode wait, nic::NotifyMode mode, std::size_t bytes, int rounds);

/// The same where each side's handler (Nic::set_handler) hears and answers; the main threads sleep.
double handler_ping_pong(Session& session, std::size_t bytes, int rounds);

/// What reading the clock twice adds to a time taken with it.
[[nodiscard]] double clock_cost_ns();

}  // namespace netvm::perf
