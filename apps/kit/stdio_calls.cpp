// The C library's calls on a FILE, in front of its own: they look whose file it is, and end the job if another node has opened it. C++ streams come
// by here, too: theirs ask for the descriptor with fileno() before they read or write.
//
// Invariants
//  1. Only the address of the FILE is looked at, never its contents: those of another node's are no memory here.
//
// Each is defined under a name of ours and known to the linker by the C library's, as headers have inlined functions of some of those names.
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cwchar>
#include <string>

#include <fmt/format.h>

#include "apps/kit/descriptors.hpp"
#include "apps/kit/file_area.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/stdio_calls.hpp"
#include "apps/kit/symbols.hpp"

namespace netvm::kit {

[[gnu::cold]] void refuse_foreign_file(const char* call, const void* file, const void* code) {
  const std::optional<int> opened = FileArea::node_of(file);
  const std::string text = in_runtime([=] {
    std::array<char, 128> name{};
    const bool known = name_of_function(reinterpret_cast<std::uintptr_t>(code), name);
    const std::string where = known ? fmt::format("in {}, ", name.data()) : std::string();
    if (!opened) {
      return where +
             "standard input is node 0's, and what a FILE * or a C++ stream has read of it is there: read it in a thread of node 0, or "
             "with "
             "read() from descriptor 0";
    }
    return fmt::format(
        "{}the file was opened on node {}, and a FILE * or a C++ stream is of use there only: open the file in a thread of this node, "
        "let a thread of node {} write or read, or use stdout",
        where, *opened, *opened);
  });
  misuse(call, text);
}

}  // namespace netvm::kit

// The definition of a function that has the FILE `file` among its parameters; the rest are the arguments for the C library's.
#define NETVM_FILE_CALL(R, name, parameters, file, ...)                            \
  R netvm_file_##name parameters __asm__(#name);                                   \
  R netvm_file_##name parameters {                                                 \
    static constinit auto real = netvm::kit::make_real(&netvm_file_##name, #name); \
    netvm::kit::require_own_file(#name "()", file, __builtin_return_address(0));   \
    return real(__VA_ARGS__);                                                      \
  }

// The same for a function with "..."; `behind` is the name of the one that takes a va_list.
#define NETVM_FILE_FORMAT(name, behind, Char, extra_parameter, extra_argument)               \
  int netvm_file_##name(FILE* file extra_parameter, const Char* format, ...) __asm__(#name); \
  int netvm_file_##name(FILE* file extra_parameter, const Char* format, ...) {               \
    static constinit auto real = netvm::kit::make_real(&netvm_file_##behind, #behind);       \
    netvm::kit::require_own_file(#name "()", file, __builtin_return_address(0));             \
    va_list arguments;                                                                       \
    va_start(arguments, format);                                                             \
    const int result = real(file extra_argument, format, arguments);                         \
    va_end(arguments);                                                                       \
    return result;                                                                           \
  }
#define NETVM_NOTHING
#define NETVM_CHECKED_PARAMETER , int level
#define NETVM_CHECKED_ARGUMENT , level

extern "C" {

// What is done to the file as a whole. freopen() and pclose() are in more_system_calls.cpp.
NETVM_FILE_CALL(int, fflush, (FILE * file), file, file)
NETVM_FILE_CALL(int, fflush_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(int, fseek, (FILE * file, long to, int from), file, file, to, from)
NETVM_FILE_CALL(int, fseeko, (FILE * file, off_t to, int from), file, file, to, from)
NETVM_FILE_CALL(int, fseeko64, (FILE * file, off_t to, int from), file, file, to, from)
NETVM_FILE_CALL(long, ftell, (FILE * file), file, file)
NETVM_FILE_CALL(off_t, ftello, (FILE * file), file, file)
NETVM_FILE_CALL(off_t, ftello64, (FILE * file), file, file)
NETVM_FILE_CALL(void, rewind, (FILE * file), file, file)
NETVM_FILE_CALL(int, fgetpos, (FILE * file, fpos_t* to), file, file, to)
NETVM_FILE_CALL(int, fgetpos64, (FILE * file, fpos_t* to), file, file, to)
NETVM_FILE_CALL(int, fsetpos, (FILE * file, const fpos_t* to), file, file, to)
NETVM_FILE_CALL(int, fsetpos64, (FILE * file, const fpos_t* to), file, file, to)
NETVM_FILE_CALL(int, feof, (FILE * file), file, file)
NETVM_FILE_CALL(int, feof_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(int, ferror, (FILE * file), file, file)
NETVM_FILE_CALL(int, ferror_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(void, clearerr, (FILE * file), file, file)
NETVM_FILE_CALL(void, clearerr_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(int, fileno, (FILE * file), file, file)
NETVM_FILE_CALL(int, fileno_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(void, setlinebuf, (FILE * file), file, file)
NETVM_FILE_CALL(void, flockfile, (FILE * file), file, file)
NETVM_FILE_CALL(void, funlockfile, (FILE * file), file, file)
NETVM_FILE_CALL(int, ftrylockfile, (FILE * file), file, file)

// Writing.
NETVM_FILE_CALL(std::size_t, fwrite, (const void* from, std::size_t size, std::size_t count, FILE* file), file, from, size, count, file)
NETVM_FILE_CALL(std::size_t, fwrite_unlocked, (const void* from, std::size_t size, std::size_t count, FILE* file), file, from, size, count,
                file)
NETVM_FILE_CALL(int, fputs, (const char* text, FILE* file), file, text, file)
NETVM_FILE_CALL(int, fputs_unlocked, (const char* text, FILE* file), file, text, file)
NETVM_FILE_CALL(int, fputc, (int character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, fputc_unlocked, (int character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, putc, (int character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, putc_unlocked, (int character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, _IO_putc, (int character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, putw, (int word, FILE* file), file, word, file)
NETVM_FILE_CALL(int, vfprintf, (FILE * file, const char* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_CALL(int, __vfprintf_chk, (FILE * file, int level, const char* format, va_list arguments), file, file, level, format, arguments)
NETVM_FILE_FORMAT(fprintf, vfprintf, char, NETVM_NOTHING, NETVM_NOTHING)
NETVM_FILE_FORMAT(__fprintf_chk, __vfprintf_chk, char, NETVM_CHECKED_PARAMETER, NETVM_CHECKED_ARGUMENT)

// Reading. getline() and getdelim() are in libc_calls.cpp.
NETVM_FILE_CALL(std::size_t, fread, (void* to, std::size_t size, std::size_t count, FILE* file), file, to, size, count, file)
NETVM_FILE_CALL(std::size_t, fread_unlocked, (void* to, std::size_t size, std::size_t count, FILE* file), file, to, size, count, file)
NETVM_FILE_CALL(std::size_t, __fread_chk, (void* to, std::size_t room, std::size_t size, std::size_t count, FILE* file), file, to, room,
                size, count, file)
NETVM_FILE_CALL(char*, fgets, (char* to, int room, FILE* file), file, to, room, file)
NETVM_FILE_CALL(char*, fgets_unlocked, (char* to, int room, FILE* file), file, to, room, file)
NETVM_FILE_CALL(char*, __fgets_chk, (char* to, std::size_t room, int wanted, FILE* file), file, to, room, wanted, file)
NETVM_FILE_CALL(int, fgetc, (FILE * file), file, file)
NETVM_FILE_CALL(int, fgetc_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(int, getc, (FILE * file), file, file)
NETVM_FILE_CALL(int, getc_unlocked, (FILE * file), file, file)
NETVM_FILE_CALL(int, _IO_getc, (FILE * file), file, file)
NETVM_FILE_CALL(int, getw, (FILE * file), file, file)
NETVM_FILE_CALL(int, ungetc, (int character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, vfscanf, (FILE * file, const char* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_CALL(int, __isoc99_vfscanf, (FILE * file, const char* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_CALL(int, __isoc23_vfscanf, (FILE * file, const char* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_FORMAT(fscanf, vfscanf, char, NETVM_NOTHING, NETVM_NOTHING)
NETVM_FILE_FORMAT(__isoc99_fscanf, __isoc99_vfscanf, char, NETVM_NOTHING, NETVM_NOTHING)
NETVM_FILE_FORMAT(__isoc23_fscanf, __isoc23_vfscanf, char, NETVM_NOTHING, NETVM_NOTHING)

// Reading standard input without saying so.
#define NETVM_STDIN_CALL(R, name, parameters, ...)                                 \
  R netvm_file_##name parameters __asm__(#name);                                   \
  R netvm_file_##name parameters {                                                 \
    static constinit auto real = netvm::kit::make_real(&netvm_file_##name, #name); \
    netvm::kit::require_own_file(#name "()", stdin, __builtin_return_address(0));  \
    return real(__VA_ARGS__);                                                      \
  }
#define NETVM_STDIN_FORMAT(name, behind)                                               \
  int netvm_file_##name(const char* format, ...) __asm__(#name);                       \
  int netvm_file_##name(const char* format, ...) {                                     \
    static constinit auto real = netvm::kit::make_real(&netvm_file_##behind, #behind); \
    netvm::kit::require_own_file(#name "()", stdin, __builtin_return_address(0));      \
    va_list arguments;                                                                 \
    va_start(arguments, format);                                                       \
    const int result = real(stdin, format, arguments);                                 \
    va_end(arguments);                                                                 \
    return result;                                                                     \
  }
NETVM_STDIN_CALL(int, getchar, (), )
NETVM_STDIN_CALL(int, getchar_unlocked, (), )
NETVM_STDIN_CALL(wint_t, getwchar, (), )
NETVM_STDIN_CALL(int, vscanf, (const char* format, va_list arguments), format, arguments)
NETVM_STDIN_CALL(int, __isoc99_vscanf, (const char* format, va_list arguments), format, arguments)
NETVM_STDIN_FORMAT(scanf, vfscanf)
NETVM_STDIN_FORMAT(__isoc99_scanf, __isoc99_vfscanf)
NETVM_STDIN_FORMAT(__isoc23_scanf, __isoc23_vfscanf)

// Wide characters.
NETVM_FILE_CALL(int, fwide, (FILE * file, int mode), file, file, mode)
NETVM_FILE_CALL(wint_t, fputwc, (wchar_t character, FILE* file), file, character, file)
NETVM_FILE_CALL(wint_t, putwc, (wchar_t character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, fputws, (const wchar_t* text, FILE* file), file, text, file)
NETVM_FILE_CALL(wint_t, fgetwc, (FILE * file), file, file)
NETVM_FILE_CALL(wint_t, getwc, (FILE * file), file, file)
NETVM_FILE_CALL(wchar_t*, fgetws, (wchar_t * to, int room, FILE* file), file, to, room, file)
NETVM_FILE_CALL(wint_t, ungetwc, (wint_t character, FILE* file), file, character, file)
NETVM_FILE_CALL(int, vfwprintf, (FILE * file, const wchar_t* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_CALL(int, vfwscanf, (FILE * file, const wchar_t* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_CALL(int, __isoc99_vfwscanf, (FILE * file, const wchar_t* format, va_list arguments), file, file, format, arguments)
NETVM_FILE_FORMAT(fwprintf, vfwprintf, wchar_t, NETVM_NOTHING, NETVM_NOTHING)
NETVM_FILE_FORMAT(fwscanf, vfwscanf, wchar_t, NETVM_NOTHING, NETVM_NOTHING)
NETVM_FILE_FORMAT(__isoc99_fwscanf, __isoc99_vfwscanf, wchar_t, NETVM_NOTHING, NETVM_NOTHING)

int netvm_file_fclose(FILE* file) __asm__("fclose");
int netvm_file_fclose(FILE* file) {
  static constinit auto real = netvm::kit::make_real(&netvm_file_fclose, "fclose");
  netvm::kit::require_own_file("fclose()", file, __builtin_return_address(0));
  if (file != nullptr) netvm::kit::Descriptors::recall(file->_fileno);
  return real(file);
}
FILE* netvm_file_fdopen(int fd, const char* mode) __asm__("fdopen");
FILE* netvm_file_fdopen(int fd, const char* mode) {
  static constinit auto real = netvm::kit::make_real(&netvm_file_fdopen, "fdopen");
  const netvm::kit::FileArea::Opening opening;
  return netvm::kit::Descriptors::here(fd) ? real(fd, mode) : nullptr;
}

// What opens one. fopen() and popen() are in system_calls.cpp and more_system_calls.cpp.
#define NETVM_FILE_OPENING(name, parameters, ...)                                  \
  FILE* netvm_file_##name parameters __asm__(#name);                               \
  FILE* netvm_file_##name parameters {                                             \
    static constinit auto real = netvm::kit::make_real(&netvm_file_##name, #name); \
    const netvm::kit::FileArea::Opening opening;                                   \
    return netvm::kit::Descriptors::adopt(real(__VA_ARGS__));                      \
  }
NETVM_FILE_OPENING(tmpfile, (), )
NETVM_FILE_OPENING(tmpfile64, (), )
NETVM_FILE_OPENING(fmemopen, (void* buffer, std::size_t bytes, const char* mode), buffer, bytes, mode)
NETVM_FILE_OPENING(open_memstream, (char** to, std::size_t* bytes), to, bytes)
NETVM_FILE_OPENING(open_wmemstream, (wchar_t * *to, std::size_t* bytes), to, bytes)
NETVM_FILE_OPENING(fopencookie, (void* cookie, const char* mode, cookie_io_functions_t functions), cookie, mode, functions)

}  // extern "C"
