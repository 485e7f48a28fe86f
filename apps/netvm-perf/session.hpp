// A measurement between two nodes of a job, as each node sees it: A measures, B answers, the others sleep until the end.
//
// Invariants
//  1. A and B run the same steps in the same order; meet() is where they wait for each other. Bystanders run none of them.
//  2. While A measures something that B has no part in, B is parked: it is nobody's noise. settle() waits until it must be.
//  3. A and B run on processors of their own where there are two: a scheduler that puts both on one measures itself.
//  4. Serial numbers only grow, and both sides agree on them: what a put carries in its last word is never what lay there before.
// Threads: the main thread of each node.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apps/netvm-perf/floors.hpp"
#include "apps/netvm-perf/launch.hpp"
#include "apps/netvm-perf/options.hpp"
#include "apps/netvm-perf/stats.hpp"
#include "dsm/api/job_runtime.hpp"
#include "netvm/netvm.hpp"

namespace netvm::perf {

class Session {
 public:
  /// Collective over all nodes. `largest`: bytes of the largest transfer. `floor`: at A, else null.
  Session(Job& job, const Options& options, std::size_t largest, FloorPartner* floor, ProgressPipe& progress);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] bool measures() const { return me_ == options_.between[0]; }
  [[nodiscard]] bool answers() const { return me_ == options_.between[1]; }
  [[nodiscard]] bool takes_part() const { return measures() || answers(); }
  [[nodiscard]] bool packet() const { return runtime_.settings.shm_mode == ShmMode::packet; }
  [[nodiscard]] Job& job() { return job_; }
  [[nodiscard]] detail::Runtime& runtime() { return runtime_; }
  [[nodiscard]] nic::Nic& nic() { return *runtime_.nic; }
  /// At A only.
  [[nodiscard]] FloorPartner& floor() { return *floor_; }
  void say(const std::string& text);

  /// The other side's symmetric memory and where its data area begins there.
  [[nodiscard]] const nic::RemoteRegion& peer() const { return runtime_.symmetric[static_cast<std::size_t>(peer_)]; }
  [[nodiscard]] std::uint64_t data_offset() const { return data_offset_; }
  /// What the other side puts into: this node's instance of the data area, whole pages.
  [[nodiscard]] std::byte* data() { return data_; }
  /// Private memory, as large: what this side puts from and gets into.
  [[nodiscard]] std::byte* source() { return source_.data(); }
  [[nodiscard]] std::size_t largest() const { return largest_; }
  /// Event counters for measurements: the other side's, and this node's.
  [[nodiscard]] const nic::RemoteCounter& peer_counter() const { return counters_[static_cast<std::size_t>(peer_)]; }
  [[nodiscard]] const nic::RemoteCounter& my_counter() const { return counters_[static_cast<std::size_t>(me_)]; }

  /// Waits for the other side. `spin`: drives the NIC meanwhile without ever parking, as a target does that serves packets.
  void meet(nic::WaitMode mode = nic::WaitMode::adaptive);
  /// A's value, at both.
  std::uint64_t agree(std::uint64_t value);
  /// At A, after which B is parked if it waits in meet().
  void settle();

  /// A word of each node's that others set, for what two nodes' meetings cannot say.
  void tell(int node, std::uint64_t what) { netvm::put(node, control_, &what); }
  [[nodiscard]] std::uint64_t control() const { return *static_cast<const volatile std::uint64_t*>(control_); }

  /// The next serial number, the same at both sides if both ask as often.
  std::uint64_t next_serial() { return ++serial_; }
  /// Spins until the word of this node's memory has the value, driving the NIC where requests come as packets.
  void await_word(const std::byte* at, std::uint64_t value);

  /// Throws Error unless ok.
  void require(Status status, const char* what) const;

 private:
  /// A and B on processors of their own, unless the job has bound its threads itself or may not (NETVM_BIND).
  void bind_apart() const;

  Job& job_;
  const Options& options_;
  detail::Runtime& runtime_;
  FloorPartner* floor_;
  ProgressPipe& progress_;
  int me_;
  int peer_;
  std::size_t largest_;
  std::byte* data_ = nullptr;
  std::uint64_t* control_ = nullptr;
  std::uint64_t* agreed_ = nullptr;  // four slots: A is at most one meeting ahead
  std::uint64_t data_offset_ = 0;
  std::vector<std::byte> source_;
  std::vector<nic::RemoteCounter> meetings_;  // by node
  std::vector<nic::RemoteCounter> counters_;  // by node
  std::uint64_t met_ = 0;
  std::uint64_t agreements_ = 0;
  std::uint64_t serial_ = 0;
};

/// Several ways to do something, compared: batch by batch all take their turn, in an order drawn anew each time.
class Arms {
 public:
  /// Runs the operation so many times and returns nanoseconds an operation (at A; what B returns does not matter).
  using Run = std::function<double(int rounds)>;

  explicit Arms(Session& session) : session_(session) {}
  /// B has no part in it. Returns the arm's number.
  std::size_t add_local(Run run) { return add(std::move(run), false); }
  /// Both sides run it.
  std::size_t add_pair(Run run) { return add(std::move(run), true); }

  /// Finds out how many operations make a batch, and runs the batches. Both sides call it.
  void run();
  /// One value a batch; at A.
  [[nodiscard]] std::span<const double> values(std::size_t arm) const { return arms_[arm].values; }
  [[nodiscard]] double median_ns(std::size_t arm) const { return median(values(arm)); }
  [[nodiscard]] int rounds(std::size_t arm) const { return arms_[arm].rounds; }

 private:
  struct Arm {
    Run run;
    bool pair;
    int rounds = 1;
    std::vector<double> values;
  };
  std::size_t add(Run run, bool pair);
  double take_turn(Arm& arm, int rounds);
  void calibrate(Arm& arm, double batch_ns);

  Session& session_;
  std::vector<Arm> arms_;
};

}  // namespace netvm::perf
