#include "runtime/check.hpp"

#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "runtime/log.hpp"

namespace netvm {
namespace {

CheckContext process_context;
// initial-exec: reading it from a signal handler must not allocate, also where the library is a shared one.
[[gnu::tls_model("initial-exec")]] thread_local CheckContext* thread_context = nullptr;

}  // namespace

CheckContext& check_context() { return thread_context != nullptr ? *thread_context : process_context; }

ScopedCheckContext::ScopedCheckContext(const CheckContext& context) : context_(context), outer_(thread_context) {
  thread_context = &context_;
}
ScopedCheckContext::~ScopedCheckContext() { thread_context = outer_; }

// vsnprintf into a buffer of ours takes no lock and no memory for the conversions that checks use (%s, %d, %lu, %x).
void check_failed(const char* file, int line, const char* condition, const char* format, ...) {
  LineBuffer text;
  const CheckContext& context = check_context();
  text.append_prefix();
  text.append("broken invariant at %s:%d: %s: ", file, line, condition);
  va_list arguments;
  va_start(arguments, format);
  text.vappend(format, arguments);
  va_end(arguments);
  text.append(" [");
  if (context.node >= 0) {
    text.append("node %" PRId32, context.node);
  } else {
    text.append("node unknown");
  }
  if (context.time_ns >= 0) text.append(", time %" PRId64 " ns", context.time_ns);
  if (context.seed != 0) text.append(", seed %" PRIu64, context.seed);
  text.append("]");
  text.write_line();
  std::abort();
}

}  // namespace netvm
