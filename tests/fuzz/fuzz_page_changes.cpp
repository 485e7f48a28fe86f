// dsm/page_changes: changes that another node answers with (lrc) are split safely; those whose diffs apply can be kept and told on, and say the same then.
#include <vector>

#include "dsm/diff.hpp"
#include "dsm/page_changes.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

using Page = std::vector<std::byte>;

// Which bytes the diff has, and what it says they are. False if it is malformed.
bool runs_of(std::span<const std::byte> diff, Page& page, std::vector<DiffRun>& runs) {
  Page zeros(kPageSize, std::byte{0});
  Page ones(kPageSize, std::byte{0xff});
  if (apply_diff(diff, zeros.data(), ones.data()) != diff.size()) return false;
  runs.clear();
  for (std::uint32_t i = 0; i < kPageSize; ++i) {
    if (zeros[i] != ones[i]) continue;
    page[i] = zeros[i];
    if (!runs.empty() && runs.back().offset + runs.back().bytes == i) {
      ++runs.back().bytes;
    } else {
      runs.push_back({i, 1});
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto wire = fuzz_bytes(data, size);
  std::span<const std::byte> rest = wire;
  std::vector<ChangeView> changes;
  if (!decode_changes(rest, NodeId{1}, changes)) return 0;
  FUZZ_REQUIRE(rest.size() <= wire.size());

  PageChanges kept;
  Page expected(kPageSize, std::byte{0});
  for (const ChangeView& change : changes) {
    FUZZ_REQUIRE(change.diff.data() >= wire.data() && change.diff.data() + change.diff.size() <= wire.data() + wire.size());
    std::vector<DiffRun> runs;
    Page page = expected;
    if (!runs_of(change.diff, page, runs)) continue;
    expected = page;
    kept.add({change.order, 1, 1, false}, runs, page.data());
  }
  std::vector<std::byte> told;
  kept.encode_all(0, told);
  std::span<const std::byte> told_rest = told;
  std::vector<ChangeView> again;
  FUZZ_REQUIRE(decode_changes(told_rest, NodeId{2}, again) && told_rest.empty());
  Page found(kPageSize, std::byte{0});
  for (const ChangeView& change : again) FUZZ_REQUIRE(apply_diff(change.diff, found.data(), nullptr) == change.diff.size());
  FUZZ_REQUIRE(found == expected);
  kept.drop_through(1);
  FUZZ_REQUIRE(kept.bytes() == 0);
  return 0;
}
