// job_wire: frames of the job protocol are judged once, completely, without reading outside the packet.
#include "runtime/job_wire.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

namespace job = netvm::job;
using job::Frame;
using job::FrameType;
using job::Io;

namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

std::string why_refused(std::vector<std::byte> packet, std::size_t descriptors = 0) {
  Frame frame;
  std::string why;
  return job::parse_frame(packet, descriptors, &frame, &why) ? std::string() : why;
}

/// The packet of a small frame, with one field of its header changed.
template <class Change>
std::vector<std::byte> changed(Change change) {
  auto packet = job::make_packet(FrameType::report, bytes_of("payload"), 0);
  job::FrameHeader header;
  std::memcpy(&header, packet.data(), sizeof header);
  change(header);
  std::memcpy(packet.data(), &header, sizeof header);
  return packet;
}

std::array<netvm::UniqueFd, 2> socket_pair() {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  return {netvm::UniqueFd{ends[0]}, netvm::UniqueFd{ends[1]}};
}

/// decode() takes what encode() made and refuses every part of it and everything longer.
template <class Message>
void check_lengths(const Message& message, bool open_ended) {
  const auto payload = message.encode();
  CHECK(Message::decode(payload).has_value());
  const std::size_t fixed = open_ended ? 8 : payload.size();
  for (std::size_t length = 0; length < fixed; ++length) CHECK_FALSE(Message::decode(std::span(payload).first(length)).has_value());
  auto longer = payload;
  longer.push_back(std::byte{0});
  CHECK(Message::decode(longer).has_value() == open_ended);
}

}  // namespace

TEST_CASE("a frame arrives as it was made") {
  Frame frame;
  std::string why;
  REQUIRE(job::parse_frame(job::make_packet(FrameType::report, bytes_of("text"), 0), 0, &frame, &why));
  CHECK(frame.type == FrameType::report);
  CHECK(frame.payload == bytes_of("text"));
}

TEST_CASE("corrupt frames are refused, and the reason is said") {
  CHECK(why_refused({}).find("too short") != std::string::npos);
  CHECK(why_refused(bytes_of("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).find("not NetVM's") != std::string::npos);
  CHECK(why_refused(changed([](auto& h) { h.bytes = 6; })).find("payload") != std::string::npos);
  CHECK(why_refused(changed([](auto& h) { h.bytes = 0xffffffff; })).find("payload") != std::string::npos);
  CHECK(why_refused(changed([](auto& h) { h.type = 0; })).find("type 0") != std::string::npos);
  CHECK(why_refused(changed([](auto& h) { h.type = 999; })).find("type 999") != std::string::npos);
  CHECK(why_refused(changed([](auto& h) { h.descriptors = 2; })).find("descriptors") != std::string::npos);
  CHECK(why_refused(changed([](auto&) {}), 1).find("descriptors") != std::string::npos);
  CHECK(why_refused(changed([](auto&) {})).empty());
}

TEST_CASE("another version is refused, and both are named") {
  const std::string protocol = why_refused(changed([](auto& h) { h.version = 77; }));
  CHECK(protocol.find("job protocol 77") != std::string::npos);
  CHECK(protocol.find("job protocol 1") != std::string::npos);
  const std::string library = why_refused(changed([](auto& h) { std::memcpy(h.library, "9.8.7-not-ended!", sizeof h.library); }));
  CHECK(library.find("NetVM 9.8.7-not-ended!") != std::string::npos);
  CHECK(library.find("NetVM " + std::string(job::kLibraryVersion)) != std::string::npos);
}

TEST_CASE("a frame that is too large is refused") {
  const std::vector<std::byte> payload(job::kMaxFrame);
  CHECK_FALSE(why_refused(job::make_packet(FrameType::report, payload, 0)).empty());
}

TEST_CASE("payloads of a wrong length are refused") {
  check_lengths(job::Hello{3, job::make_secret(), "build", "/bin/program"}, false);
  check_lengths(job::Welcome{1, 4, 4, 1, 99, true}, false);
  check_lengths(job::Descriptors{64, 64}, false);
  check_lengths(job::Exchange{5, 30000, bytes_of("mine")}, true);
  check_lengths(job::Gathered{5, 2, bytes_of("theirs")}, true);
  check_lengths(job::Died{3}, false);
  CHECK_FALSE(job::Died::decode(job::Died{256}.encode()));
}

TEST_CASE("payloads that make no sense are refused") {
  CHECK_FALSE(job::Welcome::decode(job::Welcome{4, 4, 4, 0, 99}.encode()));
  CHECK_FALSE(job::Welcome::decode(job::Welcome{0, 0, 0, 0, 99}.encode()));
  CHECK_FALSE(job::Welcome::decode(job::Welcome{0, 4, 5, 0, 99}.encode()));
  CHECK_FALSE(job::Welcome::decode(job::Welcome{0, 257, 1, 0, 99}.encode()));
  CHECK_FALSE(job::Welcome::decode(job::Welcome{0, 4, 4, 0, 0}.encode()));
  CHECK_FALSE(job::Descriptors::decode(job::Descriptors{0, 0}.encode()));
  CHECK_FALSE(job::Descriptors::decode(job::Descriptors{0, 65}.encode()));
  CHECK_FALSE(job::Descriptors::decode(job::Descriptors{250, 10}.encode()));
  CHECK_FALSE(job::Descriptors::decode(job::Descriptors{0xffffffff, 2}.encode()));
  CHECK_FALSE(job::Gathered::decode(job::Gathered{0, 256, {}}.encode()));
  CHECK_FALSE(job::Exchange::decode(job::Exchange{0, 0, std::vector<std::byte>(job::kMaxExchange + 1)}.encode()));
}

TEST_CASE("random packets never get past the judges by accident, nor harm them") {
  std::mt19937_64 random(20031);  // fixed: a failure must come back
  for (int round = 0; round < 20000; ++round) {
    auto packet = job::make_packet(FrameType::hello, job::Hello{1, {}, "build", "/bin/program"}.encode(), 0);
    for (int flips = 0; flips < 3; ++flips) packet[random() % packet.size()] = static_cast<std::byte>(random());
    packet.resize(random() % 4 == 0 ? random() % packet.size() : packet.size());
    Frame frame;
    std::string why;
    if (!job::parse_frame(packet, 0, &frame, &why)) {
      CHECK_FALSE(why.empty());
      continue;
    }
    if (const auto hello = job::Hello::decode(frame.payload)) CHECK(hello->encode() == frame.payload);
    (void)job::Welcome::decode(frame.payload);
    (void)job::Descriptors::decode(frame.payload);
    (void)job::Exchange::decode(frame.payload);
    (void)job::Gathered::decode(frame.payload);
  }
}

TEST_CASE("text for a terminal carries no control characters") {
  CHECK(job::decode_text(bytes_of("fine\nalso fine")) == "fine\nalso fine");
  CHECK(job::decode_text(bytes_of("\x1b[2Jgone\x7f")) == "?[2Jgone?");
  CHECK(job::decode_text(std::vector<std::byte>(100000, std::byte{'x'})).size() == job::kMaxText);
}

TEST_CASE("secrets survive the environment, and nothing else passes for one") {
  const job::Secret secret = job::make_secret();
  const auto back = job::secret_from_hex(job::to_hex(secret));
  REQUIRE(back.has_value());
  CHECK(job::same_secret(secret, *back));
  CHECK_FALSE(job::same_secret(secret, job::make_secret()));
  job::Secret close = secret;
  close.back() ^= std::byte{1};
  CHECK_FALSE(job::same_secret(secret, close));
  CHECK_FALSE(job::secret_from_hex(""));
  CHECK_FALSE(job::secret_from_hex(job::to_hex(secret).substr(1)));
  CHECK_FALSE(job::secret_from_hex(std::string(64, 'g')));
}

TEST_CASE("descriptors travel with their frame and are closed if the frame is refused") {
  const auto [left, right] = socket_pair();
  const netvm::UniqueFd file = job::make_memory_file("netvm-test");
  REQUIRE(::write(file.get(), "hello", 5) == 5);
  const std::array<int, 2> two{file.get(), file.get()};
  Frame frame;
  std::string why;
  REQUIRE(job::send_packet(left.get(), job::make_packet(FrameType::descriptors, job::Descriptors{0, 1}.encode(), 2), two, true) ==
          Io::done);
  REQUIRE(job::receive_frame(right.get(), &frame, &why) == Io::done);
  REQUIRE(frame.descriptors.size() == 2);
  std::array<char, 6> text{};
  CHECK(::pread(frame.descriptors[1].get(), text.data(), 5, 0) == 5);
  CHECK(std::string(text.data()) == "hello");
  CHECK((::fcntl(frame.descriptors[0].get(), F_GETFD) & FD_CLOEXEC) != 0);

  const int next = ::dup(0);
  ::close(next);
  REQUIRE(job::send_packet(left.get(), bytes_of("not a frame, but with descriptors, which must not pile up"), two, true) == Io::done);
  CHECK(job::receive_frame(right.get(), &frame, &why) == Io::broken);
  const int after = ::dup(0);
  ::close(after);
  CHECK(after == next);
}

TEST_CASE("a socket says when nothing is there and when the other side is gone") {
  auto [left, right] = socket_pair();
  Frame frame;
  std::string why;
  CHECK(job::receive_frame(right.get(), &frame, &why) == Io::would_block);
  left.reset();
  CHECK(job::receive_frame(right.get(), &frame, &why) == Io::closed);
  CHECK(job::send_packet(right.get(), job::make_packet(FrameType::leave, {}, 0), {}, true) == Io::closed);
}
