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

}  // namespace shoal
