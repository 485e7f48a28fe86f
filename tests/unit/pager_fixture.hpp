// What the tests of the pager share: a small memory over a store that can fail, and a listener that keeps account of what it is told.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "host_vm_fixture.hpp"
#include "runtime/stats.hpp"
#include "tests/support/frame_check.hpp"
#include "tests/support/memory_backing_store.hpp"

namespace netvm::test {

inline std::uint64_t frame_pages_in_use(const HostVm& vm) {
  struct stat info {};
  REQUIRE(::fstat(vm.frames_fd(), &info) == 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512 / kPageSize;
}

/// A host VM with a small budget over a store that a test can make fail.
struct Small {
  Small(TrapKind kind, std::uint64_t pages, std::uint64_t budget, Env& env) : store(std::make_shared<MemoryBackingStore>()) {
    std::string why;
    auto made = HostVm::create({.pages = pages,
                                .base = next_base(kind),
                                .trap = kind,
                                .budget_pages = budget,
                                .store = store,
                                .stats = &stats,
                                .check_frames = frames_are_checked()},
                               env, &why);
    REQUIRE_MESSAGE(made.has_value(), why);
    vm = std::move(made).value();
  }
  Stats stats;
  std::shared_ptr<MemoryBackingStore> store;
  std::unique_ptr<HostVm> vm;
};

inline std::uint64_t at(std::uint64_t page, std::uint64_t word = 0) { return page * kPageSize + word * 8; }

/// Counts pages in and out and checks that each page alternates; answers take_use() with what the test says.
class ExactListener final : public ResidencyListener {
 public:
  ExactListener(HostVm& vm, std::uint64_t pages) : vm_(&vm), mapped_(pages), use_(pages) {
    vm.set_residency_listener(this);
    for (auto& use : use_) use.store(0);
  }
  ~ExactListener() override { vm_->set_residency_listener(nullptr); }
  void on_map(PageRange pages) noexcept override {
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) right = !mapped_[p].exchange(true) && right;
  }
  void on_unmap(PageRange pages) noexcept override {
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) right = mapped_[p].exchange(false) && right;
    ++unmaps;
    if (at_unmap) at_unmap(pages);
  }
  void on_unmap_all(std::span<const PageRange> ranges) noexcept override {
    ++batches;
    ResidencyListener::on_unmap_all(ranges);
  }
  PageUse take_use(PageId page) noexcept override {
    const int use = use_[page.value].exchange(0);
    return {(use & 1) != 0, (use & 2) != 0};
  }
  void use(std::uint64_t page, bool written) { use_[page].fetch_or(written ? 3 : 1); }
  [[nodiscard]] bool mapped(std::uint64_t page) const { return mapped_[page].load(); }

  std::atomic<bool> right{true};
  std::atomic<int> unmaps{0};
  std::atomic<int> batches{0};
  std::function<void(PageRange)> at_unmap;  ///< what the NIC still does before it is drained

 private:
  HostVm* vm_;
  std::vector<std::atomic<bool>> mapped_;
  std::vector<std::atomic<int>> use_;
};

}  // namespace netvm::test
