// Nic: pages that are not there. What a write, a read or an atomic does that meets one, and what follows when the host has brought it in.
//
//   resident after no waiting at all (first touch) ─▶ go on
//   else: shadow entry FAULTING, the bytes stay in a system buffer (RedirectTable), a task of the host pins the work request's whole range
//         host: on_map ─▶ REDIRECTING: nobody but the drain may lock the page
//         task ends ─▶ driver: one copy each, in the order of arrival, under the page's lock, with the key checked again
//                      ─▶ RW ─▶ completions, channels that waited ─▶ the pins go
//
// Invariants
//  1. The driver never waits: HostVm::pin() runs in tasks only. A fault holds back the channels that meet it, nobody else.
//  2. A write ends when all of its bytes are in their pages, never earlier; with the first error of its pieces otherwise.
//  3. Nothing waits for a clock. A task that ends drives; if another thread is driving, that one looks again after it (drive()).
//  4. A page that waits has an entry in state FAULTING or REDIRECTING, whatever the host does with it meanwhile, so that later writes to it meet
//     the same refusal and queue behind. open() ends that, when nothing waits for the page any more.
// Threads: the driver of this node's NIC; the tasks hand over in on_pinned().
#include <algorithm>
#include <mutex>
#include <utility>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

namespace {

/// How many pages at most the driver lets the host fill at once, where that takes no waiting: others' packets are behind this one.
constexpr std::uint64_t kMostAtOnce = 32;

/// Locks what a drain may lock.
class DrainTranslation final : public ShadowPageTable::Locker {
 public:
  explicit DrainTranslation(Device& target) : Locker(target.shadow().locker()) {}
  static constexpr bool kPinned = false;
  template <LockFor kWhat>
  bool try_lock(PageId page, std::uint64_t* frame) {
    return Locker::try_lock<drains<kWhat>()>(page, frame);
  }
  template <LockFor kWhat>
  std::uint64_t try_lock_run(PageId first, std::uint64_t most, std::uint64_t* frame) {
    return Locker::try_lock_run<drains<kWhat>()>(first, most, frame);
  }

 private:
  template <LockFor kWhat>
  static constexpr LockFor drains() {
    return kWhat == LockFor::write ? LockFor::drain : kWhat;
  }
};

}  // namespace

// ---- meeting a page that is not there -------------------------------------------------------------------------------------------------------

PageRange Nic::Impl::fault_range(const WorkRequest& request, PageId missing, std::uint64_t pages_ahead) const {
  const RegionEntry& entry = device.regions().entry(request.region);
  const std::uint64_t region_end = entry.first_page.load() + entry.pages.load();
  const std::uint64_t here = std::max<std::uint64_t>((request.offset % kPageSize + request.bytes + kPageSize - 1) / kPageSize, 1);
  const std::uint64_t most = std::max<std::uint64_t>(vm.most_pins() / 4, 1);  // several faults are underway at once
  return {missing, missing.value < region_end ? std::min({here + pages_ahead, region_end - missing.value, most}) : 1};
}

FramePins Nic::Impl::pin_at_once(PageRange range, bool write) {
  range.count = std::min(range.count, kMostAtOnce);
  FramePins pins = vm.try_pin(range, write);
  if (!pins.holds() && range.count > 1) pins = vm.try_pin({range.first, 1}, write);
  return pins;
}

bool Nic::Impl::execute_at_once(const WorkRequest& request, std::uint64_t pages_ahead, Outcome* outcome) {
  const bool write = request.kind != WorkKind::read;
  for (PageId tried{UINT64_MAX}; !outcome->resident;) {
    const PageId page = outcome->missing;
    if (page == tried) return false;  // it is pinned: what refuses the lock is a redirect
    tried = page;
    if (write && device.shadow().entry(page).state == PageState::read_only) {
      *outcome = {.status = Status::perm};
      return true;
    }
    const FramePins pins = pin_at_once(fault_range(request, page, pages_ahead), write);
    if (!pins.holds()) return false;
    stats.add(Stat::nic_minor_faults);
    *outcome = Firmware::execute(device, request);
  }
  return true;
}

Outcome Nic::Impl::execute_or_fault(const WorkRequest& request, std::uint64_t pages_ahead) {
  constexpr int kAttempts = 64;  // a page that comes and goes that often between two looks cannot be kept
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Outcome outcome = Firmware::execute(device, request);
    if (outcome.resident || execute_at_once(request, pages_ahead, &outcome)) return outcome;
    if (device.shadow().begin_fault(outcome.missing) != FaultStart::resident) return outcome;
  }
  return {.status = Status::fault_failed};
}

Outcome Nic::Impl::execute_in_turn(NodeId from, Inbound& channel, const WorkRequest& request, std::uint64_t pages_ahead) {
  if (channel.waits) return {.resident = false};
  if (!ok(channel.fault)) return {.status = std::exchange(channel.fault, Status::ok)};
  const Outcome outcome = execute_or_fault(request, pages_ahead);
  if (outcome.resident) return outcome;
  channel.waits = true;
  redirects.wait(outcome.missing, from);
  redirects.want(outcome.missing, fault_range(request, outcome.missing, pages_ahead), request.kind != WorkKind::read);
  start_faults();
  return outcome;
}

Status Nic::Impl::land_or_redirect(const Packet& packet, const WorkRequest& request, std::shared_ptr<RedirectedWrite>* redirected) {
  if (const Outcome outcome = Firmware::execute(device, request); outcome.resident) [[likely]]
    return outcome.status;
  for (std::uint64_t done = 0; done < request.bytes;) {
    WorkRequest part = request;
    part.offset += done;
    part.source += done;
    part.bytes = std::min<std::uint64_t>(request.bytes - done, kPageSize - part.offset % kPageSize);
    const std::uint64_t pages_behind = (part.offset % kPageSize + (request.bytes - done) - 1) / kPageSize + packet.header.pages_ahead;
    const Outcome outcome = execute_or_fault(part, pages_behind);
    if (!outcome.resident) {
      if (*redirected == nullptr) {
        *redirected = std::make_shared<RedirectedWrite>();
        (*redirected)->header = packet.header;
        (*redirected)->buffer.assign(packet.payload.begin(), packet.payload.end());
        stats.add(Stat::redirects);
      }
      const std::byte* buffered = (*redirected)->buffer.data() + (part.source - packet.payload.data());
      redirects.queue(outcome.missing, {*redirected, part.offset, buffered, static_cast<std::uint32_t>(part.bytes)});
      redirects.want(outcome.missing, fault_range(part, outcome.missing, pages_behind), true);
      stats.add(Stat::redirected_bytes, part.bytes);
    } else if (!ok(outcome.status)) {
      return outcome.status;
    }
    done += part.bytes;
  }
  return Status::ok;
}

// ---- the host brings pages in -----------------------------------------------------------------------------------------------------------------

void Nic::Impl::start_faults() {
  while (const std::optional<RedirectTable::Fault> fault = redirects.start_next()) {
    stats.add(Stat::nic_major_faults);
    const bool runs = host_faults.spawn([this, fault = *fault] { on_pinned(fault, vm.pin(fault.pages, fault.write)); });
    if (!runs) return;  // the NIC is about to end: nobody drives it any more
  }
}

void Nic::Impl::on_pinned(const RedirectTable::Fault& fault, Result<FramePins> pins) {
  EndedFault ended{fault, pins.status(), {}};
  if (pins.status() == Status::fault_failed)
    vm.tell_of_failure(fault.pages.first, "requests of nodes that need it end with E_FAULT_FAILED");
  if (pins) ended.pins = std::move(pins).value();
  {
    const std::lock_guard guard(ended_lock);
    ended_faults.push_back(std::move(ended));
  }
  ended_count.fetch_add(1);  // seq_cst: drive() looks after it has given up the role, we try for the role after this
  drive();
}

bool Nic::Impl::finish_faults() {
  if (ended_count.load(std::memory_order_acquire) == 0) return false;  // acquire: partner is on_pinned()'s addition
  std::vector<EndedFault> batch;
  {
    const std::lock_guard guard(ended_lock);
    batch.swap(ended_faults);
    ended_count.store(0);
  }
  for (EndedFault& ended : batch) {
    finish_fault(ended);
    ended.pins.release();
  }
  start_faults();
  return true;
}

void Nic::Impl::finish_fault(const EndedFault& ended) {
  Released released;
  for (const PageId page : redirects.end_fault(ended.fault.id)) {
    if (ok(ended.status)) {
      drain(page, &released);
    } else if (ended.fault.pages.count == 1) {
      fail(page, ended.status, &released);
    } else {
      redirects.want_alone(page);  // one page's failure is not its neighbours'
    }
  }
  // After the pages have been opened: who is told now finds them open.
  for (const std::shared_ptr<RedirectedWrite>& write : released.writes) {
    if (!channels[write->header.source.value].dead.load()) write->answered = end_at_once(write->header, write->status);
  }
  for (const NodeId source : released.channels) resume(source);
}

void Nic::Impl::drain(PageId page, Released* released) {
  stats.add(Stat::redirect_drains);
  while (const RedirectedPiece* piece = redirects.front(page)) {
    Status status = Status::peer_dead;  // nobody is told, and nothing of a dead node lands any more
    if (!channels[piece->write->header.source.value].dead.load()) {
      const WorkRequest request{.kind = WorkKind::write,
                                .region = piece->write->header.region,
                                .key = piece->write->header.key,
                                .offset = piece->offset,
                                .bytes = piece->bytes,
                                .source = piece->source};
      const Outcome outcome = BasicFirmware<DrainTranslation>::execute(device, request);
      if (!outcome.resident && !is_read_only(device.shadow().entry(page).state)) {
        // Gone again, pinned as it was: its owner has thrown its contents away. It begins anew.
        if (!redirects.try_again(page)) return fail(page, Status::fault_failed, released);
        if (device.shadow().begin_fault(page) == FaultStart::resident) continue;
        return redirects.want_alone(page);
      }
      status = outcome.resident ? outcome.status : Status::perm;
      if (status == Status::key) status = Status::revoked;  // the key was good when the bytes came
    }
    end_piece(page, status, released);
  }
  end_waiting(page, Status::ok, released);
  open(page);
}

void Nic::Impl::fail(PageId page, Status status, Released* released) {
  while (redirects.front(page) != nullptr) end_piece(page, status, released);
  end_waiting(page, status, released);
  open(page);
}

// The host may bring the page in for somebody else, or take it away, at any moment: between our two attempts, too.
void Nic::Impl::open(PageId page) {
  ShadowPageTable& shadow = device.shadow();
  for (PageState now = PageState::redirecting; redirects_in(now); now = shadow.entry(page).state) {
    if (shadow.end_redirect(page) || shadow.abandon_fault(page)) return;
  }
}

// ---- what waited ------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::end_piece(PageId page, Status status, Released* released) {
  const std::shared_ptr<RedirectedWrite> write = redirects.front(page)->write;
  redirects.pop(page);
  if (ok(write->status)) write->status = status;
  if (write->pieces_left != 0) return;
  write->buffer = {};
  released->writes.push_back(write);
  released->channels.push_back(write->header.source);
}

void Nic::Impl::end_waiting(PageId page, Status status, Released* released) {
  for (const NodeId source : redirects.release(page)) {
    inbound[source.value].waits = false;
    inbound[source.value].fault = status;
    released->channels.push_back(source);
  }
}

void Nic::Impl::resume(NodeId source) {
  if (channels[source.value].dead.load()) return;  // what it has sent and what waits here takes no effect any more
  retire_held(source, inbound[source.value]);
}

}  // namespace netvm::nic
