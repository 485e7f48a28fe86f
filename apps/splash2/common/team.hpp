// A program's algorithm, apart from who runs it and where its data lie. An algorithm takes memory from a Store and meets others in a Team, and
// knows nothing else of parallelism: so the sequential run that the answer is compared with is the same program with a team of one, in private
// memory and without NetVM.
//
// 1. A Store is used on each node, collectively, in the same order. A Team lives on a thread of parallel().
// 2. Memory of a Store is zeroed, and stays until the store goes (PrivateStore) or the job ends (SharedStore).
#pragma once

#include <netvm/netvm.hpp>
#include <netvm/sync.hpp>

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "apps/splash2/common/layout.hpp"

namespace splash2 {

class Team {
 public:
  Team(int rank, int count) : rank_(rank), count_(count) {}
  virtual ~Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int count() const { return count_; }
  virtual void barrier() = 0;
  /// The sum and the largest of all members' values; all call. A barrier, too.
  virtual double sum(double value) = 0;
  virtual double max(double value) = 0;
  virtual void lock(netvm::mutex& mutex) = 0;
  virtual void unlock(netvm::mutex& mutex) = 0;
  /// Gives a permit; and blocks until there is one and takes it. Who is alone must have given it before.
  virtual void release(netvm::counting_semaphore<>& semaphore) = 0;
  virtual void acquire(netvm::counting_semaphore<>& semaphore) = 0;

 private:
  int rank_;
  int count_;
};

class SharedTeam final : public Team {
 public:
  explicit SharedTeam(netvm::Thread& me) : Team(me.rank(), me.count()), me_(me) {}
  void barrier() override { me_.barrier(); }
  double sum(double value) override { return me_.sum(value); }
  double max(double value) override { return me_.max(value); }
  void lock(netvm::mutex& mutex) override { mutex.lock(); }
  void unlock(netvm::mutex& mutex) override { mutex.unlock(); }
  void release(netvm::counting_semaphore<>& semaphore) override { semaphore.release(); }
  void acquire(netvm::counting_semaphore<>& semaphore) override { semaphore.acquire(); }

 private:
  netvm::Thread& me_;
};

/// A team of one.
class SoloTeam final : public Team {
 public:
  SoloTeam() : Team(0, 1) {}
  void barrier() override {}
  double sum(double value) override { return value; }
  double max(double value) override { return value; }
  void lock(netvm::mutex& /*mutex*/) override {}
  void unlock(netvm::mutex& /*mutex*/) override {}
  void release(netvm::counting_semaphore<>& /*semaphore*/) override {}
  void acquire(netvm::counting_semaphore<>& /*semaphore*/) override {}
};

/// Holds a mutex for a team while it lives.
class TeamLock {
 public:
  TeamLock(Team& team, netvm::mutex& mutex) : team_(team), mutex_(mutex) { team_.lock(mutex_); }
  ~TeamLock() { team_.unlock(mutex_); }
  TeamLock(const TeamLock&) = delete;
  TeamLock& operator=(const TeamLock&) = delete;

 private:
  Team& team_;
  netvm::mutex& mutex_;
};

/// Memory in equal parts, one a processor. Cheap to copy.
template <class T>
class Parts {
 public:
  Parts() = default;
  Parts(T* memory, std::size_t stride) : memory_(memory), stride_(stride) {}
  [[nodiscard]] T* of(int rank) const { return memory_ + static_cast<std::size_t>(rank) * stride_; }
  [[nodiscard]] T* all() const { return memory_; }
  /// Objects from the begin of one part to the begin of the next.
  [[nodiscard]] std::size_t stride() const { return stride_; }

 private:
  T* memory_ = nullptr;
  std::size_t stride_ = 0;
};

class Store {
 public:
  virtual ~Store() = default;
  [[nodiscard]] virtual int processors() const = 0;
  /// Whether threads of several nodes may come; otherwise locks are not used and must not be bound.
  [[nodiscard]] virtual bool shared() const = 0;

  /// Room for `count` objects in each processor's part.
  template <class T>
  Parts<T> parts(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    const std::size_t stride = std::max<std::size_t>(1, padded(count, sizeof(T)));
    return {static_cast<T*>(zeroed(stride * sizeof(T) * static_cast<std::size_t>(processors()), alignof(T))), stride};
  }
  /// `count` objects for all together.
  template <class T>
  T* array(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    return static_cast<T*>(zeroed(std::max<std::size_t>(1, count) * sizeof(T), alignof(T)));
  }
  /// mutex::bind() where there is something to bind.
  template <class T>
  void bind(netvm::mutex& mutex, const T* first, std::size_t count = 1) const {
    if (shared()) mutex.bind(first, count);
  }

 protected:
  virtual void* zeroed(std::size_t bytes, std::size_t alignment) = 0;
  [[nodiscard]] virtual std::size_t padded(std::size_t count, std::size_t bytes) const = 0;
};

class SharedStore final : public Store {
 public:
  /// `needs`: what the algorithm relies on; the job's protocol must give it.
  SharedStore(netvm::Job& job, const LayoutOptions& layout, netvm::Consistency needs = netvm::Consistency::any)
      : job_(job), layout_(layout), needs_(needs) {}
  [[nodiscard]] int processors() const override { return processors_of(job_); }
  [[nodiscard]] bool shared() const override { return true; }

 protected:
  void* zeroed(std::size_t bytes, std::size_t alignment) override {
    netvm::AllocationOptions options = layout_.allocation(needs_);
    options.alignment = bytes >= kPageBytes ? kPageBytes : std::max<std::size_t>(alignment, 64);
    return job_.allocate_all<std::byte>(bytes, options);
  }
  [[nodiscard]] std::size_t padded(std::size_t count, std::size_t bytes) const override { return layout_.padded(count, bytes); }

 private:
  netvm::Job& job_;
  LayoutOptions layout_;
  netvm::Consistency needs_;
};

/// One processor's private memory.
class PrivateStore final : public Store {
 public:
  [[nodiscard]] int processors() const override { return 1; }
  [[nodiscard]] bool shared() const override { return false; }

 protected:
  void* zeroed(std::size_t bytes, std::size_t /*alignment*/) override {
    // Aligned for any type of the suite: none asks for more than calloc gives, which touches no page of a large piece.
    void* const piece = std::calloc(1, bytes);
    if (piece == nullptr) throw std::bad_alloc();
    pieces_.emplace_back(piece, &std::free);
    return piece;
  }
  [[nodiscard]] std::size_t padded(std::size_t count, std::size_t /*bytes*/) const override { return count; }

 private:
  std::vector<std::unique_ptr<void, decltype(&std::free)>> pieces_;
};

}  // namespace splash2
