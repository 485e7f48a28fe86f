// decode_x86(): lengths as the assembler makes them, and which instructions are atomic.
#include "apps/kit/x86_instruction.hpp"

#include <doctest/doctest.h>

#include <string_view>
#include <vector>

namespace netvm::kit {
namespace {

using Bytes = std::vector<std::uint8_t>;

struct Example {
  std::string_view text;  // as the GNU assembler and objdump say it
  Bytes bytes;
};

const std::vector<Example> kPlain = {
    {"nop", {0x90}},
    {"ret", {0xc3}},
    {"push %r15", {0x41, 0x57}},
    {"mov %rsp,%rbp", {0x48, 0x89, 0xe5}},
    {"mov $1,%eax", {0xb8, 1, 0, 0, 0}},
    {"mov $1,%ax", {0x66, 0xb8, 1, 0}},
    {"movabs $1,%rax", {0x48, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0}},
    {"movabs 0x1,%al", {0xa0, 1, 0, 0, 0, 0, 0, 0, 0}},
    {"mov 0x10(%rsp),%eax", {0x8b, 0x44, 0x24, 0x10}},
    {"mov 0x0(%rip),%rax", {0x48, 0x8b, 0x05, 0, 0, 0, 0}},
    {"mov 0x0(,%rax,8),%rax", {0x48, 0x8b, 0x04, 0xc5, 0, 0, 0, 0}},
    {"movl $1,0x100(%rbx)", {0xc7, 0x83, 0, 1, 0, 0, 1, 0, 0, 0}},
    {"movw $1,(%rbx)", {0x66, 0xc7, 0x03, 1, 0}},
    {"add $1,%eax", {0x83, 0xc0, 1}},
    {"add $0x1000,%eax", {0x05, 0, 0x10, 0, 0}},
    {"imul $1000,(%rax),%eax", {0x69, 0x00, 0xe8, 3, 0, 0}},
    {"test $1,%al", {0xa8, 1}},
    {"testb $1,(%rax)", {0xf6, 0x00, 1}},
    {"neg %eax", {0xf7, 0xd8}},
    {"testl $1,(%rax)", {0xf7, 0x00, 1, 0, 0, 0}},
    {"jmp", {0xe9, 0, 0, 0, 0}},
    {"je near", {0x0f, 0x84, 0, 0, 0, 0}},
    {"jne short", {0x75, 0xf0}},
    {"call *0x8(%rax)", {0xff, 0x50, 8}},
    {"enter $16,$0", {0xc8, 16, 0, 0}},
    {"movzbl (%rax),%eax", {0x0f, 0xb6, 0x00}},
    {"nopw 0x0(%rax,%rax,1)", {0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}},
    {"endbr64", {0xf3, 0x0f, 0x1e, 0xfa}},
    {"movsd (%rax),%xmm0", {0xf2, 0x0f, 0x10, 0x00}},
    {"pshufd $1,%xmm0,%xmm0", {0x66, 0x0f, 0x70, 0xc0, 1}},
    {"pshufb %xmm0,%xmm0", {0x66, 0x0f, 0x38, 0x00, 0xc0}},
    {"palignr $1,%xmm0,%xmm0", {0x66, 0x0f, 0x3a, 0x0f, 0xc0, 1}},
    {"vzeroupper", {0xc5, 0xf8, 0x77}},
    {"vmovaps 0x20(%rax),%ymm0", {0xc5, 0xfc, 0x28, 0x40, 0x20}},
    {"vpermq $1,%ymm0,%ymm0", {0xc4, 0xe3, 0xfd, 0x00, 0xc0, 1}},
    {"vmovaps %zmm0,0x40(%rax)", {0x62, 0xf1, 0x7c, 0x48, 0x29, 0x40, 1}},
    {"rep stos", {0xf3, 0x48, 0xab}},
    {"cpuid", {0x0f, 0xa2}},
    {"bswap %eax", {0x0f, 0xc8}},
    {"cmpxchg %ecx,%edx", {0x0f, 0xb1, 0xca}},
    {"xchg %eax,%ecx", {0x87, 0xc8}},
    {"cmpxchg %ecx,(%rdx)", {0x0f, 0xb1, 0x0a}},  // without the prefix
};

const std::vector<Example> kAtomic = {
    {"lock cmpxchg %ecx,(%rdx)", {0xf0, 0x0f, 0xb1, 0x0a}},
    {"lock cmpxchg16b (%rdi)", {0xf0, 0x48, 0x0f, 0xc7, 0x0f}},
    {"lock xadd %eax,0x8(%rdi)", {0xf0, 0x0f, 0xc1, 0x47, 8}},
    {"lock addl $1,(%rdi)", {0xf0, 0x83, 0x07, 1}},
    {"lock orl $0,(%rsp)", {0xf0, 0x83, 0x0c, 0x24, 0}},
    {"lock incq 0x0(%rip)", {0xf0, 0x48, 0xff, 0x05, 0, 0, 0, 0}},
    {"lock addw $1000,(%rdi)", {0x66, 0xf0, 0x81, 0x07, 0xe8, 3}},
    {"xchg %eax,(%rdi)", {0x87, 0x07}},
    {"xchg %al,(%rdi)", {0x86, 0x07}},
};

TEST_CASE("lengths are the assembler's, whatever follows") {
  for (const auto* list : {&kPlain, &kAtomic}) {
    for (const Example& example : *list) {
      INFO(example.text);
      for (const std::uint8_t next : {0x00, 0x90, 0xf0, 0xff}) {
        Bytes code = example.bytes;
        code.insert(code.end(), 16, next);
        CHECK(decode_x86(code).length == example.bytes.size());
      }
    }
  }
}

TEST_CASE("atomic are the lock prefix and the exchange with memory, alone") {
  for (const Example& example : kPlain) CHECK_MESSAGE(!decode_x86(example.bytes).atomic, example.text);
  for (const Example& example : kAtomic) CHECK_MESSAGE(decode_x86(example.bytes).atomic, example.text);
}

TEST_CASE("what is cut or no instruction moves on by a byte, and nothing is read beyond the end") {
  CHECK(decode_x86(Bytes{}).length == 1);
  for (const auto* list : {&kPlain, &kAtomic}) {
    for (const Example& example : *list) {
      for (std::size_t n = 1; n < example.bytes.size(); ++n) {
        const Bytes cut(example.bytes.begin(),
                        example.bytes.begin() + static_cast<std::ptrdiff_t>(n));  // of its own: a sanitizer sees more
        const std::size_t length = decode_x86(cut).length;
        CHECK(length >= 1);
        CHECK(length <= n);
      }
    }
  }
  CHECK(decode_x86(Bytes(40, 0x66)).length == 1);
}

}  // namespace
}  // namespace netvm::kit
