#include "transport/rpc/convert/error_map.h"

#include <kj/string.h>

#include <string>
#include <string_view>

namespace shoal::rpc {

namespace {

// What Cap'n Proto puts before the message of an exception that crossed the wire.
constexpr std::string_view kRemotePrefix = "remote exception: ";

}  // namespace

// Cap'n Proto carries four failure types, fewer than we have: code that must tell, say, a mismatch
// from a deadline puts the outcome into its reply instead (RegisterOutcome, GenerateOutcome).
kj::Exception ToKj(const Error& error) {
  auto type = kj::Exception::Type::FAILED;
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kCannotJoin:
    case ErrorCode::kMissingHardware:
    case ErrorCode::kPeerFailed:
    case ErrorCode::kWrongAnswer:
    case ErrorCode::kFailed:
      type = kj::Exception::Type::FAILED;
      break;
    case ErrorCode::kOverloaded:
    case ErrorCode::kDeadlineExceeded:
      type = kj::Exception::Type::OVERLOADED;
      break;
    case ErrorCode::kPeerLost:
      type = kj::Exception::Type::DISCONNECTED;
      break;
  }
  return kj::Exception(type, __FILE__, __LINE__, kj::heapString(error.what()));
}

Error FromKj(const kj::Exception& exception) {
  std::string message = exception.getDescription().cStr();
  if (message.starts_with(kRemotePrefix)) message.erase(0, kRemotePrefix.size());
  switch (exception.getType()) {
    case kj::Exception::Type::OVERLOADED:
      return Error(ErrorCode::kOverloaded, message);
    case kj::Exception::Type::DISCONNECTED:
      return Error(ErrorCode::kPeerLost, message);
    case kj::Exception::Type::UNIMPLEMENTED:
    case kj::Exception::Type::FAILED:
      break;
  }
  return Error(ErrorCode::kPeerFailed, message);
}

}  // namespace shoal::rpc
