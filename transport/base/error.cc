#include "transport/base/error.h"

namespace shoal {

std::string_view ToString(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kOverloaded:
      return "overloaded";
    case ErrorCode::kPeerLost:
      return "peer lost";
    case ErrorCode::kDeadlineExceeded:
      return "deadline exceeded";
    case ErrorCode::kCannotJoin:
      return "cannot join";
    case ErrorCode::kMissingHardware:
      return "missing hardware";
    case ErrorCode::kPeerFailed:
      return "peer failed";
    case ErrorCode::kWrongAnswer:
      return "wrong answer";
    case ErrorCode::kFailed:
      return "failed";
  }
  return "unknown";
}

int ExitStatus(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 2;
    case ErrorCode::kCannotJoin:
      return 3;
    case ErrorCode::kMissingHardware:
      return 4;
    case ErrorCode::kOverloaded:
    case ErrorCode::kPeerLost:
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kPeerFailed:
    case ErrorCode::kWrongAnswer:
    case ErrorCode::kFailed:
      return 1;
  }
  return 1;
}

Error::Error(ErrorCode code, const std::string& message)
    : std::runtime_error(message), code_(code) {}

void ThrowError(ErrorCode code, std::initializer_list<StrPart> message) {
  throw Error(code, Concatenated(message));
}

}  // namespace shoal
