#include "transport/base/overload/request_terms.h"

#include "transport/base/error.h"

namespace shoal {
namespace {

// Records keep it.
constexpr size_t kNameBytesMax = 128;

}  // namespace

void CheckTerms(const RequestTerms& terms) {
  if (terms.name.size() > kNameBytesMax) {
    Throw(ErrorCode::kInvalidArgument, "the request's name has ", terms.name.size(),
          " bytes: expected at most ", kNameBytesMax);
  }
  if (terms.deadline_ms < 0 || terms.deadline_ms > kDeadlineMsMax) {
    Throw(ErrorCode::kInvalidArgument, "the deadline is ", terms.deadline_ms,
          " ms: expected 0 (none) to ", kDeadlineMsMax);
  }
  if (terms.attempt < 1 || terms.attempt > kAttemptMax) {
    Throw(ErrorCode::kInvalidArgument, "the attempt is ", terms.attempt, ": expected 1 to ",
          kAttemptMax);
  }
  if (terms.session.size() > kSessionBytesMax) {
    Throw(ErrorCode::kInvalidArgument, "the session has ", terms.session.size(),
          " bytes: expected at most ", kSessionBytesMax);
  }
}

std::optional<StreamError> TakeTime(RequestTerms& terms, TimeNs passed) {
  if (terms.deadline_ms == 0) return std::nullopt;
  const int64_t passed_ms = passed / kMillisecondNs;
  if (passed_ms >= terms.deadline_ms) {
    return MakeStreamError(BusyReason::kDeadlineUnreachable,
                           Str("its deadline of ", terms.deadline_ms,
                               " ms was over when it had been read, after ", passed_ms, " ms"));
  }
  terms.deadline_ms -= passed_ms;
  return std::nullopt;
}

}  // namespace shoal
