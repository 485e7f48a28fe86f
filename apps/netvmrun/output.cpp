#include "apps/netvmrun/output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace netvm::run {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kReadSize = 64 * 1024;
constexpr std::size_t kCautiousPiece = 512;  // a poll that promises room promises at least this much of it (POSIX's PIPE_BUF)
constexpr int kMostReads = 64;               // of a pipe at once: more than fits into one, so that it ends even if somebody writes on
constexpr auto kPromptDelay = 100ms;

bool has_room(int fd, int wait_ms) {
  pollfd poll{fd, POLLOUT, 0};
  return ::poll(&poll, 1, wait_ms) > 0;
}

}  // namespace

OutputSink::OutputSink(int fd) : fd_(fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    gone_ = true;  // started with the stream closed
  } else if (S_ISREG(info.st_mode) || S_ISBLK(info.st_mode)) {
    kind_ = Kind::file;
  } else if (S_ISSOCK(info.st_mode)) {
    kind_ = Kind::socket;
  } else {
    own_.reset(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (own_) kind_ = Kind::own;
  }
}

void OutputSink::append(std::string_view bytes) {
  if (!gone_) pending_.append(bytes);
}

long OutputSink::write_some(std::string_view bytes) {
  switch (kind_) {
    case Kind::socket:
      return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    case Kind::cautious:
      if (!has_room(fd_, 0)) {
        errno = EAGAIN;
        return -1;
      }
      return ::write(fd_, bytes.data(), std::min(bytes.size(), kCautiousPiece));
    case Kind::file:
    case Kind::own:
      break;
  }
  return ::write(target(), bytes.data(), bytes.size());
}

int OutputSink::flush() {
  while (written_ < pending_.size()) {
    const long wrote = write_some(std::string_view(pending_).substr(written_));
    if (wrote > 0) {
      written_ += static_cast<std::size_t>(wrote);
    } else if (errno == EAGAIN) {
      if (written_ > kMaxBacklog) pending_.erase(0, std::exchange(written_, 0));
      return 0;
    } else if (errno != EINTR) {
      const int error = errno;
      pending_.clear();
      written_ = 0;
      gone_ = true;
      return error;
    }
  }
  pending_.clear();
  written_ = 0;
  return 0;
}

int OutputSink::drain(Clock::time_point deadline) {
  for (;;) {
    if (const int error = flush(); error != 0) return error;
    if (backlog() == 0 || Clock::now() >= deadline) return 0;
    (void)has_room(target(), 100);
  }
}

void OutputSource::read_some() {
  std::array<char, kReadSize> buffer;
  const ssize_t got = ::read(pipe_.get(), buffer.data(), buffer.size());
  if (got > 0) {
    last_read_ = Clock::now();
    take({buffer.data(), static_cast<std::size_t>(got)});
  } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
    emit(line_);
    line_.clear();
    pipe_.reset();
  }
}

void OutputSource::take(std::string_view bytes) {
  const auto last = bytes.rfind('\n');
  if (last != std::string_view::npos) {
    line_.append(bytes.substr(0, last + 1));
    emit(line_);
    line_.assign(bytes.substr(last + 1));
  } else {
    line_.append(bytes);
  }
  if (line_.size() >= kMaxLine || partial_ == Partial::pass) {
    emit(line_);
    line_.clear();
  }
}

void OutputSource::emit(std::string_view bytes) {
  if (tag_.empty()) {
    sink_->append(bytes);
    return;
  }
  while (!bytes.empty()) {
    const auto newline = bytes.find('\n');
    const auto line = bytes.substr(0, newline == std::string_view::npos ? bytes.size() : newline + 1);
    if (at_line_start_) sink_->append(tag_);
    sink_->append(line);
    at_line_start_ = newline != std::string_view::npos;
    bytes.remove_prefix(line.size());
  }
}

std::optional<Clock::time_point> OutputSource::deadline() const {
  if (partial_ != Partial::interject || line_.empty()) return std::nullopt;
  return last_read_ + kPromptDelay;
}

void OutputSource::on_time(Clock::time_point now) {
  const auto when = deadline();
  if (!when || now < *when) return;
  emit(line_);
  line_.clear();
}

void OutputSource::read_what_is_there() {
  for (int i = 0; open() && i < kMostReads; ++i) {
    pollfd poll{pipe_.get(), POLLIN, 0};
    if (::poll(&poll, 1, 0) <= 0) return;
    read_some();
  }
}

void OutputSource::finish() {
  read_what_is_there();
  emit(line_);
  line_.clear();
  pipe_.reset();
}

}  // namespace netvm::run
