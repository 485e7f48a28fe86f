// dsm/eager_update: what a flush or an update carries (erc, update) is accepted whole or not at all, within the shared area, each page once.
#include <vector>

#include "dsm/eager_update.hpp"
#include "dsm/eager_update_wire.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm;
using namespace netvm::dsm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr PageRange kShared{PageId{100}, 5000};
  std::vector<EagerChange> changes;
  if (!decode_eager_changes(fuzz_bytes(data, size), kShared, changes)) return 0;
  std::vector<std::byte> told;
  std::uint64_t end = kShared.first.value;
  for (const EagerChange& change : changes) {
    FUZZ_REQUIRE(change.page.value >= end && change.pages > 0 && change.page.value + change.pages <= kShared.end());
    end = change.page.value + change.pages;
    std::vector<std::byte> unit(change.pages * kPageSize);
    static_cast<void>(apply_masked(change.diff, unit.data(), nullptr, unit.size()));
    append_change(change, told);
  }
  std::vector<EagerChange> again;
  FUZZ_REQUIRE(decode_eager_changes(told, kShared, again) && again.size() == changes.size());
  for (std::size_t i = 0; i < again.size(); ++i) {
    FUZZ_REQUIRE(again[i].page == changes[i].page && again[i].pages == changes[i].pages && again[i].may_leave == changes[i].may_leave &&
                 again[i].flushes == changes[i].flushes);
    FUZZ_REQUIRE(again[i].diff.size() == changes[i].diff.size());
  }
  return 0;
}
