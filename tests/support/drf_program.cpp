#include "tests/support/drf_program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "dsm/protocol.hpp"
#include "runtime/check.hpp"
#include "runtime/random.hpp"

namespace netvm::test {

namespace {

constexpr std::size_t kMaxObject = 64;
constexpr std::size_t kMaxLargeObject = 2 * kPageSize - 32;
constexpr std::uint32_t kMaxRegions = 3;  // of a rich program
constexpr int kMaxNesting = 3;

enum class Mode : std::uint8_t { locked, owned, read_only, untouched };
/// A phase; or what lies between the halves of the split barrier at its end, where some threads are in the next phase already.
struct When {
  std::uint32_t phase = 0;
  bool between = false;
};
enum class Guard : std::uint8_t { mutex, semaphore, rwlock, monitor };
enum class Separator : std::uint8_t { barrier, latch, flag, barriers_of_some };
constexpr std::uint64_t kPlacesOfPhase = 8;  // of objects that end it

struct Object {
  std::uint64_t at = 0;  // in the ledger
  Place place = 0;
  std::uint32_t bytes = 0;
  std::uint32_t lock = 0;
};

struct Plan {
  std::vector<Place> areas;
  Place locks = 0;
  Place busy = 0;        // a byte for each lock: its monitor is taken
  Place separators = 0;  // kPlacesOfPhase for each phase
  bool transitive = true;
  std::vector<Object> objects;
  std::uint32_t lock_count = 1;
  std::string text;
};

bool is_transitive(std::string_view protocol) {
  const dsm::Consistency consistency = dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(protocol))].traits.consistency;
  return consistency == dsm::Consistency::release || consistency == dsm::Consistency::sequential;
}

std::uint32_t choose_bytes(const DrfOptions& options, SplitMix64& random) {
  if (options.rich && random.below(8) == 0) return static_cast<std::uint32_t>(1 + random.below(kMaxLargeObject));
  return static_cast<std::uint32_t>(random.below(3) == 0 ? 1 + random.below(8) : 1 + random.below(kMaxObject));
}

// Objects for one region, at offsets from its start; the same in the ledger, from `ledger_at`. Returns the region's pages.
std::uint64_t add_objects(const DrfOptions& options, std::uint64_t ledger_at, SplitMix64& random, Plan& plan) {
  const std::uint64_t pages = 1 + random.below(options.max_pages);
  const auto wanted = static_cast<std::uint32_t>(3 + random.below(options.max_objects - 2));
  // Half of the programs crowd everything together, the others spread over all pages.
  const std::uint64_t longest_gap = random.below(2) == 0 ? 3 : pages * kPageSize / wanted;
  std::uint64_t at = random.below(2) == 0 ? 0 : kPageSize - random.below(200);
  if (pages == 1) at = random.below(64);
  if (plan.objects.empty()) plan.lock_count = static_cast<std::uint32_t>(1 + random.below(wanted));
  for (std::uint32_t i = 0; i < wanted; ++i) {
    const std::uint32_t bytes = choose_bytes(options, random);
    if (at + bytes > pages * kPageSize) {
      if (options.rich) continue;  // a smaller one may follow
      break;
    }
    plan.objects.push_back({ledger_at + at, at, bytes, static_cast<std::uint32_t>(random.below(plan.lock_count))});
    at += bytes + random.below(longest_gap + 1);
  }
  return pages;
}

Plan make_plan(Machine& machine, const DrfOptions& options) {
  SplitMix64 random(mix64(options.seed ^ 0xd4f));
  SplitMix64 units(mix64(options.seed ^ 0x6e17));  // of its own: whatever else a seed means stays
  Plan plan;
  plan.text = fmt::format("{} nodes x {} threads", machine.nodes(), machine.threads());
  const std::uint64_t regions = options.rich ? 1 + random.below(kMaxRegions) : 1;
  for (std::uint64_t region = 0; region < regions; ++region) {
    const std::size_t first = plan.objects.size();
    const std::uint64_t pages = add_objects(options, region * options.max_pages * kPageSize, random, plan);
    dsm::AllocOptions where;
    where.protocol = region == 0 ? options.protocol : dsm::protocols()[random.below(dsm::protocols().size())].traits.name;
    if (options.objects && region != 0 && !is_transitive(where.protocol)) where.protocol = options.protocol;
    where.alignment = kPageSize;
    where.placement = static_cast<dsm::Placement>(random.below(4));
    where.home = NodeId{static_cast<std::uint32_t>(random.below(machine.nodes()))};
    if (options.any_granularity && units.below(2) == 0) where.granularity = kPageSize << units.below(5);
    if (options.granularity != 0) where.granularity = options.granularity;
    plan.areas.push_back(machine.allocate(pages * kPageSize, where));
    for (std::size_t i = first; i < plan.objects.size(); ++i) plan.objects[i].place += plan.areas.back();
    plan.text += fmt::format("; {}: {} pages at {} of units of {} bytes (placement {}), {} objects", where.protocol, pages,
                             plan.areas.back(), where.granularity, static_cast<int>(where.placement), plan.objects.size() - first);
  }
  plan.locks = machine.allocate(std::uint64_t{plan.lock_count} * 8, {});
  plan.text += fmt::format("; {} locks", plan.lock_count);
  if (options.objects) {
    plan.transitive = is_transitive(options.protocol);
    plan.separators = machine.allocate(options.phases * kPlacesOfPhase * 8, {});
    dsm::AllocOptions where;
    where.protocol = options.protocol;
    plan.busy = machine.allocate(plan.lock_count, where);
  }
  return plan;
}

// What all threads agree on without talking.
std::uint32_t owner_of(const DrfOptions& options, std::uint32_t phase, std::size_t object, std::uint32_t threads) {
  return static_cast<std::uint32_t>(mix64(options.seed * 37 + phase * 2003 + object) % threads);
}

Mode mode_of(const DrfOptions& options, When when, std::size_t object, std::uint32_t threads) {
  const auto in = [&](std::uint32_t phase) { return static_cast<Mode>(mix64(options.seed * 31 + phase * 1009 + object) % 3); };
  const Mode mode = in(when.phase);
  if (!when.between) return mode;
  const bool stays = mode == in(when.phase + 1) && (mode != Mode::owned || owner_of(options, when.phase, object, threads) ==
                                                                               owner_of(options, when.phase + 1, object, threads));
  return stays ? mode : Mode::untouched;
}
/// Whether the barrier at the phase's end is split, by the threads that do not call barrier(). Not the last: everybody reads everything after it.
bool is_split(const DrfOptions& options, std::uint32_t phase) {
  return (options.rich || options.objects) && phase + 1 != options.phases && mix64(options.seed * 47 + phase) % 2 == 0;
}

class Program {
 public:
  Program(const Plan& plan, const DrfOptions& options, Ledger& ledger) : plan_(plan), options_(options), ledger_(ledger) {}

  void run(Worker& me) {
    SplitMix64 random(mix64(options_.seed ^ 0x5eed) + me.rank());
    if (me.local() == 0) {
      for (const Object& object : plan_.objects) me.bind(lock_place(object.lock), object.place, object.bytes);
    }
    if (options_.objects && me.rank() == 0) begin_objects(me);
    me.barrier();
    for (std::uint32_t phase = 0; phase < options_.phases; ++phase) {
      for (std::uint32_t step = 0; step < options_.steps; ++step) {
        if (random.below(4) == 0) me.pause(static_cast<Nanos>(random.below(static_cast<std::uint64_t>(options_.longest_pause) + 1)));
        take_step(me, {phase}, random);
        if (options_.rich && random.below(8) == 0) recycle(me, random);
      }
      end_phase(me, phase, random);
    }
    for (const Object& object : plan_.objects) compare(me, object, 0, object.bytes, "at the end");
  }

  DrfResult result() {
    const std::lock_guard guard(mutex_);
    return {first_wrong_.empty(), first_wrong_, 0, loads_.load()};
  }

 private:
  void take_step(Worker& me, When when, SplitMix64& random) {
    const std::size_t index = random.below(plan_.objects.size());
    const Object& object = plan_.objects[index];
    switch (mode_of(options_, when, index, me.count())) {
      case Mode::locked:
        inside_lock(me, when, object, random);
        break;
      case Mode::owned:
        if (owner_of(options_, when.phase, index, me.count()) == me.rank()) use(me, object, random);
        break;
      case Mode::read_only:
        compare_part(me, object, random, "read by all");
        break;
      case Mode::untouched:
        break;
    }
  }

  // Memory of this thread's own, of one protocol after the other, freed while it is dirty. Other threads of the node may release at any time.
  void recycle(Worker& me, SplitMix64& random) {
    const std::uint64_t pages = 1 + random.below(3);
    const std::uint64_t rounds = 1 + random.below(4);
    for (std::uint64_t round = 0; round < rounds; ++round) {
      dsm::AllocOptions where;
      where.protocol = random.below(2) == 0 ? options_.protocol : dsm::protocols()[random.below(dsm::protocols().size())].traits.name;
      where.alignment = kPageSize;
      where.placement = dsm::Placement::at_node;
      where.home = NodeId{static_cast<std::uint32_t>(random.below(me.nodes()))};
      const Place memory = me.allocate(pages * kPageSize, where);
      if (memory == 0) return;
      const Place at = memory + random.below(pages * kPageSize - sizeof(std::uint64_t));
      std::uint64_t expected = 0;
      for (std::uint64_t store = random.below(4); store != 0; --store) {
        expect(me, at, expected);
        expected = random.next();
        me.store(at, expected);
        if (random.below(2) == 0) me.pause(static_cast<Nanos>(random.below(static_cast<std::uint64_t>(options_.longest_pause) + 1)));
      }
      expect(me, at, expected);
      me.free(memory);
      // Often so long that the same memory can be had again.
      me.pause(static_cast<Nanos>(random.below(8 * static_cast<std::uint64_t>(options_.longest_pause) + 1)));
    }
  }

  void expect(Worker& me, Place at, std::uint64_t expected) {
    const auto found = me.load<std::uint64_t>(at);
    loads_.fetch_add(1);
    if (found == expected) return;
    const std::lock_guard guard(mutex_);
    if (first_wrong_.empty()) {
      first_wrong_ = fmt::format("{}: node {} thread {} loads {:#x} at {} where {:#x} was stored last in memory of its own", plan_.text,
                                 me.node(), me.local(), found, at, expected);
    }
  }

  // Uses some of the objects that the lock guards; now and then a second lock is nested inside.
  void inside_lock(Worker& me, When when, const Object& object, SplitMix64& random) {
    const bool reads = take(me, object.lock, random);
    const std::uint64_t more = random.below(3);
    if (reads) {
      compare_part(me, object, random, "read by a reader");
      return give_back(me, object.lock, reads);
    }
    use(me, object, random);
    for (std::size_t i = 0; i < more; ++i) use_if_locked_by(me, when, random.below(plan_.objects.size()), object.lock, random);
    nest(me, when, object.lock, options_.rich ? kMaxNesting : 1, random);
    give_back(me, object.lock, reads);
  }

  // What everything that the lock guards is guarded by.
  [[nodiscard]] Guard guard_of(std::uint32_t lock) const {
    if (!options_.objects) return Guard::mutex;
    return static_cast<Guard>(mix64(options_.seed * 41 + lock) % (plan_.transitive ? 4 : 3));
  }

  // The memory may have held others before.
  void begin_objects(Worker& me) {
    using sync::ObjectKind;
    const auto begin = [&me](Place place, ObjectKind kind, std::uint64_t count) {
      require(me.objects().init(me.sync_offset(place), me.who(), kind, count), "initialising an object");
    };
    for (std::uint32_t lock = 0; lock < plan_.lock_count; ++lock) {
      if (guard_of(lock) == Guard::semaphore) begin(lock_place(lock), ObjectKind::semaphore, 1);
      if (guard_of(lock) == Guard::rwlock) begin(lock_place(lock), ObjectKind::rwlock, 0);
      if (guard_of(lock) == Guard::monitor) begin(lock_place(lock), ObjectKind::wait_queue, 0);
    }
    for (std::uint32_t phase = 0; phase < options_.phases; ++phase) {
      const Place places = plan_.separators + phase * kPlacesOfPhase * 8;
      if (separator_of(phase) == Separator::latch) begin(places, ObjectKind::latch, me.count());
      if (separator_of(phase) == Separator::flag) {
        begin(places, ObjectKind::semaphore, 0);
        begin(places + 8, ObjectKind::flag, 0);
      }
      if (separator_of(phase) == Separator::barriers_of_some) {
        for (const std::uint64_t parity : {0, 1}) begin(places + 8 * parity, ObjectKind::barrier, (me.count() + 1 - parity) / 2);
        begin(places + 16, ObjectKind::barrier, std::min(me.count(), 2U));
      }
    }
  }

  [[nodiscard]] Separator separator_of(std::uint32_t phase) const {
    const bool chooses = options_.objects && plan_.transitive;
    return chooses ? static_cast<Separator>(mix64(options_.seed * 43 + phase) % 4) : Separator::barrier;
  }

  // Returns whether it is taken for reading only.
  bool take(Worker& me, std::uint32_t lock, SplitMix64& random) {
    const std::uint64_t at = me.sync_offset(lock_place(lock));
    switch (guard_of(lock)) {
      case Guard::mutex:
        me.lock(lock_place(lock));
        return false;
      case Guard::semaphore:
        require(me.objects().acquire(at, me.who(), [] { return std::uint64_t{1}; }), "acquiring a semaphore");
        return false;
      case Guard::rwlock: {
        const bool reads = random.below(2) == 0;
        require(reads ? me.objects().lock_shared(at, me.who()) : me.objects().lock(at, me.who()), "taking a reader-writer lock");
        return reads;
      }
      case Guard::monitor:
        me.lock(lock_place(lock));
        while (me.load<std::uint8_t>(plan_.busy + lock) != 0) {
          const auto ticket = me.objects().enqueue(at, me.who());
          me.unlock(lock_place(lock));
          require(me.objects().wait(at, me.who(), ticket.value()), "waiting in a queue");
          me.lock(lock_place(lock));
        }
        me.store<std::uint8_t>(plan_.busy + lock, 1);
        me.unlock(lock_place(lock));
        return false;
    }
    return false;
  }

  void give_back(Worker& me, std::uint32_t lock, bool reads) {
    const std::uint64_t at = me.sync_offset(lock_place(lock));
    switch (guard_of(lock)) {
      case Guard::mutex:
        return me.unlock(lock_place(lock));
      case Guard::semaphore:
        return require(me.objects().release(at, me.who(), 1, 1, [] { return std::uint64_t{1}; }), "releasing a semaphore");
      case Guard::rwlock:
        return require(reads ? me.objects().unlock_shared(at, me.who()) : me.objects().unlock(at, me.who()),
                       "leaving a reader-writer lock");
      case Guard::monitor:
        me.lock(lock_place(lock));
        me.store<std::uint8_t>(plan_.busy + lock, 0);
        me.unlock(lock_place(lock));
        return require(me.objects().wake(at, me.who(), 1).status(), "waking from a queue");
    }
  }

  // Everybody waits for everybody.
  void end_phase(Worker& me, std::uint32_t phase, SplitMix64& random) {
    const std::uint64_t places = me.sync_offset(plan_.separators + phase * kPlacesOfPhase * 8);
    const auto none = [] { return std::uint64_t{0}; };
    const auto all = [&me] { return std::uint64_t{me.count()}; };
    switch (separator_of(phase)) {
      case Separator::barrier:
        if (!is_split(options_, phase) || random.below(4) == 0) return me.barrier();
        me.arrive();
        for (std::uint32_t step = 0; step < options_.steps / 2; ++step) {
          if (random.below(4) == 0) me.pause(static_cast<Nanos>(random.below(static_cast<std::uint64_t>(options_.longest_pause) + 1)));
          take_step(me, {phase, true}, random);
        }
        return me.wait();
      case Separator::latch:
        require(me.objects().count_down(places, me.who(), all, 1), "counting a latch down");
        return require(me.objects().await_latch(places, me.who(), all), "waiting for a latch");
      case Separator::flag:
        if (me.rank() != 0) {
          require(me.objects().release(places, me.who(), 1, UINT64_MAX, none), "releasing a semaphore");
          return require(me.objects().await_flag(places + 8, me.who()), "waiting for a flag");
        }
        for (std::uint32_t i = 1; i < me.count(); ++i) require(me.objects().acquire(places, me.who(), none), "acquiring a semaphore");
        return require(me.objects().set_flag(places + 8, me.who(), true), "setting a flag");
      case Separator::barriers_of_some: {
        // Ranks of one parity, then the first two, then those of one parity again.
        const std::uint64_t parity = me.rank() % 2;
        const std::uint64_t of_parity = (me.count() + 1 - parity) / 2;
        meet(me, places + 8 * parity, of_parity);
        if (me.rank() < 2) meet(me, places + 16, std::min<std::uint64_t>(me.count(), 2));
        return meet(me, places + 8 * parity, of_parity);
      }
    }
  }

  void meet(Worker& me, std::uint64_t barrier, std::uint64_t count) {
    require(me.objects().arrive_and_wait(barrier, me.who(), [count] { return count; }, {.must_be_of = count}), "meeting at a barrier");
  }

  static void require(Status status, const char* what) { NETVM_CHECK(ok(status), "%s failed: %s", what, to_string(status).data()); }

  // Locks are nested in ascending order.
  void nest(Worker& me, When when, std::uint32_t outer, int most, SplitMix64& random) {
    if (most == 0 || outer + 1 >= plan_.lock_count || random.below(4) != 0) return;
    const auto inner = static_cast<std::uint32_t>(outer + 1 + random.below(plan_.lock_count - outer - 1));
    const bool reads = take(me, inner, random);
    for (std::size_t i = 0; i < plan_.objects.size() && !reads; ++i) use_if_locked_by(me, when, i, inner, random);
    nest(me, when, inner, most - 1, random);
    give_back(me, inner, reads);
  }

  void use_if_locked_by(Worker& me, When when, std::size_t index, std::uint32_t lock, SplitMix64& random) {
    if (mode_of(options_, when, index, me.count()) == Mode::locked && plan_.objects[index].lock == lock)
      use(me, plan_.objects[index], random);
  }

  void use(Worker& me, const Object& object, SplitMix64& random) {
    const std::uint64_t kind = random.below(4);
    if (kind != 0) compare_part(me, object, random, "read by its holder");
    if (kind == 1) return;
    store_part(me, object, random);
    if (kind == 3) compare(me, object, 0, object.bytes, "read again by its writer");
  }

  void store_part(Worker& me, const Object& object, SplitMix64& random) {
    const auto [first, count] = part_of(object, random);
    std::vector<std::byte> bytes(count);
    if (options_.rich && random.below(5) == 0) {
      ledger_.read(object.at + first, bytes.data(), count);  // a silent store: what is there already
    } else {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
    }
    me.store_bytes(object.place + first, bytes.data(), count);
    ledger_.write(object.at + first, bytes.data(), count);
  }

  void compare_part(Worker& me, const Object& object, SplitMix64& random, std::string_view when) {
    const auto [first, count] = part_of(object, random);
    compare(me, object, first, count, when);
  }

  void compare(Worker& me, const Object& object, std::size_t first, std::size_t count, std::string_view when) {
    std::vector<std::byte> found(count);
    std::vector<std::byte> expected(count);
    me.load_bytes(object.place + first, found.data(), count);
    ledger_.read(object.at + first, expected.data(), count);
    loads_.fetch_add(1);
    me.trace(object.at + first + (static_cast<std::uint64_t>(found[0]) << 32));
    if (found == expected) return;
    const std::size_t at = static_cast<std::size_t>(std::mismatch(found.begin(), found.end(), expected.begin()).first - found.begin());
    const std::lock_guard guard(mutex_);
    if (!first_wrong_.empty()) return;
    first_wrong_ = fmt::format(
        "{}: node {} thread {} loads {:#04x} where {:#04x} was stored last: byte {} of the object at {} ({} bytes, lock {}), {}",
        plan_.text, me.node(), me.local(), std::to_integer<int>(found[at]), std::to_integer<int>(expected[at]), first + at, object.at,
        object.bytes, object.lock, when);
  }

  struct Part {
    std::size_t first;
    std::size_t count;
  };
  static Part part_of(const Object& object, SplitMix64& random) {
    if (random.below(3) == 0) return {0, object.bytes};
    const std::size_t first = random.below(object.bytes);
    return {first, 1 + random.below(object.bytes - first)};
  }

  [[nodiscard]] Place lock_place(std::uint32_t lock) const { return plan_.locks + std::uint64_t{lock} * 8; }

  const Plan& plan_;
  const DrfOptions& options_;
  Ledger& ledger_;
  std::atomic<std::uint64_t> loads_{0};
  std::mutex mutex_;
  std::string first_wrong_;
};

}  // namespace

DrfResult run_drf_program(Machine& machine, const DrfOptions& options) {
  const Plan plan = make_plan(machine, options);
  const auto ledger = machine.make_ledger((options.rich ? kMaxRegions : 1) * std::size_t{options.max_pages} * kPageSize + kPageSize);
  Program program(plan, options, *ledger);
  const Ending ending = machine.run([&program](Worker& me) { program.run(me); });
  DrfResult result = program.result();
  result.trace_hash = ending.trace_hash;
  if (ending.well) {
    for (const Place area : plan.areas) machine.free(area);
    machine.free(plan.locks);
    if (options.objects) {
      machine.free(plan.separators);
      machine.free(plan.busy);
    }
  }
  if (!ending.well) {
    result.well = false;
    result.text += (result.text.empty() ? "" : "\n") + plan.text + ": " + ending.text;
  }
  return result;
}

}  // namespace netvm::test
