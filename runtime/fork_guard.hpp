// ForkGuard: tells an object that its process is a child made by fork(): threads that served it are gone, locks of theirs stay taken, and
// what it shares with other processes is no longer its own.
// Invariants:
//  1. in_child(context) runs once, in the child, before fork() returns there, for each object that lived in the parent. It must not
//     allocate, lock or block: set flags.
//  2. No object is made or destroyed while a fork() is under way.
// A child made by vfork(), posix_spawn() or clone() is not noticed; it shares the parent's memory or runs another program at once.
#pragma once

namespace netvm {

class ForkGuard {
 public:
  using InChild = void (*)(void* context) noexcept;
  ForkGuard(InChild in_child, void* context);
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

 private:
  struct Registry;
  InChild in_child_;
  void* context_;
  ForkGuard* next_ = nullptr;
  ForkGuard** link_ = nullptr;
};

}  // namespace netvm
