// A backing store in memory that fails when it is told to, keeps an account, and (in the simulator) takes its virtual time.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "runtime/backing_store.hpp"
#include "runtime/env.hpp"
#include "runtime/random.hpp"

namespace netvm::test {

class MemoryBackingStore final : public BackingStore {
 public:
  /// At most `room` pages find room; then ENOSPC.
  std::atomic<std::uint64_t> room{UINT64_MAX};
  /// Transfers of these pages fail with EIO.
  std::atomic<std::uint64_t> bad_write{UINT64_MAX};
  std::atomic<std::uint64_t> bad_read{UINT64_MAX};
  std::atomic<std::uint64_t> pages_written{0};
  std::atomic<std::uint64_t> pages_read{0};
  std::atomic<std::uint64_t> transfers{0};

  /// Every transfer takes 0 .. longest. For fibers: nobody else may then read or write.
  void take_time(Env& env, Nanos longest) {
    env_ = &env;
    longest_ = longest;
  }

  BackingResult write(PageRange pages, const std::byte* from) noexcept override {
    delay();
    const std::lock_guard guard(mutex_);
    ++transfers;
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      const std::uint64_t page = pages.first.value + i;
      if (page == bad_write.load()) return {EIO, page * kPageSize};
      if (!pages_.contains(page) && pages_.size() >= room.load()) return {ENOSPC, page * kPageSize};
      pages_[page].assign(from + i * kPageSize, from + (i + 1) * kPageSize);
      ++pages_written;
    }
    return {};
  }
  BackingResult read(PageRange pages, std::byte* to) noexcept override {
    delay();
    const std::lock_guard guard(mutex_);
    ++transfers;
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      const std::uint64_t page = pages.first.value + i;
      const auto found = pages_.find(page);
      if (page == bad_read.load() || found == pages_.end()) return {EIO, page * kPageSize};
      std::memcpy(to + i * kPageSize, found->second.data(), kPageSize);
      ++pages_read;
    }
    return {};
  }
  [[nodiscard]] std::uint64_t bytes_in_use() const noexcept override {
    const std::lock_guard guard(mutex_);
    return pages_.size() * kPageSize;
  }
  void forget(PageRange pages) noexcept override {
    const std::lock_guard guard(mutex_);
    pages_.erase(pages_.lower_bound(pages.first.value), pages_.lower_bound(pages.end()));
  }
  [[nodiscard]] const char* name() const override { return "the store of a test"; }

  [[nodiscard]] std::size_t pages_kept() {
    const std::lock_guard guard(mutex_);
    return pages_.size();
  }

 private:
  void delay() {
    if (env_ == nullptr || longest_ == 0) return;
    const std::atomic<std::uint32_t> never{0};
    const ParkOn word{&never, 0};
    const Nanos until = env_->now() + static_cast<Nanos>(env_->random() % static_cast<std::uint64_t>(longest_));
    while (env_->now() < until) env_->park({&word, 1}, until);
  }

  Env* env_ = nullptr;
  Nanos longest_ = 0;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::vector<std::byte>> pages_;
};

}  // namespace netvm::test
