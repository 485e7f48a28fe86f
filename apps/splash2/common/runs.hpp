// Running an algorithm that takes its memory from a Store and meets others in a Team (team.hpp): by all threads of a job, and by one processor in private
// memory. It has run(Team&), which returns a ProcessorTime, or something that has one as `time`.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/team.hpp"

namespace splash2 {

inline ProcessorTime time_of(const ProcessorTime& time) { return time; }
template <class Result>
ProcessorTime time_of(const Result& result) {
  return result.time;
}

/// Runs it on every thread of every node and notes each processor's time. Returns what this node's first thread got. Collective.
template <class Algorithm>
auto run_on_all(netvm::Job& job, Algorithm& algorithm, ProcessorTimes& times) {
  decltype(algorithm.run(std::declval<Team&>())) result{};
  job.parallel([&](netvm::Thread& me) {
    SharedTeam team(me);
    const auto mine = algorithm.run(team);
    times.set(me, time_of(mine));
    if (me.local() == 0) result = mine;
  });
  return result;
}

/// The sequential run that answers are compared with and that speed-ups refer to.
template <class Algorithm>
class SoloRun {
 public:
  using Result = decltype(std::declval<Algorithm&>().run(std::declval<Team&>()));

  /// Runs `runs` times, each with what make(store) returns (std::unique_ptr<Algorithm>), and keeps the last one and the median time.
  template <class Make>
  SoloRun(std::int64_t runs, Make make) {
    std::vector<double> times;
    for (std::int64_t run = 0; run < runs; ++run) {
      algorithm_.reset();
      store_ = std::make_unique<PrivateStore>();
      algorithm_ = make(static_cast<Store&>(*store_));
      SoloTeam team;
      result_ = algorithm_->run(team);
      times.push_back(time_of(result_).total);
    }
    seconds_ = median(std::move(times));
  }

  [[nodiscard]] double seconds() const { return seconds_; }
  [[nodiscard]] const Algorithm& algorithm() const { return *algorithm_; }
  [[nodiscard]] const Result& result() const { return result_; }

 private:
  std::unique_ptr<PrivateStore> store_;
  std::unique_ptr<Algorithm> algorithm_;
  Result result_{};
  double seconds_ = 0;
};

}  // namespace splash2
