// sc-directory. The home of a page serves one request for it at a time: it takes rights away from others, grants, and waits for
// the requester's confirmation; further requests queue. Bytes never travel in messages: an owner that is recalled writes them into the
// home's frame, a requester reads them from there (one-sided), and messages say when.
//
// Invariants
//  1. One writer and no readers, or readers only; a copy with rights is listed in the directory (owner or sharers).
//  2. Without a remote owner that has written (M) the home's frame is current.
//  3. From a request's start to its confirmation no other message about that page reaches a node whose grant is not installed: the
//     faulting thread and the handlers never change a page's rights at the same time. (A reader in IS is never overtaken by an invalidation.)
//  4. An upgrade brings the bytes unless the directory still lists the requester: its copy may have been invalidated on the way. So a stale upgrade
//     is served as a full write, and nobody waits for a copy that is gone.
//  5. Who reads a page that nobody else has becomes its owner (E), and may begin to write (M) without telling anybody. Only that owner knows whether it did.
//  6. A faulting access runs in the end: sc_shared.hpp's hold-off.
//  7. A copy that is not changed (S, E) may be evicted without a word (Copy::dropped): the directory lists it until it is asked to go, or its node asks again.
//  8. Who reads ahead waits for several grants at once, and installs them in ascending order of pages: a page that is granted and not installed waits only for
//     lower ones, so nobody waits in a circle.
//  9. Handlers change rights and post transfers, but bring no page in: what a handler needs of a page that was evicted, a task of its own does.
// No wait is unbounded: a request waits for at most one of each other node; serving one takes some messages, and holds of at most 64 us.
// All state of a page (entry.state, the directory at entry.data) changes under the entry's latch.
#include "dsm/protocols/sc_directory.hpp"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "dsm/node_set.hpp"

namespace netvm::dsm {

using sc::Copy;
using sc::Kind;
using sc::kNobody;
using sc::load;
using sc::Message;
using sc::Phase;
using sc::store;

namespace {

// A page's bytes on their way to its home. Notices if they did not arrive; deletes itself.
struct WriteBack {
  PageId page;
  NodeId home;
  nic::Completion completion{&WriteBack::ended, this};

  WriteBack(PageId what, NodeId whither) : page(what), home(whither) {}
  static void ended(nic::Completion& self, void* context) {
    const std::unique_ptr<WriteBack> me(static_cast<WriteBack*>(context));
    if (self.status() == Status::cancelled || self.status() == Status::peer_dead) return;  // the job ends (Traits::outlives_nodes)
    NETVM_CHECK(ok(self.status()), "page %llu cannot be written to node %u: %s", number(me->page), me->home.value,
                describe(self.status()).data());
  }
};

}  // namespace

// One page at its home.
struct ScDirectory::Directory {
  NodeSet sharers;         // who may read; empty while there is an owner
  NodeId owner = kNobody;  // who may write, or begin to (M, E)
  bool busy = false;       // from serve_next() to the confirmation
  bool clean = false;      // what is being granted is E
  Request current;
  std::uint64_t transaction = 0;
  std::uint32_t awaited = 0;     // answers to recalls and invalidations
  std::vector<Request> waiting;  // in order of arrival; at most one of each node, which holds its page lock
};

ScDirectory::ScDirectory(ProtocolEnv& env) : env_(env) {}
ScDirectory::~ScDirectory() = default;

void ScDirectory::send(NodeId to, const Message& message) { env_.send(to, std::as_bytes(std::span(&message, 1))); }

// ---- the faulting thread ------------------------------------------------------------------------------------------------

void ScDirectory::acquire(PageId page, bool write) {
  PageEntry& entry = env_.entry(page);
  const NodeId home = env_.home_of(page);
  bool has_copy = false;
  {
    const std::scoped_lock latch(entry.latch);
    Copy copy = load(entry);
    if (copy.phase == Phase::M || (copy.phase != Phase::I && !write)) return;  // another thread of this node was faster
    if (copy.phase == Phase::E) {
      env_.set_access(page, Access::write);
      copy.phase = Phase::M;
      copy.clean = false;
      copy.number = static_cast<std::uint64_t>(env_.env().now());
      return store(entry, copy);
    }
    if (home == env_.node() && grant_at_home(page, entry, write)) return;
    has_copy = copy.phase == Phase::S;
    copy.phase = !write ? Phase::IS : has_copy ? Phase::SM : Phase::IM;
    store(entry, copy);
    env_.count(page, Stat::remote_faults);
    if (home == env_.node()) {
      Directory& dir = directory(entry);
      dir.waiting.push_back({home, write, has_copy});
      if (!dir.busy) serve_next(page, entry, dir);
    } else {
      send(home,
           {write ? Kind::get_exclusive : Kind::get_shared, has_copy ? sc::kHasCopy : std::uint8_t{0}, 0, env_.node(), page.value, 0});
    }
  }
  env_.wait_until(
      word_of(page), [&entry] { return load(entry).granted; }, "the grant of a page",
      [&] {
        if (!has_copy && home != env_.node()) env_.look_at(page, home);
      });
  install(page, entry, write, home);
}

// The home's own fault, when nobody else must be asked.
bool ScDirectory::grant_at_home(PageId page, PageEntry& entry, bool write) {
  Directory& dir = directory(entry);
  const bool others = dir.owner != kNobody || (write && dir.sharers.size() > (dir.sharers.contains(env_.node()) ? 1U : 0U));
  if (dir.busy || others) return false;
  if (write) {
    dir.sharers.clear();
    dir.owner = env_.node();
  } else {
    dir.sharers.add(env_.node());
  }
  env_.set_access(page, write ? Access::write : Access::read);
  Copy copy = load(entry);
  copy.phase = write ? Phase::M : Phase::S;
  copy.number = static_cast<std::uint64_t>(env_.env().now());
  store(entry, copy);
  return true;
}

// Invariant 3: nobody else touches the page's rights or frame here until the confirmation.
void ScDirectory::install(PageId page, PageEntry& entry, bool write, NodeId home) {
  if (load(entry).with_data && home != env_.node()) env_.fetch_page(page, home);
  const std::scoped_lock latch(entry.latch);
  env_.set_access(page, write ? Access::write : Access::read);
  const std::uint64_t transaction = settle_right(entry, write);
  if (home == env_.node()) return on_confirm(page, entry, transaction);
  send(home, {Kind::confirm, 0, 0, {}, page.value, transaction});
}

// The right is there. Latch held. Returns the transaction that gave it.
std::uint64_t ScDirectory::settle_right(PageEntry& entry, bool write) {
  const Copy copy = load(entry);
  const Phase phase = write ? Phase::M : copy.clean ? Phase::E : Phase::S;
  store(entry, {phase, false, false, !write, copy.losses, false, static_cast<std::uint64_t>(env_.env().now())});
  return copy.number;
}

// Asks for all of them, then waits for each: invariant 8.
void ScDirectory::on_read_ahead(std::span<const PageId> units) {
  std::vector<PageId> asked;
  sc::Outbox requests;
  for (const PageId page : units) {
    PageEntry& entry = env_.entry(page);
    const NodeId home = entry.home();
    const std::scoped_lock latch(entry.latch);
    Copy copy = load(entry);
    if (copy.phase != Phase::I) continue;
    if (home == env_.node()) {
      (void)grant_at_home(page, entry, false);  // or it is somebody else's: then it is not worth a recall
      continue;
    }
    copy.phase = Phase::IS;
    store(entry, copy);
    requests.add(env_, home, {Kind::get_shared, 0, 0, env_.node(), page.value, 0});
    asked.push_back(page);
  }
  requests.leave(env_);
  for (std::span<const PageId> left(asked); !left.empty();) {
    const PageId first = left.front();
    const NodeId home = env_.entry(first).home();
    env_.wait_until(
        word_of(first), [&] { return load(env_.entry(first)).granted; }, "the grant of a page that is read ahead");
    const std::size_t run =
        sc::length_of_run(env_, left, [&](PageId page) { return env_.entry(page).home() == home && load(env_.entry(page)).granted; });
    install_run(left.first(run), home);
    left = left.subspan(run);
  }
}

// Neighbours of one home, granted for reading: one transfer, one change of rights. Invariant 3 holds for each.
void ScDirectory::install_run(std::span<const PageId> run, NodeId home) {
  env_.fetch_pages({run.front(), env_.unit(run.back()).end() - run.front().value}, home);
  env_.set_access(run, Access::read);
  sc::Outbox confirmations;
  for (const PageId page : run) {
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    confirmations.add(env_, home, {Kind::confirm, 0, 0, {}, page.value, settle_right(entry, false)});
  }
  confirmations.leave(env_);
}

void ScDirectory::on_grant(PageId page, PageEntry& entry, const Message& message) {
  Copy copy = load(entry);
  const bool exclusive = (message.flags & sc::kExclusive) != 0;
  NETVM_CHECK(!copy.granted && (exclusive ? copy.phase == Phase::IM || copy.phase == Phase::SM : copy.phase == Phase::IS),
              "sc-directory: page %llu was granted to a node in phase %u", number(page), static_cast<unsigned>(copy.phase));
  copy.granted = true;
  copy.with_data = (message.flags & sc::kWithData) != 0;
  copy.clean = (message.flags & sc::kClean) != 0;
  copy.number = message.transaction;
  store(entry, copy);
  word_of(page).announce(env_.env());
}

// ---- messages -------------------------------------------------------------------------------------------------------------

void ScDirectory::on_message(NodeId from, std::span<const std::byte> body) {
  const Message message = sc::decode(body, "sc-directory");
  const PageId page{message.page};
  NETVM_CHECK(env_.is_shared(page) && env_.is_shared(PageId{message.at(message.more).page}),
              "sc-directory: node %u speaks of page %llu, which is not shared", from.value, number(page));
  if (message.more != 0) return on_run(from, message);
  PageEntry& entry = env_.entry(page);
  bool must_write_back = false;
  {
    const std::scoped_lock latch(entry.latch);
    must_write_back = on_one(from, message, nullptr);
  }
  if (must_write_back) write_back(page, message.transaction);
}

void ScDirectory::on_run(NodeId from, const Message& run) {
  sc::Outbox grants;
  {
    const sc::LatchedRun latches(env_, run);
    if (run.kind == Kind::get_shared) share_together(run);
    for (std::uint32_t i = 0; i <= run.more; ++i) (void)on_one(from, run.at(i), &grants);
  }
  grants.leave(env_);
}

// Latch held. Returns whether the caller must write the page back, once it is free.
bool ScDirectory::on_one(NodeId from, const Message& message, sc::Outbox* grants) {
  const PageId page{message.page};
  PageEntry& entry = env_.entry(page);
  switch (message.kind) {
    case Kind::get_shared:
    case Kind::get_exclusive: {
      env_.learn_home(page, env_.node());
      Directory& dir = directory(entry);
      dir.waiting.push_back({from, message.kind == Kind::get_exclusive, (message.flags & sc::kHasCopy) != 0});
      if (!dir.busy) serve_next(page, entry, dir, grants);
      return false;
    }
    case Kind::recall_to_shared:
    case Kind::recall_to_invalid:
    case Kind::invalidate:
      return revoke(page, entry, message);
    case Kind::invalidated:
    case Kind::written_back:
      on_collected(page, entry, message.transaction);
      return false;
    case Kind::grant:
      on_grant(page, entry, message);
      return false;
    case Kind::confirm:
      on_confirm(page, entry, message.transaction);
      return false;
    case Kind::chased:
    case Kind::resume:
      NETVM_CHECK(false, "sc-directory: node %u sent message %u", from.value, static_cast<unsigned>(message.kind));
  }
  return false;
}

// ---- the home -------------------------------------------------------------------------------------------------------------

ScDirectory::Directory& ScDirectory::directory(PageEntry& entry) {
  if (entry.data == 0) entry.data = reinterpret_cast<std::uintptr_t>(&directories_.take());
  return *reinterpret_cast<Directory*>(entry.data);
}

void ScDirectory::serve_next(PageId page, PageEntry& entry, Directory& dir, sc::Outbox* grants) {
  dir.busy = true;
  dir.current = dir.waiting.front();
  dir.waiting.erase(dir.waiting.begin());
  dir.transaction = transactions_.fetch_add(1, std::memory_order_relaxed) + 1;  // relaxed: only its being unique matters
  const NodeId requester = dir.current.node;
  if (dir.owner == requester) dir.owner = kNobody;  // it dropped its clean copy
  if (dir.owner != kNobody) {
    dir.awaited = 1;
    return ask(dir.owner, page, entry, dir, dir.current.exclusive ? Kind::recall_to_invalid : Kind::recall_to_shared);
  }
  dir.awaited = dir.current.exclusive ? dir.sharers.size() - (dir.sharers.contains(requester) ? 1U : 0U) : 0U;
  if (dir.awaited == 0) return grant(page, entry, dir, grants);
  const NodeSet sharers = dir.sharers;  // the last answer, if it comes from this node at once, changes the set
  sharers.for_each([&](NodeId sharer) {
    if (sharer != requester) ask(sharer, page, entry, dir, Kind::invalidate);
  });
}

void ScDirectory::share_together(const Message& run) {
  const auto may_give_up = [this](PageEntry& entry) {
    const Directory& dir = directory(entry);
    return !dir.busy && dir.owner == env_.node();
  };
  for (const PageId page : sc::share_together(env_, run, 0, may_give_up, [this](auto units) { lower_access(units, Access::read); })) {
    Directory& dir = directory(env_.entry(page));
    dir.owner = kNobody;
    dir.sharers.clear();
    dir.sharers.add(env_.node());
  }
}

// The home's own copy needs no message.
void ScDirectory::ask(NodeId node, PageId page, PageEntry& entry, Directory& dir, Kind kind) {
  const Message message{kind, 0, 0, {}, page.value, dir.transaction};
  if (node != env_.node()) return send(node, message);
  const bool must_write_back = revoke(page, entry, message);
  NETVM_CHECK(!must_write_back, "sc-directory: page %llu is at its home", number(page));
}

// One answer more. Answers of a transaction that is over (its page was freed meanwhile) mean nothing.
void ScDirectory::on_collected(PageId page, PageEntry& entry, std::uint64_t transaction) {
  if (entry.data == 0) return;
  Directory& dir = directory(entry);
  if (!dir.busy || dir.transaction != transaction || dir.awaited == 0) return;
  if (--dir.awaited > 0) return;
  if (dir.owner != kNobody) {
    dir.sharers.clear();
    if (!dir.current.exclusive) dir.sharers.add(dir.owner);
    dir.owner = kNobody;
  }
  grant(page, entry, dir);
}

void ScDirectory::grant(PageId page, PageEntry& entry, Directory& dir, sc::Outbox* grants) {
  const Request& request = dir.current;
  const bool data = !request.exclusive || needs_data(request.has_copy, dir.sharers.contains(request.node));
  dir.clean = !request.exclusive && dir.sharers.empty() && request.node != env_.node();
  const auto flags =
      static_cast<std::uint8_t>((request.exclusive ? sc::kExclusive : 0) | (data ? sc::kWithData : 0) | (dir.clean ? sc::kClean : 0));
  const Message message{Kind::grant, flags, 0, {}, page.value, dir.transaction};
  if (request.node == env_.node()) {
    on_grant(page, entry, message);
  } else {
    (void)env_.try_pin({page, 1}, false);  // or the first reader of a page would have to go the slow way
    if (grants != nullptr) return grants->add(env_, request.node, message);
    send(request.node, message);
  }
}

void ScDirectory::on_confirm(PageId page, PageEntry& entry, std::uint64_t transaction) {
  if (entry.data == 0) return;
  Directory& dir = directory(entry);
  if (!dir.busy || dir.transaction != transaction) return;
  if (dir.current.exclusive || dir.clean) {
    dir.sharers.clear();
    dir.owner = dir.current.node;
  } else {
    dir.sharers.add(dir.current.node);
  }
  dir.busy = false;
  if (!dir.waiting.empty()) serve_next(page, entry, dir);
}

// ---- losing rights ----------------------------------------------------------------------------------------------------------

// Returns whether the caller must write the page back, once the latch is free.
bool ScDirectory::revoke(PageId page, PageEntry& entry, const Message& message) {
  Copy copy = load(entry);
  const bool from_owner = message.kind != Kind::invalidate;
  if (copy.dropped && !copy.granted) {
    // Invariant 7. If this node has asked again by now, that request is served later.
    copy.dropped = message.kind == Kind::recall_to_shared;  // then it is listed as a reader
    store(entry, copy);
    send(entry.home(), {from_owner ? Kind::written_back : Kind::invalidated, 0, 0, {}, page.value, message.transaction});
    return false;
  }
  const bool expected = from_owner ? copy.phase == Phase::M || copy.phase == Phase::E : copy.phase == Phase::S || copy.phase == Phase::SM;
  NETVM_CHECK(!copy.granted && expected, "sc-directory: the home of page %llu sent message %u to a node in phase %u", number(page),
              static_cast<unsigned>(message.kind), static_cast<unsigned>(copy.phase));
  const bool dirty = from_owner && is_dirty(copy.phase);
  const bool keeps = message.kind == Kind::recall_to_shared;
  if (copy.phase == Phase::E && keeps) {
    copy.phase = Phase::S;  // the right to read stays: nothing is lost
    store(entry, copy);
  } else if (copy.phase == Phase::SM) {
    lower_access({&page, 1}, Access::none);
    copy.phase = Phase::IM;
    store(entry, copy);
    env_.count(page, Stat::invalidations);
  } else {
    if (defer(copy, message)) return false;
    const Access to = keeps ? Access::read : Access::none;
    lower_access({&page, 1}, to);
    sc::note_lowered(env_, page, to);
  }

  const NodeId home = entry.home();
  if (home == env_.node()) {
    on_collected(page, entry, message.transaction);
    return false;
  }
  if (!dirty) send(home, {from_owner ? Kind::written_back : Kind::invalidated, 0, 0, {}, page.value, message.transaction});
  return dirty;
}

// This node's frame over the home's; the message behind it arrives when the bytes are there (nic.hpp, invariant 2). The frame stays as it is: nobody is granted
// the page before the home has heard of it.
void ScDirectory::write_back(PageId page, std::uint64_t transaction) {
  const NodeId home = env_.entry(page).home();
  const auto post = [this, page, home, transaction] {
    env_.post_put({page, 1}, home, &(new WriteBack(page, home))->completion);
    send(home, {Kind::written_back, 0, 0, {}, page.value, transaction});
  };
  if (const FramePins pins = env_.try_pin({page, 1}, false); pins.holds()) return post();
  // It was evicted meanwhile: bringing it in would block the handler that calls.
  (void)env_.spawn([this, page, post] {
    const FramePins pins = env_.pin({page, 1}, false);
    post();
  });
}

// Invariant 6. The message comes again when the time is over.
bool ScDirectory::defer(const Copy& copy, const Message& message) {
  const Nanos until = sc::kept_until(copy, 0, env_.env());
  if (until == 0) return false;
  env_.env().at(until, [this, message] { send(env_.node(), message); });
  return true;
}

// What was written here may still be on its way to the home, also when the right to write is gone.
Departure ScDirectory::on_evict(PageId page) {
  PageEntry& entry = env_.entry(page);
  if (!entry.home_known() || entry.home() == env_.node() || !entry.latch.try_lock()) return Departure::save;
  Copy copy = load(entry);
  const bool spare = copy.clean && !sc::in_transit(copy.phase);
  if (spare && copy.phase != Phase::I) {
    env_.set_access(page, Access::none);
    copy.phase = Phase::I;
    copy.dropped = true;
    store(entry, copy);
  }
  entry.latch.unlock();
  return spare ? Departure::drop : Departure::save;
}

// ---- the end of an allocation -----------------------------------------------------------------------------------------------

void ScDirectory::on_detach(PageRange pages) { sc::forget(env_, pages, directories_); }

}  // namespace netvm::dsm
