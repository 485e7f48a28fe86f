// Tasks that are numbered and known from the start (tiles of an image), in one queue a processor; who has none left steals.
//
// 1. A queue is a range of tasks under a lock. Its processor takes one from the front; a thief takes the back half of a victim's.
// 2. A processor looks at the victims after itself first, so that thieves do not all begin at the same one.
// 3. All fields of a queue are bound to its lock and used under it alone: right under every protocol.
// 4. next() ends when every queue was seen empty once. Tasks that a thief is just carrying home are its own: it does them.
#pragma once

#include <cstdint>
#include <optional>

#include "apps/splash2/common/team.hpp"

namespace splash2 {

class WorkQueues {
 public:
  /// Collective, as the store is.
  explicit WorkQueues(Store& store) : queues_(store.parts<Queue>(1)) {
    for (int rank = 0; rank < store.processors(); ++rank) {
      Queue& queue = *queues_.of(rank);
      store.bind(queue.lock, &queue.range);
    }
  }

  /// Each member fills its own queue with its part of the tasks 0 .. tasks-1. No barrier: the caller's, before the first next().
  void fill(Team& team, std::size_t tasks) const {
    const Part part = Part::of(tasks, team.rank(), team.count());
    Queue& own = *queues_.of(team.rank());
    const TeamLock guard(team, own.lock);
    own.range = {static_cast<std::int64_t>(part.first), static_cast<std::int64_t>(part.last), 0};
  }

  /// A task for this member, or none if there are none left.
  [[nodiscard]] std::optional<std::size_t> next(Team& team) const {
    if (const auto task = take(team)) return task;
    for (int turn = 1; turn < team.count(); ++turn) {
      if (const auto task = steal(team, (team.rank() + turn) % team.count())) return task;
    }
    return std::nullopt;
  }
  /// Tasks that were stolen from a member, once all are done.
  [[nodiscard]] std::int64_t stolen_from(int rank) const { return queues_.of(rank)->range.stolen; }

 private:
  struct Range {
    std::int64_t first;
    std::int64_t last;
    std::int64_t stolen;
  };
  struct Queue {
    netvm::mutex lock;
    Range range;
  };

  std::optional<std::size_t> take(Team& team) const {
    Queue& own = *queues_.of(team.rank());
    const TeamLock guard(team, own.lock);
    if (own.range.first >= own.range.last) return std::nullopt;
    return static_cast<std::size_t>(own.range.first++);
  }

  std::optional<std::size_t> steal(Team& team, int victim) const {
    Range loot{};
    {
      Queue& theirs = *queues_.of(victim);
      const TeamLock guard(team, theirs.lock);
      const std::int64_t count = (theirs.range.last - theirs.range.first + 1) / 2;
      if (count <= 0) return std::nullopt;
      loot = {theirs.range.last - count, theirs.range.last, 0};
      theirs.range.last -= count;
      theirs.range.stolen += count;
    }
    Queue& own = *queues_.of(team.rank());
    const TeamLock guard(team, own.lock);
    own.range.first = loot.first + 1;
    own.range.last = loot.last;
    return static_cast<std::size_t>(loot.first);
  }

  Parts<Queue> queues_;
};

}  // namespace splash2
