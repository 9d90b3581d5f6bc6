#include "transport/base/overload/request_terms.h"

#include "transport/base/error.h"

namespace shoal {

void CheckTerms(const RequestTerms& terms) {
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

}  // namespace shoal
