// TaskGroup: background work of an object that must not outlive it.
// Invariants:
//  1. After close() has returned, no task of the group runs and none touches the group or its owner.
//  2. A task is counted before Env::spawn() sees it, and its end is announced under the lock that close() takes last.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/env.hpp"

namespace netvm {

class TaskGroup {
 public:
  explicit TaskGroup(Env& env) : env_(env) {}
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  /// close() must have been called if anything was ever spawned: a destructor cannot know whether its thread may block.
  ~TaskGroup() = default;

  /// Runs the task soon in a context of its own that may block (Env::spawn). Does not block. False: the group is closed, the task is dropped.
  bool spawn(std::function<void()> task);
  /// Blocks until none of the group's tasks runs, at one moment.
  void drain() { wait(false); }
  /// Takes no more tasks and blocks until all of the group's have ended. May be called again.
  void close() { wait(true); }

 private:
  void wait(bool closes);

  Env& env_;
  SpinLock lock_;
  std::uint32_t running_ = 0;  // lock_ held
  bool closed_ = false;        // lock_ held
  WaitWord ended_;
};

}  // namespace netvm
