// nic/firmware over nic/region_table and nic/shadow_page_table, against a model made of maps: any sequence of regions opened and closed, pages
// mapped, unmapped and faulted, and requests with any id, key, offset and length gives the same answers, moves the same bytes and no others,
// and leaves nothing locked (else the unmapping at the end hangs, which -timeout notices).
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nic/device.hpp"
#include "nic/firmware.hpp"
#include "runtime/real_env.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace netvm;
using namespace netvm::nic;

constexpr std::uint64_t kPages = 8;
constexpr std::uint64_t kBytes = kPages * kPageSize;
constexpr std::uint64_t kMostMoved = 3 * kPageSize + 64;  // by one request that is within its region

/// The input as a supply of choices; zeros when it is used up.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : at_(data), left_(size) {}
  [[nodiscard]] bool any() const { return left_ > 0; }
  std::uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *at_++;
  }
  std::uint64_t below(std::uint64_t bound) { return byte() % bound; }
  std::uint64_t word() {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  /// Mostly near the interesting borders: 0, pages' ends, the region's end, 2^64.
  std::uint64_t number(std::uint64_t length) {
    const std::uint64_t nudge = below(33) - 16;
    switch (below(6)) {
      case 0:
        return below(256);
      case 1:
        return below(8) * kPageSize + nudge;
      case 2:
        return length + nudge;
      case 3:
        return nudge;  // around 0 and 2^64
      case 4:
        return (std::uint64_t{byte()} << 8 | byte()) % (kBytes + 1);
      default:
        return word();
    }
  }

 private:
  const std::uint8_t* at_;
  std::size_t left_;
};

struct ModelRegion {
  std::uint64_t key, first_page, pages;
  Rights rights;
};
struct ModelPage {
  PageState state = PageState::invalid;
  bool written = false;
};

/// There, with data that waits for it.
bool waits(PageState state) { return state == PageState::redirecting || state == PageState::redirecting_read_only; }
bool is_mapped(PageState state) { return state == PageState::read_only || state == PageState::read_write || waits(state); }

class Machine {
 public:
  explicit Machine(Choices choices) : choices_(choices), frames_(new (std::align_val_t{kPageSize}) Frames), model_bytes_(kBytes) {
    DeviceConfig shape;
    shape.pages = kPages;
    std::string why;
    device_ = Device::create(shape, -1, frames_->data(), &why).value();
    std::memcpy(frames_->data(), pattern().data(), kBytes);
    std::memcpy(model_bytes_.data(), pattern().data(), kBytes);
  }

  void run() {
    while (choices_.any()) {
      step();
      FUZZ_REQUIRE(std::memcmp(frames_->data(), model_bytes_.data(), kBytes) == 0);
      for (std::uint64_t page = 0; page < kPages; ++page) {
        const ShadowEntry entry = device_->shadow().entry(PageId{page});
        FUZZ_REQUIRE(entry.state == pages_[page].state);
        FUZZ_REQUIRE(entry.locks == 0);
        FUZZ_REQUIRE(!is_mapped(entry.state) || entry.frame == page);
        FUZZ_REQUIRE(!is_mapped(entry.state) || !pages_[page].written || entry.written);
      }
    }
    device_->shadow().on_unmap({PageId{0}, kPages});
    device_->shadow().drain({PageId{0}, kPages});
  }

 private:
  using Frames = std::array<std::byte, kBytes>;
  static const Frames& pattern() {
    static const Frames made = [] {
      Frames bytes;
      for (std::uint64_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / kPageSize);
      return bytes;
    }();
    return made;
  }
  struct FreeFrames {
    void operator()(Frames* frames) const { ::operator delete (frames, std::align_val_t{kPageSize}); }
  };

  void step() {
    switch (choices_.below(12)) {
      case 0:
        return create();
      case 1:
        return revoke();
      case 2:
      case 3:
        return map();
      case 4:
        return unmap();
      case 5:
        return fault();
      case 6:
        return damaged_request();
      default:
        return request();
    }
  }

  PageRange some_pages() {
    const std::uint64_t first = choices_.below(kPages);
    return {PageId{first}, 1 + choices_.below(kPages - first)};
  }

  // ---- regions
  void create() {
    const PageRange pages = some_pages();
    const auto rights = static_cast<Rights>(choices_.below(8));
    const Result<RemoteRegion> made = device_->regions().create(env_, pages, rights);
    FUZZ_REQUIRE(made.has_value() == (regions_.size() < RegionTable::kEntries));
    if (!made) return;
    FUZZ_REQUIRE(made->length == pages.count * kPageSize && made->key != 0 && !regions_.contains(made->id.value));
    regions_[made->id.value] = {made->key, pages.first.value, pages.count, rights};
  }
  void revoke() {
    const RemoteRegion region = some_region();
    const auto found = regions_.find(region.id.value);
    const bool right = found != regions_.end() && found->second.key == region.key;
    FUZZ_REQUIRE(device_->regions().revoke(region, device_->shadow()) == (right ? Status::ok : refusal(region)));
    if (!right) return;
    revoked_[region.id.value] = region.key;
    regions_.erase(found);
  }
  /// One that is, one that was, or one that somebody made up.
  RemoteRegion some_region() {
    RemoteRegion region;
    const auto& keys = choices_.below(4) == 0 ? revoked_ : std::map<std::uint32_t, std::uint64_t>{};
    if (!keys.empty()) {
      const auto at = std::next(keys.begin(), static_cast<std::ptrdiff_t>(choices_.below(keys.size())));
      region = {NodeId{0}, RegionId{at->first}, at->second, 0};
    } else if (!regions_.empty()) {
      const auto at = std::next(regions_.begin(), static_cast<std::ptrdiff_t>(choices_.below(regions_.size())));
      region = {NodeId{0}, RegionId{at->first}, at->second.key, at->second.pages * kPageSize};
    }
    switch (choices_.below(16)) {
      case 0:
        region.key = choices_.word();
        break;
      case 1:
        region.key ^= std::uint64_t{1} << choices_.below(64);
        break;
      case 2:
        region.id = RegionId{static_cast<std::uint32_t>(choices_.word())};
        break;
      case 3:
        region.id = RegionId{region.id.value + 1};
        break;
      default:
        break;
    }
    return region;
  }
  [[nodiscard]] Status refusal(const RemoteRegion& region) const {
    const auto was = revoked_.find(region.id.value);
    return region.key != 0 && was != revoked_.end() && was->second == region.key ? Status::revoked : Status::key;
  }

  // ---- pages
  void map() {
    const PageRange pages = some_pages();
    const bool writable = choices_.below(3) != 0;
    device_->shadow().map(pages, writable);
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      ModelPage& page = pages_[p];
      if (!is_mapped(page.state)) page.written = false;
      const bool redirects = page.state == PageState::faulting || waits(page.state);
      page.state = redirects ? (writable ? PageState::redirecting : PageState::redirecting_read_only)
                             : (writable ? PageState::read_write : PageState::read_only);
    }
  }
  void unmap() {
    const PageRange pages = some_pages();
    device_->shadow().on_unmap(pages);
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      PageState& state = pages_[p].state;
      if (is_mapped(state)) state = waits(state) ? PageState::faulting : PageState::invalid;
    }
  }
  void fault() {
    const PageId page{choices_.below(kPages)};
    PageState& state = pages_[page.value].state;
    switch (choices_.below(3)) {
      case 0: {
        const FaultStart start = device_->shadow().begin_fault(page);
        const bool resident = state == PageState::read_only || state == PageState::read_write;
        FUZZ_REQUIRE(start == (resident ? FaultStart::resident : state == PageState::invalid ? FaultStart::begun : FaultStart::underway));
        if (start == FaultStart::begun) state = PageState::faulting;
        break;
      }
      case 1:
        FUZZ_REQUIRE(device_->shadow().abandon_fault(page) == (state == PageState::faulting));
        if (state == PageState::faulting) state = PageState::invalid;
        break;
      default:
        FUZZ_REQUIRE(device_->shadow().end_redirect(page) == waits(state));
        if (waits(state)) state = state == PageState::redirecting ? PageState::read_write : PageState::read_only;
        break;
    }
  }

  // ---- requests
  void request() {
    const RemoteRegion region = some_region();
    WorkRequest request;
    request.kind = static_cast<WorkKind>(choices_.below(3));
    request.region = region.id;
    request.key = region.key;
    request.offset = choices_.number(region.length);
    request.bytes = request.kind == WorkKind::atomic ? 8 : choices_.number(region.length - request.offset);
    request.atomic = {static_cast<AtomicOp>(choices_.below(6)), choices_.word(), choices_.below(4), choices_.word(), choices_.word()};
    execute(request);
  }
  /// The owner of an entry is not to be trusted either: it may name memory that there is not.
  void damaged_request() {
    if (regions_.empty()) return;
    const auto at = std::next(regions_.begin(), static_cast<std::ptrdiff_t>(choices_.below(regions_.size())));
    auto& entry = const_cast<RegionEntry&>(device_->regions().entry(RegionId{at->first}));
    const ModelRegion whole = at->second;
    at->second.first_page = choices_.below(2) == 0 ? choices_.below(16) : choices_.word();
    at->second.pages = choices_.below(2) == 0 ? choices_.below(16) : choices_.word();
    entry.first_page.store(at->second.first_page);
    entry.pages.store(at->second.pages);
    WorkRequest request;
    request.kind = static_cast<WorkKind>(choices_.below(3));
    request.region = RegionId{at->first};
    request.key = whole.key;
    request.offset = choices_.number(at->second.pages * kPageSize);
    request.bytes = choices_.number(kBytes) % kMostMoved;
    execute(request);
    at->second = whole;
    entry.first_page.store(whole.first_page);
    entry.pages.store(whole.pages);
  }

  void execute(WorkRequest request) {
    const bool atomic = request.kind == WorkKind::atomic;
    Outcome expected;
    const std::optional<std::uint64_t> first_byte = admit(request, &expected);
    // Only what is admitted may touch the buffer, and at most a region's length of it.
    const std::uint64_t room = first_byte && !atomic ? std::min<std::uint64_t>(request.bytes, kBytes + kPageSize) : 0;
    std::vector<std::byte> source(request.kind == WorkKind::write ? room : 0, static_cast<std::byte>(choices_.byte()));
    for (std::size_t i = 0; i < source.size(); i += 7) source[i] = static_cast<std::byte>(i);
    std::vector<std::byte> landing(request.kind == WorkKind::read ? room : 0), model_landing(landing);
    request.source = source.data();
    request.landing = landing.data();
    if (first_byte) touch(request, *first_byte, source, model_landing, &expected);
    const Outcome outcome = Firmware::execute(*device_, request);
    FUZZ_REQUIRE(outcome.status == expected.status);
    FUZZ_REQUIRE(outcome.resident == expected.resident);
    FUZZ_REQUIRE(outcome.resident || outcome.missing.value == expected.missing.value);
    FUZZ_REQUIRE(outcome.old_value == expected.old_value);
    FUZZ_REQUIRE(landing == model_landing);
  }

  /// Where the access begins in the node's memory; nothing if it is refused.
  std::optional<std::uint64_t> admit(const WorkRequest& request, Outcome* expected) const {
    const bool atomic = request.kind == WorkKind::atomic;
    const auto refuse = [expected](Status status) {
      expected->status = status;
      return std::nullopt;
    };
    if (atomic && request.atomic.op > AtomicOp::fetch_or) return refuse(Status::invalid);
    const auto found = regions_.find(request.region.value);
    if (found == regions_.end() || found->second.key != request.key) return refuse(refusal({NodeId{0}, request.region, request.key, 0}));
    const ModelRegion& region = found->second;
    const std::uint64_t bytes = atomic ? 8 : request.bytes;
    if (static_cast<unsigned __int128>(request.offset) + bytes > region.pages * kPageSize) return refuse(Status::range);
    const Rights need = atomic ? Rights::atomic : request.kind == WorkKind::write ? Rights::write : Rights::read;
    if (!allows(region.rights, need)) return refuse(Status::perm);
    const std::uint64_t first_byte = region.first_page * kPageSize + request.offset;
    if (atomic && first_byte % 8 != 0) return refuse(Status::align);
    return first_byte;
  }

  void touch(const WorkRequest& request, std::uint64_t first_byte, const std::vector<std::byte>& source, std::vector<std::byte>& landing,
             Outcome* expected) {
    const std::uint64_t bytes = request.kind == WorkKind::atomic ? 8 : request.bytes;
    if (bytes != 0 && (first_byte >= kBytes || bytes > kBytes - first_byte)) {  // refused as a whole
      expected->status = Status::unmapped;
      return;
    }
    for (std::uint64_t done = 0; done < bytes;) {
      const std::uint64_t at = first_byte + done;
      const std::uint64_t n = std::min(bytes - done, kPageSize - at % kPageSize);
      const std::uint64_t page = at / kPageSize;
      const PageState state = pages_[page].state;
      const bool reads = request.kind == WorkKind::read;
      if (state != PageState::read_write && !(reads && state == PageState::read_only)) {
        expected->resident = false;
        expected->missing = PageId{page};
        return;
      }
      if (!reads) pages_[page].written = true;
      const auto here = model_bytes_.begin() + static_cast<std::ptrdiff_t>(at);
      if (request.kind == WorkKind::write) {
        std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(done), n, here);
      } else if (reads) {
        std::copy_n(here, n, landing.begin() + static_cast<std::ptrdiff_t>(done));
      } else {
        std::memcpy(&expected->old_value, &*here, 8);
        const std::uint64_t value = result_of(expected->old_value, request.atomic);
        std::memcpy(&*here, &value, 8);
      }
      done += n;
    }
  }
  static std::uint64_t result_of(std::uint64_t old, const AtomicArgs& args) {
    switch (args.op) {
      case AtomicOp::fetch_add:
        return old + args.operand;
      case AtomicOp::swap:
        return args.operand;
      case AtomicOp::fetch_or:
        return old | args.operand;
      case AtomicOp::compare_swap:
        return old == args.compare ? args.operand : old;
      case AtomicOp::masked_cas:
        return ((old ^ args.compare) & args.compare_mask) == 0 ? (old & ~args.swap_mask) | (args.operand & args.swap_mask) : old;
    }
    return old;
  }

  static inline RealEnv env_{{0, false, 7}};
  Choices choices_;
  std::unique_ptr<Frames, FreeFrames> frames_;
  std::unique_ptr<Device> device_;
  std::vector<std::byte> model_bytes_;
  std::array<ModelPage, kPages> pages_{};
  std::map<std::uint32_t, ModelRegion> regions_;
  std::map<std::uint32_t, std::uint64_t> revoked_;  // by id: the last key
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Machine(Choices(data, size)).run();
  return 0;
}
