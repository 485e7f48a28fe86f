#include "apps/kit/x86_instruction.hpp"

namespace netvm::kit {

namespace {

class Decoder {
 public:
  explicit Decoder(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  X86Instruction decode() {
    prefixes();
    const std::uint8_t opcode = next();
    if (opcode == 0xc5) {  // VEX, two bytes
      skip(1);
      vector(1);
    } else if (opcode == 0xc4) {  // VEX, three bytes
      const std::uint8_t map = next() & 0x1f;
      skip(1);
      vector(map);
    } else if (opcode == 0x62) {  // EVEX
      const std::uint8_t map = next() & 7;
      skip(2);
      vector(map);
    } else if (opcode == 0x0f) {
      two_bytes(next());
    } else {
      one_byte(opcode);
    }
    if (at_ > bytes_.size() || at_ > kLongest) return {};
    return {at_, memory_ && (locked_ || exchanges_)};
  }

 private:
  static constexpr std::size_t kLongest = 15;

  std::uint8_t peek() const { return at_ < bytes_.size() ? bytes_[at_] : 0; }
  std::uint8_t next() {
    const std::uint8_t byte = peek();
    ++at_;
    return byte;
  }
  void skip(std::size_t n) { at_ += n; }

  void prefixes() {
    for (;;) {
      switch (peek()) {
        case 0xf0:
          locked_ = true;
          break;
        case 0x66:
          narrow_ = true;
          break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0x67:
        case 0xf2:
        case 0xf3:
          break;
        default:
          if ((peek() & 0xf0) == 0x40) wide_ = (next() & 8) != 0;  // REX: the last one
          return;
      }
      skip(1);
      if (at_ >= kLongest) return;
    }
  }

  std::uint8_t modrm() {
    const std::uint8_t byte = next();
    const unsigned mode = byte >> 6;
    const unsigned base = byte & 7;
    if (mode == 3) return byte;
    memory_ = true;
    const bool has_sib = base == 4;
    const unsigned sib_base = has_sib ? next() & 7 : 0;
    if (mode == 1) skip(1);
    if (mode == 2 || (mode == 0 && (base == 5 || (has_sib && sib_base == 5)))) skip(4);
    return byte;
  }
  void immediate() { skip(narrow_ ? 2 : 4); }

  void one_byte(std::uint8_t op) {
    const unsigned low = op & 7;
    if (op < 0x40) {
      if (low < 4) modrm();
      if (low == 4) skip(1);
      if (low == 5) immediate();
    } else if (op == 0x63 || (op >= 0x84 && op <= 0x8f) || (op >= 0xd0 && op <= 0xd3) || (op >= 0xd8 && op <= 0xdf) || op >= 0xfe) {
      exchanges_ = op == 0x86 || op == 0x87;
      modrm();
    } else if (op == 0x68 || op == 0xa9) {
      immediate();
    } else if (op == 0x69 || op == 0x81 || op == 0xc7) {
      modrm();
      immediate();
    } else if (op == 0x6b || op == 0x80 || op == 0x83 || op == 0xc0 || op == 0xc1 || op == 0xc6) {
      modrm();
      skip(1);
    } else if (op == 0x6a || (op >= 0x70 && op < 0x80) || op == 0xa8 || (op >= 0xb0 && op < 0xb8) || op == 0xcd ||
               (op >= 0xe0 && op < 0xe8) || op == 0xeb) {
      skip(1);
    } else if (op >= 0xa0 && op <= 0xa3) {
      skip(8);
    } else if (op >= 0xb8 && op < 0xc0) {
      if (wide_) skip(8);
      if (!wide_) immediate();
    } else if (op == 0xc2 || op == 0xca) {
      skip(2);
    } else if (op == 0xc8) {
      skip(3);
    } else if (op == 0xe8 || op == 0xe9) {
      skip(4);
    } else if (op == 0xf6 || op == 0xf7) {
      const bool tests = ((modrm() >> 3) & 7) < 2;
      if (tests && op == 0xf6) skip(1);
      if (tests && op == 0xf7) immediate();
    }
  }

  static bool has_byte(std::uint8_t op) {  // of those after 0x0f
    return (op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 || op == 0xc4 || op == 0xc5 || op == 0xc6;
  }

  void two_bytes(std::uint8_t op) {
    if (op == 0x38 || op == 0x3a) {
      skip(1);
      modrm();
      if (op == 0x3a) skip(1);
    } else if (op >= 0x80 && op < 0x90) {
      skip(4);
    } else if ((op >= 0x05 && op <= 0x0b && op != 0x0a) || op == 0x0e || (op >= 0x30 && op <= 0x37) || op == 0x77 ||
               (op >= 0xa0 && op <= 0xa2) || (op >= 0xa8 && op <= 0xaa) || (op >= 0xc8 && op <= 0xcf)) {
      // nothing follows
    } else {
      modrm();
      if (has_byte(op)) skip(1);
    }
  }

  void vector(std::uint8_t map) {
    const std::uint8_t op = next();
    if (map == 1 && op == 0x77) return;
    modrm();
    if (map == 3 || (map == 1 && has_byte(op))) skip(1);
  }

  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
  bool locked_ = false;
  bool narrow_ = false;
  bool wide_ = false;
  bool memory_ = false;
  bool exchanges_ = false;
};

}  // namespace

X86Instruction decode_x86(std::span<const std::uint8_t> bytes) { return Decoder(bytes).decode(); }

}  // namespace netvm::kit
