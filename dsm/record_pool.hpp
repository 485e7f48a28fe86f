// RecordPool: a protocol's records of pages. They keep their places, and are used again.
// Threads: any; a record's contents are guarded as its protocol says, but for the moments in which it is taken and given back.
#pragma once

#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/env.hpp"

namespace netvm::dsm {

template <class Record>
class RecordPool {
 public:
  /// One as new. `first` are the fields that for_each() looks at.
  [[nodiscard]] Record& take(Record first = {}) {
    const std::scoped_lock guard(lock_);
    if (unused_.empty()) return all_.emplace_back(std::move(first));
    Record& record = *unused_.back();
    unused_.pop_back();
    record = std::move(first);
    return record;
  }
  void give(Record& record) {
    const std::scoped_lock guard(lock_);
    record = Record{};
    unused_.push_back(&record);
  }
  /// Records that are not in use are among them, as new.
  template <class Look>
  void for_each(Look&& look) const {
    const std::scoped_lock guard(lock_);
    for (const Record& record : all_) look(record);
  }
  [[nodiscard]] std::size_t in_use() const {
    const std::scoped_lock guard(lock_);
    return all_.size() - unused_.size();
  }

 private:
  mutable SpinLock lock_;
  std::deque<Record> all_;
  std::vector<Record*> unused_;
};

}  // namespace netvm::dsm
