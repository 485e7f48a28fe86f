#include "dsm/protocol_env.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "dsm/dsm.hpp"
#include "dsm/homes.hpp"
#include "dsm/masked_diff.hpp"
#include "dsm/regions.hpp"
#include "dsm/sharing_map.hpp"
#include "dsm/twin_pool.hpp"
#include "nic/look_at.hpp"
#include "runtime/check.hpp"

namespace netvm::dsm {

// ---- pages -------------------------------------------------------------------------------------------------------------

PageRange ProtocolEnv::whole_units(PageRange pages) const {
  PageTable& table = parts_.table;
  const std::uint64_t last = pages.end() - 1;
  const std::uint8_t first_shift = table[pages.first].unit_shift();
  const std::uint8_t last_shift = table[PageId{last}].unit_shift();
  const std::uint64_t first = pages.first.value >> first_shift << first_shift;
  const std::uint64_t end = ((last >> last_shift) + 1) << last_shift;
  return {PageId{first}, end - first};
}

FramePins ProtocolEnv::pin(PageRange pages, bool write) {
  pages = whole_units(pages);
  Result<FramePins> pins = parts_.vm.pin(pages, write);
  if (pins.status() == Status::fault_failed) parts_.vm.end_without(pages.first, Status::fault_failed);
  NETVM_CHECK(pins.has_value(), "page %llu: the host cannot bring it in (%s)", number(pages.first), describe(pins.status()).data());
  return std::move(*pins);
}

FramePins ProtocolEnv::try_pin(PageRange pages, bool write) { return parts_.vm.try_pin(whole_units(pages), write); }

std::uint64_t ProtocolEnv::most_pins() const { return parts_.vm.most_pins(); }

bool ProtocolEnv::spawn(std::function<void()> task) { return parts_.background.spawn(std::move(task)); }

void ProtocolEnv::note_access(PageRange units, Access to) {
  for (std::uint64_t p = units.first.value; p != units.end();) {
    PageEntry& head = entry(PageId{p});
    head.access_.store(static_cast<std::uint8_t>(to), std::memory_order_relaxed);  // relaxed: lock or latch orders it
    p += head.unit_pages();
  }
}

void ProtocolEnv::set_access(PageRange pages, Access to) {
  if (pages.count == 0) return;
  pages = whole_units(pages);
  for (std::uint64_t at = pages.first.value; at != pages.end();) {
    const PageEntry& head = entry(PageId{at});
    const Access from = head.access();
    std::uint64_t end = at + head.unit_pages();
    while (end != pages.end()) {
      const PageEntry& next = entry(PageId{end});
      if (next.access() != from) break;
      end += next.unit_pages();
    }
    if (from != to) {
      const PageRange run{PageId{at}, end - at};
      parts_.vm.set_access(run, from, to);
      note_access(run, to);
    }
    at = end;
  }
}

void ProtocolEnv::set_access(std::span<const PageId> units, Access to) {
  PageRange run{};
  for (const PageId page : units) {
    const PageRange next = unit(page);
    if (run.count != 0 && run.end() == next.first.value) {
      run.count += next.count;
      continue;
    }
    set_access(run, to);
    run = next;
  }
  set_access(run, to);
}

// ---- homes -------------------------------------------------------------------------------------------------------------

NodeId ProtocolEnv::home_of(PageId page) {
  PageEntry& e = entry(page);
  if (e.home_known()) return e.home();
  const auto found = parts_.regions.find(page);
  NETVM_CHECK(found.has_value(), "page %llu belongs to no allocation that this node knows", number(page));
  Result<NodeId> home = parts_.homes.find(page, found->extent);
  if (home.status() == Status::peer_dead) {
    // Nobody can claim it any more. Whether it was claimed, and written, only one who knows the home can tell.
    if (const auto known = parts_.extents.ask_home(page)) home = *known;
  }
  must(home.status(), "which node is the home of a page that was allocated before, and that no living node knows to be used",
       parts_.homes.arbiter(page));
  if (!parts_.homes.computed(page, found->extent)) count_one_sided(parts_.homes.arbiter(page), sizeof(std::uint64_t));
  e.learn_home(*home);
  return *home;
}

bool ProtocolEnv::look_up_home(PageId page) {
  PageEntry& e = entry(page);
  if (e.home_known()) return true;
  const auto found = parts_.regions.find(page);
  if (!found) return false;
  const Result<std::optional<NodeId>> home = parts_.homes.look_up(page, found->extent);
  if (home.status() == Status::peer_dead) return false;  // whoever needs the page will ask for it
  if (!home) stop(home.status(), "looking up a page's home");
  if (!parts_.homes.computed(page, found->extent)) count_one_sided(parts_.homes.arbiter(page), sizeof(std::uint64_t));
  if (!home->has_value()) return false;
  e.learn_home(**home);
  return true;
}

std::uint64_t ProtocolEnv::serial_of(PageId page) const {
  const auto found = parts_.regions.find(page);
  return found ? found->extent.serial : 0;
}

bool ProtocolEnv::move_home(PageId page, std::uint64_t serial, NodeId home) {
  // A node that never met the allocation would ask placement, or the claim of the first touch, for the home: it must know better before it does.
  if (!parts_.regions.find(page) && !parts_.extents.meet(page)) return false;
  return parts_.regions.while_known(page, serial, [&] { entry(page).learn_home(home); });
}

bool ProtocolEnv::all_threads_wait() const {
  return !parts_.threads_go_on.load() && (!parts_.config.all_threads_wait || parts_.config.all_threads_wait());
}

std::size_t ProtocolEnv::post_announce(PageRange pages, NodeId home, nic::Completion* completions) {
  const std::size_t steps = parts_.sharing.post_announce(pages, home, completions);
  count_one_sided(home, steps * sizeof(std::uint64_t), steps);
  return steps;
}

// ---- twins and diffs -----------------------------------------------------------------------------------------------------

void ProtocolEnv::make_twin(PageId page) {
  PageEntry& e = entry(page);
  NETVM_CHECK(e.twin == nullptr, "page %llu has a twin already", number(page));
  e.twin = parts_.twins.take(e.unit_shift());
  std::memcpy(e.twin, frame(page), unit_bytes(page));
  count(page, Stat::twins);
}

void ProtocolEnv::drop_twin(PageId page) {
  PageEntry& e = entry(page);
  if (e.twin == nullptr) return;
  parts_.twins.give(e.twin, e.unit_shift());
  e.twin = nullptr;
}

const PageEntry& ProtocolEnv::to_be_compared(PageId page) {
  const PageEntry& e = entry(page);
  NETVM_CHECK(e.twin != nullptr, "page %llu has no twin to compare with", number(page));
  NETVM_CHECK(e.access() != Access::write, "page %llu is diffed while the application may write it", number(page));
  count(page, Stat::diffs);
  return e;
}

bool ProtocolEnv::diff(PageId page, std::vector<std::uint64_t>* masks) {
  const PageEntry& e = to_be_compared(page);
  const std::size_t unit = unit_bytes(page);
  masks->resize(unit / kLineBytes);
  find_diff_masks(e.twin, frame(page), masks->data(), unit);
  return std::any_of(masks->begin(), masks->end(), [](std::uint64_t mask) { return mask != 0; });
}

void ProtocolEnv::diff(PageId page, std::vector<DiffRun>* runs) {
  const PageEntry& e = to_be_compared(page);
  const std::size_t unit = unit_bytes(page);
  std::array<std::uint64_t, kMaxGranularity / kLineBytes> all;
  const std::span<std::uint64_t> masks = std::span(all).first(unit / kLineBytes);
  find_diff_masks(e.twin, frame(page), masks.data(), unit);
  const DiffSize size = measure_diff(masks);
  runs->resize(size.runs);
  (void)make_runs(masks, runs->data());
  count(page, Stat::diff_bytes, size.bytes);
}

std::size_t ProtocolEnv::apply_diff(PageId page, std::span<const std::byte> wire) {
  return dsm::apply_diff(wire, frame(page), entry(page).twin, unit_bytes(page));
}

// ---- one-sided transfers ---------------------------------------------------------------------------------------------------

void ProtocolEnv::count_transfer(PageRange pages, NodeId peer, bool fetched) {
  if (fetched) count(pages.first, Stat::pages_fetched, pages.count);
  count(pages.first, Stat::data_bytes, pages.count * kPageSize);
  count_one_sided(peer, pages.count * kPageSize);
}

void ProtocolEnv::fetch_page(PageId page, NodeId from) { fetch_pages({page, 1}, from); }

void ProtocolEnv::fetch_pages(PageRange pages, NodeId from) {
  pages = whole_units(pages);
  const FramePins pins = pin(pages, true);
  const Status status =
      parts_.nic.read(parts_.config.shared[from.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize);
  must(status, "reading a page from its copy", from);
  count_transfer(pages, from, true);
}

void ProtocolEnv::look_at(PageId page, NodeId from) {
  nic::look_at(parts_.nic, parts_.config.shared[from.value], offset_of(page), kPageSize);
  // What is going to be overwritten, too, for writing. (A prefetch that finds too many others under way is dropped.)
  volatile std::byte* const here = frame(page);
  for (std::size_t at = 0; at < kPageSize; at += kCacheLine) here[at] = here[at];
}

void ProtocolEnv::read_bytes(PageId page, std::uint64_t offset, std::span<std::byte> to) {
  const NodeId home = entry(page).home();
  const Status status = parts_.nic.read(parts_.config.shared[home.value], offset_of(page) + offset, to.data(), to.size());
  must(status, "reading a page at its home", home);
  count(page, Stat::data_bytes, to.size());
  count_one_sided(home, to.size());
}

void ProtocolEnv::post_fetch(PageRange pages, NodeId from, nic::Completion* completion) {
  pages = whole_units(pages);
  (void)pin(pages, true);  // the caller's pins keep them; this one says that they change
  count_transfer(pages, from, true);
  parts_.nic.post_read(parts_.config.shared[from.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize, completion);
}

void ProtocolEnv::put_page(PageId page, NodeId to) {
  const PageRange pages = unit(page);
  const Status status =
      parts_.nic.write(parts_.config.shared[to.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize);
  must(status, "writing a page", to);
  count_transfer(pages, to, false);
}

void ProtocolEnv::post_put(PageRange pages, NodeId to, nic::Completion* completion) {
  pages = whole_units(pages);
  parts_.nic.post_write(parts_.config.shared[to.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize, completion);
  count_transfer(pages, to, false);
}

void ProtocolEnv::post_segments(NodeId to, std::span<const nic::Segment> segments, std::uint64_t bytes, nic::Completion* completion) {
  parts_.nic.post_write_vector(parts_.config.shared[to.value], segments, completion);
  count_one_sided(to, bytes);
}

void ProtocolEnv::wait(nic::Completion& completion, const char* what, NodeId peer) { must(parts_.nic.wait(completion), what, peer); }

void ProtocolEnv::must(Status status, const char* what, NodeId peer) const {
  if (ok(status)) return;
  if (status == Status::peer_dead && parts_.config.end_job) {
    parts_.config.end_job("node " + std::to_string(peer.value) + " has died, and what it had is needed (" + what +
                          "): the job ends; memory of which a living node is the home goes on (Placement)");
  }
  NETVM_CHECK(false, "%s, node %u: %s", what, peer.value, describe(status).data());
}

// ---- messages ----------------------------------------------------------------------------------------------------------------

void ProtocolEnv::send(NodeId to, std::span<const std::byte> body, std::span<const std::byte> more) {
  // Eight bytes before the body say whose it is and keep it aligned.
  const std::size_t bytes = kProtocolHeaderBytes + body.size() + more.size();
  std::array<std::byte, 256> few;
  std::vector<std::byte> many(bytes > few.size() ? bytes : 0);
  const std::span<std::byte> message = many.empty() ? std::span(few).first(bytes) : std::span(many);
  std::fill_n(message.begin(), kProtocolHeaderBytes, std::byte{0});
  message[0] = static_cast<std::byte>(protocol_);
  if (!body.empty()) std::memcpy(message.data() + kProtocolHeaderBytes, body.data(), body.size());
  if (!more.empty()) std::memcpy(message.data() + kProtocolHeaderBytes + body.size(), more.data(), more.size());
  parts_.nic.send(to, nic::MessageKind::dsm_protocol, message);
  own_.add(Stat::messages_sent, parts_.nic.packets_of(message.size()));
  own_.add(Stat::message_bytes, message.size());
  own_.add(Stat::protocol_bytes, message.size());
}

// ---- statistics ----------------------------------------------------------------------------------------------------------------

void ProtocolEnv::count(PageId page, Stat stat, std::uint64_t by) {
  count(stat, by);
  const PageEntry& e = entry(page);
  if (e.attached()) parts_.regions.stats(e.region()).add(stat, by);
}

void ProtocolEnv::count(std::span<const PageId> pages, Stat stat) {
  if (pages.empty()) return;
  count(stat, pages.size());
  // Neighbours mostly belong to one region.
  std::uint32_t region = 0;
  std::uint64_t of_region = 0;
  const auto add = [&] {
    if (of_region != 0) parts_.regions.stats(region).add(stat, of_region);
    of_region = 0;
  };
  for (const PageId page : pages) {
    const PageEntry& e = entry(page);
    if (!e.attached()) continue;
    if (e.region() != region) add();
    region = e.region();
    ++of_region;
  }
  add();
}

void ProtocolEnv::count_carried(PageId page, std::uint64_t bytes) {
  count(page, Stat::data_bytes, bytes);
  count(Stat::protocol_bytes, ~bytes + 1);
}

void ProtocolEnv::count_one_sided(NodeId to, std::uint64_t bytes, std::uint64_t operations) {
  if (to == node() || operations == 0) return;
  own_.add(Stat::one_sided_ops, operations);
  own_.add(Stat::one_sided_bytes, bytes);
}

void ProtocolEnv::stop(Status status, const char* what) const {
  NETVM_CHECK(false, "%s: %s", what, describe(status).data());
  __builtin_unreachable();
}

}  // namespace netvm::dsm
