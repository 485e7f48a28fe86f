#include "apps/kit/dsm_heap.hpp"

#include "apps/kit/heap.hpp"
#include "dsm/api/job_runtime.hpp"
#include "runtime/check.hpp"

namespace netvm::kit {

namespace {

class DsmMemory final : public HeapMemory {
 public:
  explicit DsmMemory(detail::Runtime& runtime) : runtime_(runtime) {}

  std::byte* take(std::size_t bytes, std::size_t alignment) override {
    std::string why;
    const auto offset = runtime_.dsm->allocate(bytes, {.alignment = alignment, .name = "heap"}, &why);
    return offset ? static_cast<std::byte*>(runtime_.address_of(*offset)) : nullptr;
  }
  bool give_back(std::byte* pages) override { return ok(runtime_.dsm->free(offset_of(pages))); }
  [[nodiscard]] bool contains(const void* at) const override {
    std::uint64_t offset = 0;
    return runtime_.offset_of(at, &offset) && runtime_.layout.shared.contains(PageId{offset / kPageSize});
  }
  void lock(const std::uint64_t* word) override {
    runtime_.require(runtime_.sync->lock(offset_of(word), detail::this_thread_id()), "the heap's lock");
  }
  void unlock(const std::uint64_t* word) override {
    runtime_.require(runtime_.sync->unlock(offset_of(word), detail::this_thread_id()), "the heap's lock");
  }

 private:
  [[nodiscard]] std::uint64_t offset_of(const void* at) const {
    std::uint64_t offset = 0;
    NETVM_CHECK(runtime_.offset_of(at, &offset), "the heap's own memory is not shared");
    return offset;
  }

  detail::Runtime& runtime_;
};

}  // namespace

void open_heap(detail::Runtime& runtime) {
  std::uint64_t offset = 0;
  if (runtime.boot->node() == NodeId{0}) {
    std::string why;
    const auto got = runtime.dsm->allocate(Heap::common_bytes(), {.alignment = kPageSize, .name = "heap, common part"}, &why);
    if (!got) throw Error("netvm: no room for the heap: " + why);
    offset = *got;
  }
  auto* const memory = new DsmMemory(runtime);  // lives until the process ends, as the heap does
  Heap::open(*memory, runtime.address_of(runtime.exchange(offset)[0]));
}

}  // namespace netvm::kit
