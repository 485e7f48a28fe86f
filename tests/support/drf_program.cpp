#include "tests/support/drf_program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "dsm/protocol.hpp"
#include "runtime/random.hpp"
#include "tests/support/drf_guards.hpp"
#include "tests/support/drf_plan.hpp"

namespace netvm::test {

namespace {

constexpr int kMaxNesting = 3;

class Program {
 public:
  Program(const Plan& plan, const DrfOptions& options, Ledger& ledger, std::uint32_t nodes, std::uint32_t threads)
      : plan_(plan), options_(options), ledger_(ledger), guards_(plan, options, nodes, threads), sections_(nodes) {}

  void run(Worker& me) {
    SplitMix64 random(mix64(options_.seed ^ 0x5eed) + me.rank());
    if (me.local() == 0) guards_.bind(me);
    if (options_.objects && me.rank() == 0) guards_.begin(me);
    me.barrier();
    if (me.local() == 0) sections_[me.node()] = Section::runs;
    for (std::uint32_t phase = 0; phase < options_.phases; ++phase) {
      for (std::uint32_t step = 0; step < options_.steps; ++step) {
        if (random.below(4) == 0) pause(me, 1, random);
        take_step(me, {phase}, random);
        if (options_.rich && random.below(8) == 0) recycle(me, random);
      }
      end_phase(me, phase, random);
    }
    for (const Object& object : plan_.objects) compare_at_end(me, object, random);
    if (me.local() == 0) sections_[me.node()] = Section::has_ended;
  }

  // On a thread that takes part in no barrier: all that it knows is that the section of its node has begun, and has not ended.
  void run_beside(Worker& me) {
    SplitMix64 random(mix64(options_.seed ^ 0xbe51de) + me.node());
    while (sections_[me.node()] == Section::to_come) pause(me, 1, random);
    // It ends by itself, too: where the others hang, nothing happens any more.
    for (std::uint32_t step = 0; step < 4 * options_.phases * options_.steps && sections_[me.node()] == Section::runs; ++step) {
      pause(me, 8, random);
      if (options_.impatient && random.below(2) == 0) guards_.stop_somebody(me, random);
      if (plan_.for_all.empty() || random.below(2) == 0) continue;
      const Object& object = plan_.objects[plan_.for_all[random.below(plan_.for_all.size())]];
      const Hold hold = guards_.take(me, object.lock, random);
      if (hold == Hold::none) continue;
      use(me, object, hold, random);
      guards_.give_back(me, object.lock, hold);
    }
  }

  DrfResult result() {
    const std::lock_guard guard(mutex_);
    return {first_wrong_.empty(), first_wrong_, 0, loads_.load(), guards_.given_up()};
  }

 private:
  using Hold = Guards::Hold;
  enum class Section : std::uint8_t { to_come, runs, has_ended };

  void pause(Worker& me, std::uint64_t times, SplitMix64& random) {
    me.pause(static_cast<Nanos>(random.below(times * static_cast<std::uint64_t>(options_.longest_pause) + 1)));
  }

  void take_step(Worker& me, When when, SplitMix64& random) {
    const std::size_t index = random.below(plan_.objects.size());
    const Object& object = plan_.objects[index];
    switch (mode_of(plan_, options_, when, index, me.count())) {
      case Mode::locked:
        inside_lock(me, when, object, random);
        break;
      case Mode::owned:
        if (owner_of(options_, when.phase, index, me.count()) == me.rank()) use(me, object, Hold::writes, random);
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
        if (random.below(2) == 0) pause(me, 1, random);
      }
      expect(me, at, expected);
      me.free(memory);
      // Often so long that the same memory can be had again.
      pause(me, 8, random);
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
    const Hold hold = guards_.take(me, object.lock, random);
    if (hold == Hold::none) return;
    const std::uint64_t more = random.below(3);
    use(me, object, hold, random);
    if (hold == Hold::writes) {
      for (std::size_t i = 0; i < more; ++i) use_if_locked_by(me, when, random.below(plan_.objects.size()), object.lock, random);
      nest(me, when, object.lock, options_.rich ? kMaxNesting : 1, random);
    }
    guards_.give_back(me, object.lock, hold);
  }

  // Everybody waits for everybody.
  void end_phase(Worker& me, std::uint32_t phase, SplitMix64& random) {
    if (guards_.meet_all(me, phase, random)) return;
    if (!is_split(options_, phase) || random.below(4) == 0) return me.barrier();
    me.arrive();
    for (std::uint32_t step = 0; step < options_.steps / 2; ++step) {
      if (random.below(4) == 0) pause(me, 1, random);
      take_step(me, {phase, true}, random);
    }
    me.wait();
  }

  // Locks are nested in ascending order.
  void nest(Worker& me, When when, std::uint32_t outer, int most, SplitMix64& random) {
    if (most == 0 || outer + 1 >= plan_.lock_count || random.below(4) != 0) return;
    const auto inner = static_cast<std::uint32_t>(outer + 1 + random.below(plan_.lock_count - outer - 1));
    const Hold hold = guards_.take(me, inner, random);
    if (hold == Hold::none) return;
    for (std::size_t i = 0; i < plan_.objects.size() && hold == Hold::writes; ++i) use_if_locked_by(me, when, i, inner, random);
    nest(me, when, inner, most - 1, random);
    guards_.give_back(me, inner, hold);
  }

  void use_if_locked_by(Worker& me, When when, std::size_t index, std::uint32_t lock, SplitMix64& random) {
    if (mode_of(plan_, options_, when, index, me.count()) == Mode::locked && plan_.objects[index].lock == lock)
      use(me, plan_.objects[index], Hold::writes, random);
  }

  void use(Worker& me, const Object& object, Hold hold, SplitMix64& random) {
    if (hold == Hold::reads) return compare_part(me, object, random, "read by a reader");
    if (object.pages != 1) return run_through(me, object, true, random, "read by its holder");
    const std::uint64_t kind = random.below(4);
    if (kind != 0) compare_part(me, object, random, "read by its holder");
    if (kind == 1) return;
    store_part(me, object, random);
    if (kind == 3) compare(me, object, 0, object.bytes, "read again by its writer");
  }

  // A run of pages one after the other.
  void run_through(Worker& me, const Object& column, bool may_store, SplitMix64& random, std::string_view when) {
    const std::uint64_t first = random.below(column.pages);
    const std::uint64_t count = 1 + random.below(column.pages - first);
    const bool upwards = random.below(4) != 0;
    const std::uint64_t kind = may_store ? random.below(3) : 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const Object piece = column.piece(first + (upwards ? i : count - 1 - i));
      if (kind != 2) compare(me, piece, 0, piece.bytes, when);
      if (kind != 0) store_part(me, piece, random);
    }
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
    if (object.pages != 1) return run_through(me, object, false, random, when);
    const auto [first, count] = part_of(object, random);
    compare(me, object, first, count, when);
  }

  void compare_at_end(Worker& me, const Object& object, SplitMix64& random) {
    const Hold hold = object.always_locked ? guards_.take(me, object.lock, random, true) : Hold::none;
    for (std::uint32_t page = 0; page < object.pages; ++page) compare(me, object.piece(page), 0, object.bytes, "at the end");
    if (hold != Hold::none) guards_.give_back(me, object.lock, hold);
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
    const std::uint64_t place = me.sync_offset(object.place + first + at);
    first_wrong_ = fmt::format(
        "{}: node {} thread {} loads {:#04x} where {:#04x} was stored last: page {} offset {:#x}, byte {} of the object at {} ({} bytes, "
        "lock {}), {}",
        plan_.text, me.node(), me.local(), std::to_integer<int>(found[at]), std::to_integer<int>(expected[at]), place / kPageSize,
        place % kPageSize, first + at, object.at, object.bytes, object.lock, when);
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

  const Plan& plan_;
  const DrfOptions& options_;
  Ledger& ledger_;
  Guards guards_;
  std::vector<std::atomic<Section>> sections_;  // by node
  std::atomic<std::uint64_t> loads_{0};
  std::mutex mutex_;
  std::string first_wrong_;
};

}  // namespace

DrfOptions everything(std::string_view protocol, std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0xe7e4));
  DrfOptions options{.protocol = protocol, .seed = seed};
  options.phases = static_cast<std::uint32_t>(2 + random.below(3));
  options.steps = static_cast<std::uint32_t>(8 + random.below(20));
  options.run_pages = random.below(3) == 0 ? 0 : 64;
  options.rich = random.below(2) == 0;
  options.objects = random.below(2) == 0;
  options.impatient = random.below(2) == 0;
  options.beside = random.below(2) == 0;
  return options;
}

DrfResult run_drf_program(Machine& machine, const DrfOptions& options) {
  const Plan plan = make_plan(machine, options);
  const auto ledger = machine.make_ledger(plan.ledger_bytes);
  Program program(plan, options, *ledger, machine.nodes(), machine.threads());
  Machine::Program beside;
  if (options.beside) beside = [&program](Worker& me) { program.run_beside(me); };
  const Ending ending = machine.run_with([&program](Worker& me) { program.run(me); }, beside);
  DrfResult result = program.result();
  result.trace_hash = ending.trace_hash;
  if (ending.well) free_memory(machine, plan);
  if (!ending.well) {
    result.well = false;
    result.text += (result.text.empty() ? "" : "\n") + plan.text + ": " + ending.text;
  }
  return result;
}

}  // namespace netvm::test
