#include "nic/queue_pair.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "nic/direct_path.hpp"
#include "nic/nic_impl.hpp"
#include "nic/nic_waits.hpp"

namespace netvm::nic {

/// An operation that did not end while it was posted. Each piece is a posted operation of the NIC's, with a completion of its own.
struct QueuePair::Slot {
  QueuePair* pair = nullptr;
  QpRequest request;
  std::array<Piece, kMaxPieces> pieces;
  std::array<std::byte, kMaxInline> inlined;
  std::atomic<std::uint32_t> left{0};  // parts that have not ended
  std::atomic<Status> status{Status::ok};
  std::uint64_t old_value = 0;
  Status lost = Status::ok;  // why the bytes to be inlined could not be read
  bool reports = true;       // false: its completion has been given already, as LOCAL
  alignas(Completion) std::array<std::byte, kMaxPieces * sizeof(Completion)> parts;

  Completion* part(std::size_t index) { return new (parts.data() + index * sizeof(Completion)) Completion(&QueuePair::on_part_end, this); }
};
static_assert(std::is_trivially_destructible_v<Completion>, "a part is made anew without having been destroyed");

// ---- creation -------------------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<QueuePair>> QueuePair::create(Nic& nic, const QueuePairConfig& config) {
  if (config.target.value >= nic.nodes() || !std::has_single_bit(config.depth) || config.depth > 65536) return Status::invalid;
  return std::unique_ptr<QueuePair>(new QueuePair(nic, config));
}

QueuePair::QueuePair(Nic& nic, const QueuePairConfig& config)
    : hot_(nic.hot_),
      nic_(nic),
      impl_(*nic.impl_),
      env_(nic.env()),
      config_(config),
      slots_(new Slot[config.depth]),
      cq_(new QpCompletion[config.depth]) {
  for (std::uint32_t i = 0; i < config.depth; ++i) slots_[i].pair = this;
}

QueuePair::~QueuePair() {
  if (impl_.forked.load()) return;  // what is in flight is the parent's
  const auto all_ended = [this] {
    progress();
    cq_count_ = 0;
    return head_ == tail_;
  };
  while (!all_ended()) (void)nic_.wait_until(word_, all_ended);
  while (hooks_.load(std::memory_order_acquire) != 0) env_.relax();  // acquire: partner is on_part_end()'s release
}

QueuePair::Slot& QueuePair::slot(std::uint64_t number) { return slots_[number & (config_.depth - 1)]; }

// ---- posting --------------------------------------------------------------------------------------------------------------------------------

[[gnu::always_inline]] inline bool QueuePair::valid(const QpRequest& request) const {
  if (is_plain_move(request)) [[likely]] {
    const Piece& piece = request.pieces.front();
    return request.region.node == config_.target && (piece.at != nullptr || piece.bytes == 0);
  }
  return is_valid(request);
}

bool QueuePair::is_valid(const QpRequest& request) const {
  const bool moves = request.op == QpOp::write || request.op == QpOp::write_notify || request.op == QpOp::read;
  const bool notifies = request.op == QpOp::notify || request.op == QpOp::write_notify;
  if (request.op > QpOp::atomic || (notifies && request.counter.node != config_.target)) return false;
  if (request.op != QpOp::notify && request.region.node != config_.target) return false;
  if (request.op == QpOp::atomic && request.args.op > AtomicOp::fetch_or) return false;
  if (!moves) return request.pieces.empty() && !request.inlined;
  if (request.pieces.size() > kMaxPieces || (request.inlined && request.op == QpOp::read)) return false;
  std::size_t total = 0;
  for (const Piece& piece : request.pieces) {
    if ((piece.at == nullptr && piece.bytes > 0) || piece.bytes > SIZE_MAX - total) return false;
    total += piece.bytes;
  }
  return !request.inlined || total <= kMaxInline;
}

[[gnu::always_inline]] inline void QueuePair::emit(const QpRequest& request, Status status, CompletionLevel level,
                                                   std::uint64_t old_value) {
  if (!request.signalled && netvm::ok(status)) return;
  cq_[(cq_first_ + cq_count_++) & (config_.depth - 1)] = {request.user_id, old_value, request.op, status, level};
}

QueuePair::Posted QueuePair::post(std::span<const QpRequest> requests) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const QpRequest& request = requests[i];
    if (!valid(request)) [[unlikely]]
      return {i, Status::invalid};
    if (head_ != tail_ || !has_room()) [[unlikely]] {
      progress();
      if (!has_room()) return {i, Status::exhausted};
    }
    const bool held = head_ != tail_ && (started_ != tail_ || request.fence);
    Status status = Status::ok;
    std::uint64_t old_value = 0;
    if (!held && execute(request, &status, &old_value)) [[likely]] {
      note(status);
      emit(request, status, CompletionLevel::placed, old_value);
      continue;
    }
    if (request.try_only && !held && !has_credit(request)) return {i, Status::no_credit};
    keep(request);
    if (held) continue;
    start(slot(started_++));
  }
  return {requests.size(), Status::ok};
}

[[gnu::always_inline]] inline bool QueuePair::execute(const QpRequest& request, Status* status, std::uint64_t* old_value) {
  if (is_plain_move(request)) [[likely]]
    return execute_piece(request, request.pieces.front(), request.offset, status) != nullptr;
  return execute_other(request, status, old_value);
}

bool QueuePair::execute_other(const QpRequest& request, Status* status, std::uint64_t* old_value) {
  switch (request.op) {
    case QpOp::write:
    case QpOp::read:
      return execute_pieces(request, status) != nullptr;
    case QpOp::write_notify:
    case QpOp::notify: {
      const NotifyMode mode = request.op == QpOp::notify ? NotifyMode::ordered : request.mode;
      const Notifying also{request.counter, request.increment, mode};
      also.prefetch(impl_, config_.target);
      Device* target = request.op == QpOp::notify ? impl_.direct(config_.target) : execute_pieces(request, status);
      if (target == nullptr) return false;
      *status = also.after(impl_, *target, *status);
      return true;
    }
    case QpOp::atomic: {
      Outcome outcome;
      if (DirectPath<ShadowTranslation>::execute_atomic(impl_, request.region, request.offset, request.args, &outcome) == nullptr)
        return false;
      *status = outcome.status;
      *old_value = outcome.old_value;
      return true;
    }
  }
  return false;
}

[[gnu::always_inline]] inline Device* QueuePair::execute_piece(const QpRequest& request, const Piece& piece, std::uint64_t offset,
                                                               Status* status) {
  using Path = DirectPath<ShadowTranslation>;
  auto* const here = static_cast<std::byte*>(piece.at);
  const bool reads = request.op == QpOp::read;
  Device* target = nullptr;
  if (is_short_copy(piece.bytes)) {
    target = reads ? Path::try_short<LockFor::read>(hot_, request.region, offset, here, piece.bytes)
                   : Path::try_short<LockFor::write>(hot_, request.region, offset, here, piece.bytes);
  } else {
    target = reads ? Path::try_long<LockFor::read>(hot_, request.region, offset, here, piece.bytes)
                   : Path::try_long<LockFor::write>(hot_, request.region, offset, here, piece.bytes);
  }
  if (target != nullptr) [[likely]]
    return target;
  return execute_unusual(request, piece, offset, status);
}

[[gnu::noinline]] Device* QueuePair::execute_unusual(const QpRequest& request, const Piece& piece, std::uint64_t offset, Status* status) {
  using Path = DirectPath<ShadowTranslation>;
  const bool reads = request.op == QpOp::read;
  const HeldMemory held(impl_.own, piece.at, piece.bytes, reads ? HeldMemory::As::landing_later : HeldMemory::As::source);
  if (!ok(held.status())) {
    *status = reads ? held.status() : impl_.note_lost_source(config_.target, held.status());
    return impl_.direct(config_.target);  // null: the way of packets finds the same out
  }
  Outcome outcome;
  Device* const target = reads ? Path::execute_move<LockFor::read>(impl_, request.region, offset, held.at(), piece.bytes, &outcome)
                               : Path::execute_move<LockFor::write>(impl_, request.region, offset, held.at(), piece.bytes, &outcome);
  *status = outcome.status;
  return target;
}

Device* QueuePair::execute_pieces(const QpRequest& request, Status* status) {
  if (request.pieces.empty()) return execute_piece(request, Piece{}, request.offset, status);  // an empty request is judged, too
  Device* target = nullptr;
  std::uint64_t offset = request.offset;
  for (const Piece& piece : request.pieces) {
    target = execute_piece(request, piece, offset, status);
    if (target == nullptr || !ok(*status)) break;
    offset += piece.bytes;
  }
  return target;
}

bool QueuePair::has_credit(const QpRequest& request) const {
  const Opcode opcode = request.op == QpOp::read ? Opcode::read : Opcode::write;
  std::uint64_t packets = 0;
  std::uint64_t offset = request.offset;
  for (const Piece& piece : request.pieces) {
    packets += impl_.cut(opcode, offset, piece.bytes).packets;
    offset += piece.bytes;
  }
  packets = std::max<std::uint64_t>(packets, 1);
  Channel& channel = impl_.channels[config_.target.value];
  if (channel.dead.load() || impl_.stopping.load()) return true;  // its completion will say so
  const std::lock_guard guard(channel.lock);
  return packets <= UINT32_MAX && channel.transmitter.may_send(Opcode::write, static_cast<std::uint32_t>(packets));
}

/// Copies the request into the send queue; the caller has seen that there is room.
void QueuePair::keep(const QpRequest& request) {
  Slot& s = slot(tail_++);
  s.request = request;
  s.lost = Status::ok;
  std::copy(request.pieces.begin(), request.pieces.end(), s.pieces.begin());
  s.request.pieces = {s.pieces.data(), request.pieces.size()};
  if (request.inlined) {
    std::size_t at = 0;
    for (const Piece& piece : request.pieces) {
      const HeldMemory source(impl_.own, piece.at, piece.bytes, HeldMemory::As::source);
      if (!netvm::ok(source.status())) {
        s.lost = source.status();
      } else if (piece.bytes > 0) {
        std::memcpy(s.inlined.data() + at, source.at(), piece.bytes);
      }
      at += piece.bytes;
    }
    s.pieces[0] = Piece::source(s.inlined.data(), at);
    s.request.pieces = {s.pieces.data(), 1};
  }
  s.status.store(Status::ok, std::memory_order_relaxed);  // relaxed: no hook knows the slot yet
  s.left.store(1, std::memory_order_relaxed);             // relaxed: as above
  s.old_value = 0;
  s.reports = true;
  ++reserved_;
}

void QueuePair::start(Slot& s) {
  Status status = s.lost;
  if (!netvm::ok(status)) {
    status = s.request.op == QpOp::write_notify ? impl_.notify_lost_source(s.request.counter, s.request.increment, status)
                                                : impl_.note_lost_source(config_.target, status);
  }
  if (!netvm::ok(status) || execute(s.request, &status, &s.old_value)) {  // what was held back may find the direct way open
    s.status.store(status, std::memory_order_relaxed);                    // relaxed: this thread harvests it
    s.left.store(0, std::memory_order_relaxed);                           // relaxed: as above
    return;
  }
  send(s);
  const bool writes = s.request.op == QpOp::write || s.request.op == QpOp::write_notify;
  if (!writes || !s.request.signalled || s.request.level != CompletionLevel::local) return;
  if (s.left.load(std::memory_order_acquire) == 0) return;  // acquire: partner is on_part_end(). It has ended: its completion says how
  emit(s.request, Status::ok, CompletionLevel::local, 0);   // the NIC has copied the source
  s.reports = false;
  --reserved_;
}

void QueuePair::send(Slot& s) {
  const QpRequest& r = s.request;
  const std::size_t count = r.pieces.size();
  const bool gathers = r.op == QpOp::write_notify && r.mode == NotifyMode::own && count > 1;
  const bool moves = r.op == QpOp::write || r.op == QpOp::write_notify || r.op == QpOp::read;
  const auto parts = static_cast<std::uint32_t>(moves && !gathers ? std::max<std::size_t>(count, 1) : 1);
  s.left.store(parts, std::memory_order_relaxed);      // relaxed: no hook knows the slot yet
  hooks_.fetch_add(parts, std::memory_order_relaxed);  // relaxed: as above
  if (r.op == QpOp::notify) return nic_.post_notify(r.counter, r.increment, s.part(0));
  if (r.op == QpOp::atomic) return nic_.post_atomic(r.region, r.offset, r.args, s.part(0));
  if (gathers) {  // OWN covers exactly its own bytes, so they must be one write
    std::vector<std::byte> whole;
    for (const Piece& piece : r.pieces) {
      const HeldMemory source(impl_.own, piece.at, piece.bytes, HeldMemory::As::source);
      if (!netvm::ok(source.status()))
        return Completion::end(s.part(0), env_, impl_.notify_lost_source(r.counter, r.increment, source.status()));
      whole.insert(whole.end(), source.at(), source.at() + piece.bytes);
    }
    return nic_.post_write_notify(r.region, r.offset, whole.data(), whole.size(), r.counter, r.increment, r.mode, s.part(0));
  }
  std::uint64_t offset = r.offset;
  for (std::size_t i = 0; i < parts; ++i) {
    const Piece piece = i < count ? r.pieces[i] : Piece{};
    const bool last = i + 1 == parts;
    if (r.op == QpOp::read) {
      nic_.post_read(r.region, offset, piece.at, piece.bytes, s.part(i));
    } else if (r.op == QpOp::write_notify && last) {  // ORDERED covers the pieces before it
      nic_.post_write_notify(r.region, offset, piece.at, piece.bytes, r.counter, r.increment, r.mode, s.part(i));
    } else {
      nic_.post_write(r.region, offset, piece.at, piece.bytes, s.part(i));
    }
    offset += piece.bytes;
  }
}

// ---- ends -----------------------------------------------------------------------------------------------------------------------------------

void QueuePair::on_part_end(Completion& part, void* context) {
  Slot& s = *static_cast<Slot*>(context);
  QueuePair& pair = *s.pair;
  if (!netvm::ok(part.status())) {
    Status none = Status::ok;
    // relaxed, both: published by `left`. The first error counts; but a notification that was stopped says less than the write that stopped it.
    if (!s.status.compare_exchange_strong(none, part.status(), std::memory_order_relaxed) && none == Status::cancelled)
      s.status.store(part.status(), std::memory_order_relaxed);  // relaxed: as above
  } else if (s.request.op == QpOp::atomic) {
    s.old_value = part.old_value();
  }
  if (s.left.fetch_sub(1, std::memory_order_acq_rel) == 1) pair.word_.announce(pair.env_);  // acq_rel: partner is harvest()'s acquire
  pair.hooks_.fetch_sub(1, std::memory_order_release);  // release: partner is the destructor's acquire; nothing is touched afterwards
}

bool QueuePair::harvest() {
  bool any = false;
  while (head_ != started_) {
    Slot& s = slot(head_);
    if (s.left.load(std::memory_order_acquire) != 0) break;          // acquire: partner is on_part_end()'s release
    const Status status = s.status.load(std::memory_order_relaxed);  // relaxed: ordered by `left`
    note(status);
    if (s.reports) {
      --reserved_;
      emit(s.request, status, CompletionLevel::placed, s.old_value);
    }
    ++head_;
    any = true;
  }
  return any;
}

void QueuePair::progress() {
  (void)harvest();
  while (started_ != tail_) {
    Slot& next = slot(started_);
    if (next.request.fence && head_ != started_) return;
    ++started_;
    start(next);
    (void)harvest();
  }
}

std::size_t QueuePair::take(std::span<QpCompletion> to) {
  const std::size_t count = std::min<std::size_t>(to.size(), cq_count_);
  for (std::size_t i = 0; i < count; ++i) to[i] = cq_[(cq_first_ + i) & (config_.depth - 1)];
  cq_first_ += count;
  cq_count_ -= count;
  return count;
}

std::size_t QueuePair::poll(std::span<QpCompletion> to) {
  if (cq_count_ == 0) {
    progress();
    if (cq_count_ == 0) {
      (void)nic_.drive();
      progress();
    }
  }
  return take(to);
}

template <class Changed>
Status QueuePair::wait_told(const Changed& changed, Nanos deadline) {
  constexpr Nanos kLong = 10'000'000;
  if (changed()) return Status::ok;  // before the clock, which costs more than this look
  const Nanos soon = env_.now() + kLong;
  const Status status = nic_.wait_until(word_, changed, std::min(soon, deadline));
  if (status != Status::timeout || deadline <= soon) return status;
  Nic::Impl::Waiting waiting(impl_, {.what = NicWait::What::queue_pair, .target = config_.target});
  waiting.tell();
  return nic_.wait_until(word_, changed, deadline);
}

Result<std::size_t> QueuePair::wait(std::span<QpCompletion> to, Nanos deadline) {
  const auto something = [this] {
    progress();
    return cq_count_ > 0 || head_ == tail_;
  };
  const Status status = wait_told(something, deadline);
  if (!netvm::ok(status) && cq_count_ == 0) return status;
  return take(to);
}

Status QueuePair::flush(Nanos deadline) {
  const auto all_ended = [this] {
    progress();
    return head_ == tail_;
  };
  const Status status = wait_told(all_ended, deadline);
  if (!netvm::ok(status)) return status;
  return std::exchange(first_error_, Status::ok);
}

}  // namespace netvm::nic
