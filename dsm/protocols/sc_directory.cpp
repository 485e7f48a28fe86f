// Protocol sc-directory. The home of a page serves one request for it at a time: it takes rights away from others, grants, and waits for
// the requester's confirmation; further requests queue. Bytes never travel in messages: an owner that is recalled writes them into the
// home's frame, a requester reads them from there (one-sided), and messages say when.
//
// Invariants
//  1. One writer and no readers, or readers only; a copy with rights is listed in the directory (owner or sharers).
//  2. Without a remote owner the home's frame is current.
//  3. From a request's start to its confirmation no other message about that page reaches a node whose grant is not installed: the
//     faulting thread and the handlers never change a page's rights at the same time. (A reader in IS is never overtaken by an invalidation.)
//  4. An upgrade brings the bytes unless the directory still lists the requester: its copy may have been invalidated on the way.
//  5. A faulting access runs in the end: a node whose right is taken away soon after each grant keeps it longer and longer (64 us at most,
//     randomised, so that two nodes that each want two pages do not keep in step).
//  6. Handlers change rights and post transfers, but bring no page in: what a handler needs of a page that was evicted, a task of its own does.
// All state of a page (entry.state, the directory at entry.data) changes under the entry's latch. Lock order: latch, then pool_lock_.
#include "dsm/protocols/sc_directory.hpp"

#include <algorithm>
#include <mutex>

namespace netvm::dsm {

using sc::Copy;
using sc::Kind;
using sc::Message;
using sc::Phase;

namespace {

constexpr NodeId kNobody{UINT32_MAX};

// Invariant 5: a right that lasted less than kQuick may not have been used once (the way back from a signal handler takes 1 to 2 us).
constexpr Nanos kQuick = 4'000;
constexpr std::uint8_t kMaxLosses = 5;
Nanos hold_time(std::uint8_t losses) { return losses < 2 ? 0 : kQuick << (losses - 1); }

Copy load(const PageEntry& entry) {
  return Copy::unpack(entry.state.load(std::memory_order_acquire));  // acquire: partner is store()'s release, for the waiting thread
}
void store(PageEntry& entry, const Copy& copy) {
  entry.state.store(copy.pack(), std::memory_order_release);  // release: partner is load()'s acquire
}

unsigned long long number(PageId page) { return static_cast<unsigned long long>(page.value); }

}  // namespace

// One page at its home.
struct ScDirectory::Directory {
  sc::NodeSet sharers;     // who may read; empty while there is an owner
  NodeId owner = kNobody;  // who may write
  bool busy = false;       // from serve_next() to the confirmation
  Request current;
  std::uint64_t transaction = 0;
  std::uint32_t awaited = 0;     // answers to recalls and invalidations
  std::vector<Request> waiting;  // in order of arrival; at most one of each node, which holds its page lock
};

ScDirectory::ScDirectory(ProtocolEnv& env) : env_(env) {}
ScDirectory::~ScDirectory() = default;

// A write-back on its way; deletes itself.
struct ScDirectory::WriteBack {
  ScDirectory& protocol;
  NodeId home;
  Message done;
  nic::Completion completion{&WriteBack::ended, this};

  WriteBack(ScDirectory& owner, NodeId to, const Message& message) : protocol(owner), home(to), done(message) {}
  static void ended(nic::Completion& self, void* context) {
    const std::unique_ptr<WriteBack> me(static_cast<WriteBack*>(context));
    if (self.status() == Status::cancelled) return;  // the job ends
    NETVM_CHECK(ok(self.status()), "sc-directory: writing page %llu back to node %u failed: %s",
                static_cast<unsigned long long>(me->done.page), me->home.value, to_string(self.status()).data());
    me->protocol.send(me->home, me->done);
  }
};

void ScDirectory::send(NodeId to, const Message& message) { env_.send(to, std::as_bytes(std::span(&message, 1))); }

// ---- the faulting thread ------------------------------------------------------------------------------------------------

void ScDirectory::acquire(PageId page, bool write) {
  PageEntry& entry = env_.entry(page);
  const NodeId home = env_.home_of(page);
  {
    const std::scoped_lock latch(entry.latch);
    Copy copy = load(entry);
    if (copy.phase == Phase::M || (copy.phase == Phase::S && !write)) return;  // another thread of this node was faster
    if (home == env_.node() && grant_at_home(page, entry, write)) return;
    const bool has_copy = copy.phase == Phase::S;
    copy.phase = !write ? Phase::IS : has_copy ? Phase::SM : Phase::IM;
    store(entry, copy);
    env_.count(page, Stat::remote_faults);
    if (home == env_.node()) {
      Directory& dir = directory(entry);
      dir.waiting.push_back({home, write, has_copy});
      if (!dir.busy) serve_next(page, entry, dir);
    } else {
      Message request{write ? Kind::get_exclusive : Kind::get_shared, has_copy ? sc::kHasCopy : std::uint8_t{0}, {}, page.value, 0};
      send(home, request);
    }
  }
  env_.wait_until(
      word_of(page), [&entry] { return load(entry).granted; }, "the grant of a page");
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
  Copy copy = load(entry);
  const std::uint64_t transaction = copy.number;
  env_.set_access(page, write ? Access::write : Access::read);
  copy = {write ? Phase::M : Phase::S, false, false, copy.losses, static_cast<std::uint64_t>(env_.env().now())};
  store(entry, copy);
  if (home == env_.node()) {
    on_confirm(page, entry, transaction);
  } else {
    send(home, {Kind::confirm, 0, {}, page.value, transaction});
  }
}

void ScDirectory::on_grant(PageId page, PageEntry& entry, const Message& message) {
  Copy copy = load(entry);
  const bool exclusive = (message.flags & sc::kExclusive) != 0;
  NETVM_CHECK(!copy.granted && (exclusive ? copy.phase == Phase::IM || copy.phase == Phase::SM : copy.phase == Phase::IS),
              "sc-directory: page %llu was granted to a node in phase %u", number(page), static_cast<unsigned>(copy.phase));
  copy.granted = true;
  copy.with_data = (message.flags & sc::kWithData) != 0;
  copy.number = message.transaction;
  store(entry, copy);
  word_of(page).announce(env_.env());
}

// ---- messages -------------------------------------------------------------------------------------------------------------

void ScDirectory::on_message(NodeId from, std::span<const std::byte> body) {
  const Message message = sc::decode(body);
  const PageId page{message.page};
  NETVM_CHECK(env_.is_shared(page), "sc-directory: node %u speaks of page %llu, which is not shared", from.value, number(page));
  PageEntry& entry = env_.entry(page);
  bool must_write_back = false;
  {
    const std::scoped_lock latch(entry.latch);
    switch (message.kind) {
      case Kind::get_shared:
      case Kind::get_exclusive: {
        env_.learn_home(page, env_.node());
        Directory& dir = directory(entry);
        dir.waiting.push_back({from, message.kind == Kind::get_exclusive, (message.flags & sc::kHasCopy) != 0});
        if (!dir.busy) serve_next(page, entry, dir);
        break;
      }
      case Kind::recall_to_shared:
      case Kind::recall_to_invalid:
      case Kind::invalidate:
        must_write_back = revoke(page, entry, message);
        break;
      case Kind::invalidated:
      case Kind::written_back:
        on_collected(page, entry, message.transaction);
        break;
      case Kind::grant:
        on_grant(page, entry, message);
        break;
      case Kind::confirm:
        on_confirm(page, entry, message.transaction);
        break;
    }
  }
  // The frame stays as it is: nobody is granted the page before the home has heard of the write-back.
  if (must_write_back) write_back(page, entry.home(), message.transaction);
}

// ---- the home -------------------------------------------------------------------------------------------------------------

ScDirectory::Directory& ScDirectory::directory(PageEntry& entry) {
  if (entry.data == 0) {
    const std::scoped_lock lock(pool_lock_);
    if (unused_.empty()) unused_.push_back(&pool_.emplace_back());
    entry.data = reinterpret_cast<std::uintptr_t>(unused_.back());
    unused_.pop_back();
  }
  return *reinterpret_cast<Directory*>(entry.data);
}

void ScDirectory::serve_next(PageId page, PageEntry& entry, Directory& dir) {
  dir.busy = true;
  dir.current = dir.waiting.front();
  dir.waiting.erase(dir.waiting.begin());
  dir.transaction = transactions_.fetch_add(1, std::memory_order_relaxed) + 1;  // relaxed: only its being unique matters
  const NodeId requester = dir.current.node;
  if (dir.owner != kNobody) {
    NETVM_CHECK(dir.owner != requester, "sc-directory: node %u, which may write page %llu, asks for it", requester.value, number(page));
    dir.awaited = 1;
    return ask(dir.owner, page, entry, dir, dir.current.exclusive ? Kind::recall_to_invalid : Kind::recall_to_shared);
  }
  dir.awaited = dir.current.exclusive ? dir.sharers.size() - (dir.sharers.contains(requester) ? 1U : 0U) : 0U;
  if (dir.awaited == 0) return grant(page, entry, dir);
  const sc::NodeSet sharers = dir.sharers;  // the last answer, if it comes from this node at once, changes the set
  sharers.for_each([&](NodeId sharer) {
    if (sharer != requester) ask(sharer, page, entry, dir, Kind::invalidate);
  });
}

// The home's own copy needs no message.
void ScDirectory::ask(NodeId node, PageId page, PageEntry& entry, Directory& dir, Kind kind) {
  const Message message{kind, 0, {}, page.value, dir.transaction};
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

void ScDirectory::grant(PageId page, PageEntry& entry, Directory& dir) {
  const Request& request = dir.current;
  const bool data = !request.exclusive || needs_data(request.has_copy, dir.sharers.contains(request.node));
  const auto flags = static_cast<std::uint8_t>((request.exclusive ? sc::kExclusive : 0) | (data ? sc::kWithData : 0));
  const Message message{Kind::grant, flags, {}, page.value, dir.transaction};
  if (request.node == env_.node()) {
    on_grant(page, entry, message);
  } else {
    (void)env_.try_pin({page, 1}, false);  // or the first reader of a page would have to go the slow way
    send(request.node, message);
  }
}

void ScDirectory::on_confirm(PageId page, PageEntry& entry, std::uint64_t transaction) {
  if (entry.data == 0) return;
  Directory& dir = directory(entry);
  if (!dir.busy || dir.transaction != transaction) return;
  if (dir.current.exclusive) {
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
  NETVM_CHECK(!copy.granted && (from_owner ? copy.phase == Phase::M : copy.phase == Phase::S || copy.phase == Phase::SM),
              "sc-directory: the home of page %llu sent message %u to a node in phase %u", number(page),
              static_cast<unsigned>(message.kind), static_cast<unsigned>(copy.phase));
  if (copy.phase != Phase::SM && defer(copy, message)) return false;

  const bool keeps = message.kind == Kind::recall_to_shared;
  lower_access(page, keeps ? Access::read : Access::none);
  if (!keeps) env_.count(page, Stat::invalidations);
  if (copy.phase == Phase::SM) {
    copy.phase = Phase::IM;
  } else {
    const Nanos age = env_.env().now() - static_cast<Nanos>(copy.number);
    const bool soon = age <= std::max(kQuick, 2 * hold_time(copy.losses));
    copy.losses = soon ? std::min<std::uint8_t>(static_cast<std::uint8_t>(copy.losses + 1), kMaxLosses) : std::uint8_t{0};
    copy.phase = keeps ? Phase::S : Phase::I;
  }
  store(entry, copy);

  const NodeId home = entry.home();
  if (home == env_.node()) {
    on_collected(page, entry, message.transaction);
    return false;
  }
  if (!from_owner) send(home, {Kind::invalidated, 0, {}, page.value, message.transaction});
  return from_owner;
}

// Invariant 5. The message comes again when the time is over.
bool ScDirectory::defer(const Copy& copy, const Message& message) {
  const Nanos hold = hold_time(copy.losses);
  if (hold == 0) return false;
  const auto jitter = static_cast<Nanos>(env_.env().random() % static_cast<std::uint64_t>(hold / 2));
  const Nanos until = static_cast<Nanos>(copy.number) + hold / 2 + jitter;
  if (env_.env().now() >= until) return false;
  env_.env().at(until, [this, message] { send(env_.node(), message); });
  return true;
}

void ScDirectory::write_back(PageId page, NodeId home, std::uint64_t transaction) {
  const auto post = [this, page, home, transaction] {
    auto* operation = new WriteBack(*this, home, {Kind::written_back, 0, {}, page.value, transaction});
    env_.post_put(PageRange{page, 1}, home, &operation->completion);
  };
  if (const FramePins pins = env_.try_pin({page, 1}, false); pins.holds()) return post();
  // It was evicted meanwhile: bringing it in would block this handler.
  (void)env_.spawn([this, page, post] {
    const FramePins pins = env_.pin({page, 1}, false);
    post();
  });
}

// ---- the end of an allocation -----------------------------------------------------------------------------------------------

void ScDirectory::on_detach(PageRange pages) {
  for (std::uint64_t i = pages.first.value; i < pages.end(); ++i) {
    const PageId page{i};
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    if (entry.state.load() != 0) {
      env_.set_access(page, Access::none);
      entry.state.store(0);
    }
    if (entry.data == 0) continue;
    Directory& dir = directory(entry);
    dir = Directory{};
    entry.data = 0;
    const std::scoped_lock lock(pool_lock_);
    unused_.push_back(&dir);
  }
}

}  // namespace netvm::dsm
