// Every error that the NIC can give reaches the caller: over each way of asking (blocking, posted, queue pair, triggered), on every kind of
// world. A new error is one line of the table.
#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "nic/queue_pair.hpp"
#include "tests/support/nic_paging.hpp"
#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::name_of;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::Paging;
using netvm::test::WorldKind;

namespace {

constexpr Nanos kSecond = 1'000'000'000;

/// What is asked of node 1 by node 0.
struct Attempt {
  QpOp op = QpOp::write;
  RemoteRegion region{};
  std::uint64_t offset = 0;
  std::uint64_t bytes = 8;
  RemoteCounter counter{};
  NotifyMode mode = NotifyMode::ordered;
  bool try_only = false;
};

/// Of node 1, for the table to spoil.
struct Things {
  NicWorld& world;
  RemoteRegion region;  // all of its memory, every right
  RemoteCounter counter;
  Paging& paging;
};

struct ErrorCase {
  const char* name;
  Status expected;
  std::set<QpOp> ops;
  std::function<void(Things& things, Attempt& attempt)> spoil;
  std::set<WorldKind> kinds{WorldKind::direct, WorldKind::packet, WorldKind::simulated};  ///< where it can happen
};

RemoteRegion with_rights(Things& things, Rights rights) { return things.world.nic(1).region_create({PageId{0}, 4}, rights).value(); }

const std::vector<ErrorCase>& table() {
  const std::set<QpOp> writes{QpOp::write, QpOp::write_notify}, moves{QpOp::write, QpOp::write_notify, QpOp::read},
      notifies{QpOp::notify, QpOp::write_notify};
  const std::set<QpOp> memory{QpOp::write, QpOp::write_notify, QpOp::read, QpOp::atomic};
  const std::set<QpOp> all{QpOp::write, QpOp::write_notify, QpOp::read, QpOp::atomic, QpOp::notify};
  static const std::vector<ErrorCase> cases = {
      {"a forged key", Status::key, memory, [](Things&, Attempt& a) { a.region.key ^= 1; }},
      {"no such region", Status::key, memory, [](Things&, Attempt& a) { a.region.id = RegionId{77}; }},
      {"past the end", Status::range, memory, [](Things& t, Attempt& a) { a.offset = t.region.length; }},
      {"over the end", Status::range, moves, [](Things& t, Attempt& a) { a.offset = t.region.length - 8, a.bytes = 16; }},
      {"an offset that overflows", Status::range, memory, [](Things&, Attempt& a) { a.offset = UINT64_MAX - 7; }},
      {"no right to write", Status::perm, writes, [](Things& t, Attempt& a) { a.region = with_rights(t, Rights::read | Rights::atomic); }},
      {"no right to read",
       Status::perm,
       {QpOp::read},
       [](Things& t, Attempt& a) { a.region = with_rights(t, Rights::write | Rights::atomic); }},
      {"no right to atomics",
       Status::perm,
       {QpOp::atomic},
       [](Things& t, Attempt& a) { a.region = with_rights(t, Rights::read | Rights::write); }},
      {"an atomic across two words", Status::align, {QpOp::atomic}, [](Things&, Attempt& a) { a.offset = 4; }},
      {"a region that was revoked", Status::revoked, memory,
       [](Things& t, Attempt& a) {
         a.region = with_rights(t, Rights::all);
         CHECK(ok(t.world.nic(1).region_revoke(a.region)));
       }},
      {"a counter that is gone", Status::counter_range, notifies,
       [](Things& t, Attempt&) { CHECK(ok(t.world.nic(1).counter_destroy(t.counter))); }},
      {"a counter that never was", Status::counter_range, notifies, [](Things&, Attempt& a) { a.counter.id = CounterId{4000}; }},
      {"an ORDERED notification behind a failed write", Status::cancelled, notifies,
       [](Things& t, Attempt&) {
         RemoteRegion forged = t.region;
         forged.key ^= 1;
         CHECK(t.world.nic(0).write(forged, 0, "12345678", 8) == Status::key);
       }},
      {"a node that is dead", Status::peer_dead, all, [](Things& t, Attempt&) { t.world.nic(0).declare_dead(NodeId{1}); }},
      {"a NIC that is shut down", Status::cancelled, all, [](Things& t, Attempt&) { t.world.nic(0).shut_down(); }},
      {"an entry that its owner has damaged: there is no such memory", Status::unmapped, memory,
       [](Things& t, Attempt& a) {
         const RegionEntry& entry = t.world.device(1).regions().entry(a.region.id);
         const_cast<RegionEntry&>(entry).first_page.store(t.world.vm(1).pages());
       }},
      {"a page that cannot be read back", Status::fault_failed, memory,
       [](Things& t, Attempt&) {
         t.paging.evict(1, PageId{0});
         t.paging.fail(1, PageId{0}, true);
       }},
      {"a peer that says nothing",
       Status::timeout,
       all,
       [](Things& t, Attempt&) {
         static_cast<netvm::test::SimNicWorld&>(t.world).network().partition({NodeId{0}, NodeId{1}, 0, kForever});
       },
       {WorldKind::lossy}},
      {"a target that has granted no more, and a caller that would rather know than wait",
       Status::no_credit,
       all,
       [](Things& t, Attempt& a) {
         for (int i = 0; i < 100; ++i) t.world.nic(0).post_write(t.region, 64, "12345678", 8, nullptr);
         a.try_only = true;
       },
       {WorldKind::simulated, WorldKind::lossy}},
  };
  return cases;
}

Status blocking(Nic& nic, const Attempt& a, std::byte* buffer) {
  switch (a.op) {
    case QpOp::write:
      return nic.write(a.region, a.offset, buffer, a.bytes);
    case QpOp::write_notify:
      return nic.write_notify(a.region, a.offset, buffer, a.bytes, a.counter, 1, a.mode);
    case QpOp::read:
      return nic.read(a.region, a.offset, buffer, a.bytes);
    case QpOp::atomic:
      return nic.atomic(a.region, a.offset, {AtomicOp::fetch_add, 1}).status();
    case QpOp::notify:
      return nic.notify(a.counter, 1);
  }
  return Status::ok;
}

Status posted(Nic& nic, const Attempt& a, std::byte* buffer) {
  Completion end;
  const WhenFull when_full = a.try_only ? WhenFull::refuse : WhenFull::queue;
  switch (a.op) {
    case QpOp::write:
      nic.post_write(a.region, a.offset, buffer, a.bytes, &end, when_full);
      break;
    case QpOp::write_notify:
      nic.post_write_notify(a.region, a.offset, buffer, a.bytes, a.counter, 1, a.mode, &end);
      break;
    case QpOp::read:
      nic.post_read(a.region, a.offset, buffer, a.bytes, &end, when_full);
      break;
    case QpOp::atomic:
      nic.post_atomic(a.region, a.offset, {AtomicOp::fetch_add, 1}, &end, when_full);
      break;
    case QpOp::notify:
      nic.post_notify(a.counter, 1, &end);
      break;
  }
  return nic.wait(end, nic.env().now() + 60 * kSecond);
}

Status by_queue_pair(Nic& nic, const Attempt& a, std::byte* buffer) {
  const auto pair = QueuePair::create(nic, {NodeId{1}, 8}).value();
  const Piece halves[] = {Piece::source(buffer, a.bytes / 2), Piece::source(buffer + a.bytes / 2, a.bytes - a.bytes / 2)};
  QpRequest request;
  request.op = a.op;
  request.region = a.region;
  request.offset = a.offset;
  request.counter = a.counter;
  request.mode = a.mode;
  request.args = {AtomicOp::fetch_add, 1};
  request.signalled = false;  // an error shows all the same
  request.try_only = a.try_only;
  if (a.op != QpOp::atomic && a.op != QpOp::notify) request.pieces = halves;
  if (const QueuePair::Posted taken = pair->post(request); !ok(taken.status)) return taken.status;
  QpCompletion end;
  const Result<std::size_t> got = pair->wait({&end, 1}, nic.env().now() + 60 * kSecond);
  if (!got) return got.status();
  CHECK(pair->flush() == (*got == 1 ? end.status : Status::ok));
  return *got == 1 ? end.status : Status::ok;
}

Status triggered(Nic& nic, const Attempt& a, std::byte* buffer) {
  const Result<RemoteCounter> start = nic.counter_create();
  TriggeredOperation operation = TriggeredOperation::notify(a.counter, 1);
  if (a.op == QpOp::write) operation = TriggeredOperation::write(a.region, a.offset, buffer, a.bytes);
  if (a.op == QpOp::write_notify) operation = TriggeredOperation::write_notify(a.region, a.offset, buffer, a.bytes, a.counter, 1, a.mode);
  if (a.op == QpOp::atomic) operation = TriggeredOperation::atomic(a.region, a.offset, {AtomicOp::fetch_add, 1});
  Completion end;
  if (const auto id = nic.post_triggered(*start, 1, operation, &end); !id) return id.status();
  CHECK(ok(nic.notify(*start, 1)));
  const Status status = nic.wait(end, nic.env().now() + 60 * kSecond);
  CHECK(ok(nic.counter_destroy(*start)));
  return status;
}

struct Way {
  const char* name;
  Status (*ask)(Nic&, const Attempt&, std::byte*);
};
constexpr Way kWays[] = {{"blocking", blocking}, {"posted", posted}, {"queue pair", by_queue_pair}, {"triggered", triggered}};

bool applies(const Way& way, QpOp op, WorldKind kind, bool try_only = false) {
  if (try_only && way.ask != by_queue_pair && (way.ask != posted || op == QpOp::notify || op == QpOp::write_notify)) return false;
  if (way.ask == triggered && op == QpOp::read) return false;                                // there is no such operation
  if (way.ask == blocking && op == QpOp::notify && kind != WorldKind::direct) return false;  // does not wait for what comes of it
  return true;
}

}  // namespace

TEST_CASE("each error of the table reaches the caller on every way of asking") {
  for (const ErrorCase& error : table()) {
    for (const WorldKind kind : error.kinds) {
      for (const QpOp op : error.ops) {
        for (const Way& way : kWays) {
          if (!applies(way, op, kind, error.expected == Status::no_credit)) continue;
          const std::string what =
              name_of(kind) + ", " + error.name + ", operation " + std::to_string(static_cast<int>(op)) + ", " + way.name;
          Status status = Status::ok;
          Paging paging;
          NicWorldOptions options;
          options.system_buffers = 8;
          options.reliability.peer_timeout = 2 * kSecond;
          const std::unique_ptr<NicWorld> world = netvm::test::make_world(kind, paging.with(options));
          paging.attach(*world);
          Things things{*world, world->whole(1), world->nic(1).counter_create().value(), paging};
          world->run([&] {
            Attempt attempt;
            attempt.op = op;
            attempt.region = things.region;
            attempt.counter = things.counter;
            alignas(8) std::byte buffer[16] = {};
            error.spoil(things, attempt);
            status = way.ask(world->nic(0), attempt, buffer);
          });
          CHECK_MESSAGE(status == error.expected, what, ": ", std::string(to_string(status)), ", not ",
                        std::string(to_string(error.expected)));
        }
      }
    }
  }
}

TEST_CASE("without anything spoilt, each way of asking ends well") {
  for (const WorldKind kind : {WorldKind::direct, WorldKind::packet, WorldKind::simulated}) {
    for (const QpOp op : {QpOp::write, QpOp::write_notify, QpOp::read, QpOp::notify, QpOp::atomic}) {
      for (const Way& way : kWays) {
        if (!applies(way, op, kind)) continue;
        const std::unique_ptr<NicWorld> world = netvm::test::make_world(kind);
        Attempt attempt;
        attempt.op = op;
        attempt.region = world->whole(1);
        attempt.counter = world->nic(1).counter_create().value();
        world->run([&] {
          alignas(8) std::byte buffer[16] = {};
          CHECK_MESSAGE(ok(way.ask(world->nic(0), attempt, buffer)), name_of(kind), ", ", way.name);
        });
      }
    }
  }
}
