#pragma once

// What can go wrong outside this process's control, and the exit code each kind ends a program
// with.

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "transport/base/check.h"

namespace shoal {

// Why an operation could not be completed, named after what the caller may do about it. The set is
// closed: a new code needs a case in transport/rpc/convert/error_map.cc, and -Wswitch points there.
enum class ErrorCode : uint8_t {
  kInvalidArgument,   // No retry can help: report it to whoever wrote the request, file or flag.
  kOverloaded,        // A bounded queue or pool is full: retry later, with backoff.
  kPeerLost,          // The other side is gone: reconnect and redo the operation from its start.
  kDeadlineExceeded,  // The time budget ran out: the operation may or may not have happened.
  kCannotJoin,        // The coordinator was not reached, or refused this group, until the deadline.
  kMissingHardware,   // This machine lacks the device or instruction set that was asked for.
  kPeerFailed,        // The peer answered that it could not, and why: do not retry as is.
  kWrongAnswer,       // Ranks that must hold equal bits do not: no result of theirs may be used.
  kFailed,            // It broke while running; the message says how.
};

std::string_view ToString(ErrorCode code);

// The exit status of a program that ends with this error: 2 for kInvalidArgument, 3 for
// kCannotJoin, 4 for kMissingHardware, 1 for all others. Users and scripts rely on them.
int ExitStatus(ErrorCode code);

// An operational failure. A bug is not an Error, it is a SHOAL_CHECK; an outcome that callers
// branch on is not an Error either, it is in the return type. Caught where it becomes an exit
// status, an answer or the end of a step; elsewhere only to add a place or to pass it on.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message);

  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

[[noreturn]] void ThrowError(ErrorCode code, std::initializer_list<StrPart> message);

// Say where, what was expected, what was found and what to change:
// Throw(ErrorCode::kInvalidArgument, path, ": expected 4096 bytes for layer 7, found ", n).
template <typename... Args>
[[noreturn]] void Throw(ErrorCode code, const Args&... args) {
  ThrowError(code, {args...});
}

}  // namespace shoal
