// runtime/job_wire: frames between launcher and nodes, from whoever connects to the launcher's socket.
#include <string>

#include "runtime/job_wire.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm::job;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto packet = fuzz_bytes(data, size);
  Frame frame;
  std::string why;
  if (!parse_frame(packet, size % 3, &frame, &why)) FUZZ_REQUIRE(!why.empty());
  static_cast<void>(Hello::decode(packet));
  static_cast<void>(Welcome::decode(packet));
  static_cast<void>(Descriptors::decode(packet));
  static_cast<void>(Exchange::decode(packet));
  static_cast<void>(Gathered::decode(packet));
  for (const char c : decode_text(packet)) FUZZ_REQUIRE(c == '\n' || c == '\t' || static_cast<unsigned char>(c) >= 0x20);
  return 0;
}
