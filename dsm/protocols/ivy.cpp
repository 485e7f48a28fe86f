// The owner of a page has its current bytes, keeps the list of the other copies, and answers requests one after the other. A write request takes the
// ownership along: the new owner gets bytes and copyset, invalidates the copies, and only then lets its thread write. A grant says
// whether bytes go with it: the requester reads them from the granter's frame (one-sided; decision 0002).
//
// Invariants
//  1. A page has one owner, or its ownership is on its way in one grant. One writer and no readers, or readers only; every copy with rights, but the
//     owner's, is in the owner's copyset.
//  2. The owner's frame is current. A copy in the copyset is current, or its grant is on the way and its bytes lie in the granter's frame. They stay there until
//     they have been read, even if the ownership goes on: that frame changes only after a later grant to its node, and who gives that one has waited, or its
//     owner before it, for every reader's acknowledgement (invariant 4), and has installed its own right.
//  3. Who waits for the ownership, or has it and waits for acknowledgements or for its thread, queues requests: reads, and at the end at most one that takes
//     the ownership away. What asks for the ownership after that one goes to that one. So a request leaves under the latch under which was decided whom it asks.
//  4. An invalidation may overtake the grant of the copy that it means (they come from two nodes). It waits until that copy has been there.
//  5. A grant of ownership brings the bytes unless the requester has a copy and is in the copyset: it may have been invalidated on the way.
//  6. Messages about a page are on their way only while a thread waits for that page: when memory is freed, there are none.
//  7. A faulting access runs in the end: sc_shared.hpp's hold-off; every right is kept for a moment, as the next request may be here before the grant.
//  8. A copy may be evicted without a word (Record::dropped): its node stays in a copyset. An invalidation is acknowledged at once then; whether it means the copy that
//     is gone or one that has been granted since cannot be known, so a grant to read that comes after it is not used, and the ownership asked for instead.
//  9. Who reads ahead waits for several grants at once, and installs them in ascending order of pages: what it keeps others waiting for waits for lower pages
//     only, so nobody waits in a circle.
// 10. Where a page's requests pass that was never written, no bytes travel: all frames of it are zeros.
// All state of a page (entry.state, the record at entry.data) changes under the entry's latch.
#include "dsm/protocols/ivy.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace netvm::dsm {

using sc::Copy;
using sc::in_transit;
using sc::Kind;
using sc::kNobody;
using sc::load;
using sc::Message;
using sc::Phase;
using sc::store;

// One page, at a node that met it.
struct Ivy::Record {
  bool owner = false;
  bool blank = false;            // of an owner: nobody ever wrote the page (invariant 10)
  bool timer = false;            // a `resume` is due
  bool borrowed = false;         // what is in the frame came from an owner, and was not written since
  bool dropped = false;          // the copy was evicted; a copyset may have this node all the same
  bool voided = false;           // the grant to read that this node waits for is not to be used
  NodeId hint = kNobody;         // where the ownership is or was going, as far as this node knows; this node: here
  NodeId asked = kNobody;        // hint, when this node's request went out
  NodeId granter = kNobody;      // who has granted what this node waits for
  NodeId invalidator = kNobody;  // whose invalidation waits (invariants 4 and 7)
  NodeSet copyset;               // of an owner: the other copies; while it invalidates: those that have not answered
  std::vector<Request> waiting;  // invariant 3
};

Ivy::Ivy(ProtocolEnv& env) : env_(env) {}
Ivy::~Ivy() = default;

void Ivy::send(NodeId to, Kind kind, PageId page, std::uint8_t flags, std::uint16_t hops, NodeId node) {
  const Message message{kind, flags, hops, node, page.value, 0};
  env_.send(to, std::as_bytes(std::span(&message, 1)));
}

// Only homes are asked for pages that they never met: until then they are the owners.
Ivy::Record& Ivy::record_of(PageId page, PageEntry& entry) {
  if (entry.data == 0) {
    Record& record = records_.take();
    if (!entry.home_known()) env_.learn_home(page, env_.node());
    record.hint = entry.home();
    record.owner = record.blank = entry.home() == env_.node();
    entry.data = reinterpret_cast<std::uintptr_t>(&record);
  }
  return *reinterpret_cast<Record*>(entry.data);
}

// ---- the faulting thread ------------------------------------------------------------------------------------------------

void Ivy::acquire(PageId page, bool write) {
  PageEntry& entry = env_.entry(page);
  (void)env_.home_of(page);
  NodeId source = kNobody;  // who probably has the bytes
  {
    const std::scoped_lock latch(entry.latch);
    const Phase phase = load(entry).phase;
    if (phase == Phase::M || (phase == Phase::S && !write)) return;  // another thread of this node was faster
    Record& record = record_of(page, entry);
    if (record.owner) {
      if (acquire_as_owner(page, entry, record, write)) return;
    } else {
      // Who invalidates is before this node in the order of owners: it must not wait for a copy that is kept for a thread that wants more.
      if (record.invalidator != kNobody) give_up_copy(page, entry, record);
      ask(page, entry, record, write);
      if (load(entry).phase != Phase::SM) source = record.asked;
    }
  }
  await_grant(page, "the grant of a page", source);
  install({&page, 1});
}

void Ivy::await_grant(PageId page, const char* what, NodeId source) {
  env_.wait_until(
      word_of(page), [&entry = env_.entry(page)] { return load(entry).granted; }, what,
      [&] {
        if (source != kNobody) env_.look_at(page, source);
      });
}

// Nobody need be asked; but to write, the copies of others must go first. Whether that is done already.
bool Ivy::acquire_as_owner(PageId page, PageEntry& entry, Record& record, bool write) {
  Copy copy = load(entry);
  if (write && !record.copyset.empty()) {
    copy.phase = copy.phase == Phase::S ? Phase::SM : Phase::IM;
    store(entry, copy);
    env_.count(page, Stat::remote_faults);
    invalidate_copies(page, entry, record);
    return false;
  }
  env_.set_access(page, write ? Access::write : Access::read);
  record.blank = record.blank && !write;
  copy.phase = write ? Phase::M : Phase::S;
  copy.number = static_cast<std::uint64_t>(env_.env().now());
  store(entry, copy);
  return true;
}

NodeId Ivy::granter_of(PageId page) { return reinterpret_cast<const Record*>(env_.entry(page).data)->granter; }

void Ivy::ask(PageId page, PageEntry& entry, Record& record, bool write, sc::Outbox* together) {
  Copy copy = load(entry);
  const bool has_copy = copy.phase == Phase::S;
  copy.phase = !write ? Phase::IS : has_copy ? Phase::SM : Phase::IM;
  store(entry, copy);
  env_.count(page, Stat::remote_faults);
  const bool follows = follows_owner(entry.home());
  record.asked = follows ? record.hint : entry.home();
  if (follows && write) record.hint = env_.node();
  const std::uint8_t flags = has_copy ? sc::kHasCopy : std::uint8_t{0};
  const Kind kind = write ? Kind::get_exclusive : Kind::get_shared;
  if (together != nullptr) return together->add(env_, record.asked, {kind, flags, 0, env_.node(), page.value, 0});
  send(record.asked, kind, page, flags, 0, env_.node());
}

// Asks for all of them, then waits for each: invariant 9.
void Ivy::on_read_ahead(std::span<const PageId> units) {
  std::vector<PageId> asked;
  {
    // Kept until the requests have left: a manager would else pass on one that takes the ownership away in between, and its own read then meet a node that
    // is no owner any more, and would wait there for ever.
    std::vector<std::unique_lock<SpinLock>> latches;
    sc::Outbox requests;
    for (const PageId page : units) {
      PageEntry& entry = env_.entry(page);
      std::unique_lock latch(entry.latch);
      if (load(entry).phase != Phase::I) continue;
      Record& record = record_of(page, entry);
      if (record.owner) {
        (void)acquire_as_owner(page, entry, record, false);
      } else if (record.invalidator == kNobody) {
        ask(page, entry, record, false, &requests);
        asked.push_back(page);
        latches.push_back(std::move(latch));
      }
    }
    requests.leave(env_);
  }
  for (std::span<const PageId> left(asked); !left.empty();) {
    await_grant(left.front(), "the grant of a page that is read ahead");
    // A grant to read that was not used became one to write (invariant 8).
    const Copy first = load(env_.entry(left.front()));
    const NodeId granter = granter_of(left.front());
    const std::size_t run = sc::length_of_run(env_, left, [&](PageId page) {
      const Copy copy = load(env_.entry(page));
      return copy.granted && copy.phase == first.phase && copy.with_data == first.with_data && granter_of(page) == granter;
    });
    install(left.first(run));
    left = left.subspan(run);
  }
}

// Neighbours that wait for the same, and have been granted it by one node; from the grant on nobody else touches their rights.
void Ivy::install(std::span<const PageId> run) {
  const Copy first = load(env_.entry(run.front()));
  const bool write = first.phase != Phase::IS;
  if (first.with_data) env_.fetch_pages({run.front(), env_.unit(run.back()).end() - run.front().value}, granter_of(run.front()));
  env_.set_access(run, write ? Access::write : Access::read);
  const auto now = static_cast<std::uint64_t>(env_.env().now());
  Grants grants;
  for (const PageId page : run) {
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    Record& record = record_of(page, entry);
    const Copy copy = load(entry);
    record.blank = record.blank && !write;
    record.dropped = false;
    record.borrowed = !write;
    store(entry, {write ? Phase::M : Phase::S, false, false, false, copy.losses, false, now});
    settle(page, entry, record, grants);
  }
  grants.leave(env_);
}

// ---- messages -------------------------------------------------------------------------------------------------------------

void Ivy::on_message(NodeId from, std::span<const std::byte> body) {
  std::span<const std::byte> more;
  const Message message = sc::decode(body, name(), &more);
  const PageId last{message.at(message.more).page};
  NETVM_CHECK(env_.is_shared(PageId{message.page}) && env_.is_shared(last) && message.node.value < env_.nodes(),
              "%s: node %u speaks of page %llu and node %u", name(), from.value, number(PageId{message.page}), message.node.value);
  if (message.more != 0) return on_run(from, message);
  Grants grants;
  {
    const std::scoped_lock latch(env_.entry(PageId{message.page}).latch);
    on_one(from, message, more, grants);
  }
  grants.leave(env_);
}

void Ivy::on_run(NodeId from, const Message& run) {
  Grants grants;
  {
    const sc::LatchedRun latches(env_, run);
    if (run.kind == Kind::get_shared) {
      const auto may_give_up = [](const PageEntry& entry) {
        const auto& record = *reinterpret_cast<const Record*>(entry.data);
        return record.owner && !record.timer && record.waiting.empty();
      };
      (void)sc::share_together(env_, run, sc::kQuick, may_give_up, [this](auto units) { lower_access(units, Access::read); });
    }
    for (std::uint32_t i = 0; i <= run.more; ++i) on_one(from, run.at(i), {}, grants);
  }
  grants.leave(env_);
}

void Ivy::on_one(NodeId from, const Message& message, std::span<const std::byte> more, Grants& grants) {
  const PageId page{message.page};
  PageEntry& entry = env_.entry(page);
  switch (message.kind) {
    case Kind::get_shared:
    case Kind::get_exclusive:
      return on_request(page, entry, {message.node, message.kind == Kind::get_exclusive, (message.flags & sc::kHasCopy) != 0, message.hops},
                        grants);
    case Kind::grant:
      return on_grant(page, entry, from, message, more);
    case Kind::chased:
      return on_chased(page, entry);
    case Kind::invalidate:
      return on_invalidate(page, entry, from, grants);
    case Kind::invalidated:
      return on_invalidated(page, entry, from);
    case Kind::resume:
      if (entry.data == 0) return;  // freed meanwhile
      record_of(page, entry).timer = false;
      return settle(page, entry, record_of(page, entry), grants);
    default:
      NETVM_CHECK(false, "%s: node %u sent message %u", name(), from.value, static_cast<unsigned>(message.kind));
  }
}

// ---- requests ---------------------------------------------------------------------------------------------------------------

void Ivy::on_request(PageId page, PageEntry& entry, const Request& request, Grants& grants) {
  Record& record = record_of(page, entry);
  const Phase phase = load(entry).phase;
  const bool will_own = record.owner || phase == Phase::IM || phase == Phase::SM;
  if (follows_owner(entry.home())) {
    const NodeId next = record.hint;
    if (request.exclusive) record.hint = request.node;
    // A read may as well be served here, before the one that takes the ownership away.
    const bool stays = next == env_.node() || (!request.exclusive && will_own) || !passes_on(request);
    if (!stays) return pass_on(page, request, next);
  }
  NETVM_CHECK(request.node != env_.node(), "%s: a request of this node for page %llu came back", name(), number(page));
  const bool last_leaves = !record.waiting.empty() && record.waiting.back().exclusive;
  NETVM_CHECK(!(last_leaves && request.exclusive), "%s: two nodes are to get page %llu from this one", name(), number(page));
  record.waiting.insert(record.waiting.end() - (last_leaves ? 1 : 0), request);
  settle(page, entry, record, grants);
}

// A write request meets each node once at most, as what comes after it goes to its requester. A read may follow an ownership that moves as fast
// as it does, and asks for it in the end.
void Ivy::pass_on(PageId page, const Request& request, NodeId to) {
  if (!request.exclusive && request.hops >= most_hops()) return send(request.node, Kind::chased, page);
  NETVM_CHECK(request.hops <= env_.nodes(), "%s: a request of node %u for page %llu goes round in circles", name(), request.node.value,
              number(page));
  send(to, request.exclusive ? Kind::get_exclusive : Kind::get_shared, page, request.has_copy ? sc::kHasCopy : std::uint8_t{0},
       static_cast<std::uint16_t>(request.hops + 1), request.node);
}

// Does what waits for this node, as far as that can be done now.
void Ivy::settle(PageId page, PageEntry& entry, Record& record, Grants& grants) {
  if (record.invalidator != kNobody && !in_transit(load(entry).phase)) {
    if (kept(page, load(entry), record)) return;
    give_up_copy(page, entry, record);
  }
  while (!record.waiting.empty()) {
    const Request request = record.waiting.front();
    const Copy copy = load(entry);
    if (!may_serve(request, record.owner, in_transit(copy.phase))) return;
    const bool costs_right = request.exclusive ? copy.phase != Phase::I : copy.phase == Phase::M;
    if (costs_right && kept(page, copy, record)) return;
    record.waiting.erase(record.waiting.begin());
    if (request.exclusive) {
      hand_over(page, entry, record, request, grants);
    } else {
      share(page, entry, record, request, grants);
    }
  }
}

void Ivy::give_up_copy(PageId page, PageEntry& entry, Record& record) {
  lose(page, entry, Access::none);
  if (learns_owner()) record.hint = record.invalidator;
  send(std::exchange(record.invalidator, kNobody), Kind::invalidated, page);
}

// Invariant 7.
bool Ivy::kept(PageId page, const Copy& copy, Record& record) {
  if (record.timer) return true;
  const Nanos until = sc::kept_until(copy, sc::kQuick, env_.env());
  if (until == 0) return false;
  record.timer = true;
  env_.env().at(until, [this, page] { send(env_.node(), Kind::resume, page); });
  return true;
}

void Ivy::lose(PageId page, PageEntry& entry, Access to) {
  if (load(entry).phase == Phase::I) return;
  lower_access({&page, 1}, to);
  sc::note_lowered(env_, page, to);
}

void Ivy::share(PageId page, PageEntry& entry, Record& record, const Request& request, Grants& grants) {
  if (load(entry).phase == Phase::M) lose(page, entry, Access::read);
  record.copyset.add(request.node);
  const std::uint8_t flags = record.blank ? std::uint8_t{0} : sc::kWithData;
  if (flags != 0) (void)env_.try_pin({page, 1}, false);  // or who reads it would have to go the slow way
  grants.add(env_, request.node, {Kind::grant, flags, 0, request.node, page.value, 0});
}

void Ivy::hand_over(PageId page, PageEntry& entry, Record& record, const Request& request, Grants& grants) {
  lose(page, entry, Access::none);
  const bool data = !record.blank && needs_data(request.has_copy, record.copyset.contains(request.node));
  record.copyset.remove(request.node);
  if (data) (void)env_.try_pin({page, 1}, false);  // as in share()
  const auto flags = static_cast<std::uint8_t>(sc::kExclusive | (data ? sc::kWithData : 0));
  sc::Outgoing grant{request.node, {Kind::grant, flags, 0, request.node, page.value, 0}, {}};
  record.copyset.append_to(grant.more);
  grants.add(std::move(grant));
  record.copyset.clear();
  record.owner = record.blank = false;
}

// ---- answers ----------------------------------------------------------------------------------------------------------------

void Ivy::on_grant(PageId page, PageEntry& entry, NodeId from, const Message& message, std::span<const std::byte> more) {
  Copy copy = load(entry);
  const bool exclusive = (message.flags & sc::kExclusive) != 0;
  const bool expected = exclusive ? copy.phase == Phase::IM || copy.phase == Phase::SM : copy.phase == Phase::IS;
  Record& record = record_of(page, entry);
  NETVM_CHECK(expected && !copy.granted && !record.owner, "%s: node %u granted page %llu to a node in phase %u", name(), from.value,
              number(page), static_cast<unsigned>(copy.phase));
  copy.with_data = (message.flags & sc::kWithData) != 0;
  store(entry, copy);
  record.granter = from;
  NodeSet copies;
  const bool well = NodeSet::decode(more, env_.nodes(), &copies) && !copies.contains(env_.node()) && (exclusive || copies.empty());
  NETVM_CHECK(well, "%s: node %u granted page %llu with a malformed copyset of %zu bytes", name(), from.value, number(page), more.size());
  if (!exclusive) {
    if (std::exchange(record.voided, false)) return ask(page, entry, record, true);
    if (learns_owner() && record.hint == record.asked) record.hint = from;
    return let_go_on(page, entry);
  }
  record.owner = true;
  record.copyset = std::move(copies);
  invalidate_copies(page, entry, record);
}

void Ivy::invalidate_copies(PageId page, PageEntry& entry, Record& record) {
  if (record.copyset.empty()) return let_go_on(page, entry);
  record.copyset.for_each([&](NodeId sharer) { send(sharer, Kind::invalidate, page); });
}

void Ivy::on_invalidated(PageId page, PageEntry& entry, NodeId from) {
  const Phase phase = load(entry).phase;
  Record& record = record_of(page, entry);
  NETVM_CHECK(record.owner && (phase == Phase::IM || phase == Phase::SM) && record.copyset.contains(from),
              "%s: node %u acknowledges an invalidation of page %llu that nobody asked for", name(), from.value, number(page));
  record.copyset.remove(from);
  if (record.copyset.empty()) let_go_on(page, entry);
}

void Ivy::let_go_on(PageId page, PageEntry& entry) {
  Copy copy = load(entry);
  copy.granted = true;
  store(entry, copy);
  word_of(page).announce(env_.env());
}

void Ivy::on_chased(PageId page, PageEntry& entry) {
  const Copy copy = load(entry);
  NETVM_CHECK(copy.phase == Phase::IS && !copy.granted, "%s: page %llu was not asked for", name(), number(page));
  Record& record = record_of(page, entry);
  record.voided = false;  // no grant is on its way
  ask(page, entry, record, true);
}

void Ivy::on_invalidate(PageId page, PageEntry& entry, NodeId from, Grants& grants) {
  Copy copy = load(entry);
  Record& record = record_of(page, entry);
  if (record.dropped && !copy.granted && (copy.phase == Phase::I || copy.phase == Phase::IS || copy.phase == Phase::IM)) {
    // Invariant 8. Who voids a grant is in its granter's copyset, and has no copy.
    record.voided = copy.phase == Phase::IS;
    record.dropped = record.voided;
    if (learns_owner() && copy.phase != Phase::IM) record.hint = from;
    return send(from, Kind::invalidated, page);
  }
  const bool has_or_gets_copy = copy.phase == Phase::S || copy.phase == Phase::SM || copy.phase == Phase::IS;
  NETVM_CHECK(has_or_gets_copy && !record.owner && record.invalidator == kNobody, "%s: node %u invalidates page %llu at a node in phase %u",
              name(), from.value, number(page), static_cast<unsigned>(copy.phase));
  if (copy.phase != Phase::SM) {
    record.invalidator = from;
    return settle(page, entry, record, grants);
  }
  // This node wants to write, too, and comes later: its copy is of no use to the waiting thread.
  lower_access({&page, 1}, Access::none);
  env_.count(page, Stat::invalidations);
  copy.phase = Phase::IM;
  store(entry, copy);
  send(from, Kind::invalidated, page);
}

// The owner has what a copy of its copyset holds. What was written here may be on its way to the next owner.
Departure Ivy::on_evict(PageId page) {
  PageEntry& entry = env_.entry(page);
  if (!entry.latch.try_lock()) return Departure::save;
  Departure departure = Departure::save;
  if (entry.data != 0) {
    Record& record = record_of(page, entry);
    Copy copy = load(entry);
    if (record.borrowed && record.invalidator == kNobody && (copy.phase == Phase::S || copy.phase == Phase::I)) {
      env_.set_access(page, Access::none);
      record.dropped |= copy.phase == Phase::S;
      copy.phase = Phase::I;
      store(entry, copy);
      departure = Departure::drop;
    }
  }
  entry.latch.unlock();
  return departure;
}

// ---- the end of an allocation -----------------------------------------------------------------------------------------------

void Ivy::on_detach(PageRange pages) { sc::forget(env_, pages, records_); }

}  // namespace netvm::dsm
