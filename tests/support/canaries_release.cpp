// Canaries of lrc, erc and update.
#include <cstdint>
#include <vector>

#include "dsm/protocols/erc.hpp"
#include "dsm/protocols/lrc.hpp"
#include "dsm/protocols/update.hpp"
#include "tests/support/canary_parts.hpp"

namespace netvm::test {

namespace {

// Bytes that did not change travel with a changed neighbour of their word.
class LrcIsWordGranular final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  void find_changes(PageId page, std::vector<dsm::DiffRun>& runs) override {
    Lrc::find_changes(page, runs);
    std::vector<dsm::DiffRun> words;
    for (const dsm::DiffRun& run : runs) {
      const std::uint32_t first = run.offset & ~3U;
      const std::uint32_t end = (run.offset + run.bytes + 3U) & ~3U;
      if (words.empty() || first > words.back().offset + words.back().bytes) words.push_back({first, 0});
      words.back().bytes = end - words.back().offset;
    }
    runs = words;
  }
};

template <class P>
class EagerIsWordGranular final : public P {
 public:
  using P::P;

 private:
  bool find_changes(PageId page, std::vector<std::uint64_t>& masks) override {
    const bool any = P::find_changes(page, masks);
    for (std::uint64_t& mask : masks) {
      const std::uint64_t low = (mask | mask >> 1 | mask >> 2 | mask >> 3) & 0x1111111111111111;  // of each word's four bits
      mask = low * 0xf;
    }
    return any;
  }
};

class LrcDropsInvalidation final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  [[nodiscard]] bool believes(NodeId, NodeId) const override { return ++asked_ % 8 != 0; }
  mutable std::uint64_t asked_ = 0;
};

// A granter passes on what it wrote itself, but not what it learned from others.
class LrcIsNotTransitive final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  [[nodiscard]] bool believes(NodeId granter, NodeId writer) const override { return granter == writer || granter == self_; }
  const NodeId self_ = env().node();
};

class LrcForgetsEarlyChange final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  [[nodiscard]] bool owes_early_change() const override { return false; }
};

// What comes while a fault waits for answers is taken to be in them, as if nothing kept the page meanwhile.
class LrcForgetsNoticesDuringFetch final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  [[nodiscard]] std::uint64_t settles(std::uint64_t, std::uint64_t noticed) const override { return noticed; }
};

class LrcAppliesOutOfOrder final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  [[nodiscard]] bool in_order() const override { return false; }
};

class LrcComparesTooEarly final : public dsm::Lrc {
 public:
  using Lrc::Lrc;

 private:
  [[nodiscard]] Access right_after_change() const override { return Access::write; }
};

template <class P>
class ForgetsTwin final : public P {
 public:
  using P::P;

 private:
  [[nodiscard]] bool patches_twin() const override { return false; }
};

template <class P>
class DoesNotWait final : public P {
 public:
  using P::P;

 private:
  [[nodiscard]] bool waits_for_members() const override { return false; }
};

template <class P>
class StaysExclusive final : public P {
 public:
  using P::P;

 private:
  [[nodiscard]] bool ends_exclusive() const override { return false; }
};

template <class P>
class ComparesTooEarly final : public P {
 public:
  using P::P;

 private:
  [[nodiscard]] Access right_after_diff() const override { return Access::write; }
};

}  // namespace

void add_release_canaries(std::vector<Canary>& all) {
  all.push_back({"drops an invalidation", "lrc", make_canary<LrcDropsInvalidation>});
  all.push_back({"passes on its own notices only", "lrc", make_canary<LrcIsNotTransitive>});
  all.push_back({"forgets the notice of a page whose change was made early", "lrc", make_canary<LrcForgetsEarlyChange>});
  all.push_back({"forgets notices that come during a fetch", "lrc", make_canary<LrcForgetsNoticesDuringFetch>});
  all.push_back({"applies changes in the wrong order", "lrc", make_canary<LrcAppliesOutOfOrder>});
  all.push_back({"compares a page that may still be written", "lrc", make_canary<LrcComparesTooEarly>});
  all.push_back({"makes diffs of words", "lrc", make_canary<LrcIsWordGranular>});
  all.push_back({"does not patch the receiver's twin", "erc", make_canary<ForgetsTwin<dsm::Erc>>});
  all.push_back({"does not wait for those who have copies", "erc", make_canary<DoesNotWait<dsm::Erc>>});
  all.push_back({"does not notice that an exclusive page is joined", "erc", make_canary<StaysExclusive<dsm::Erc>>});
  all.push_back({"compares a page that may still be written", "erc", make_canary<ComparesTooEarly<dsm::Erc>>});
  all.push_back({"makes diffs of words", "erc", make_canary<EagerIsWordGranular<dsm::Erc>>});
  all.push_back({"does not patch the receiver's twin", "update", make_canary<ForgetsTwin<dsm::Update>>});
  all.push_back({"does not wait for those who have copies", "update", make_canary<DoesNotWait<dsm::Update>>});
  all.push_back({"does not notice that an exclusive page is joined", "update", make_canary<StaysExclusive<dsm::Update>>});
  all.push_back({"compares a page that may still be written", "update", make_canary<ComparesTooEarly<dsm::Update>>});
  all.push_back({"makes diffs of words", "update", make_canary<EagerIsWordGranular<dsm::Update>>});
}

}  // namespace netvm::test
