#include "parallel/comm/group_failure.h"

#include "transport/base/error.h"

// The messages that end a step on a group that cannot go on.

namespace shoal::comm {

uint32_t GroupFailure::Pack() const {
  return static_cast<uint32_t>(kind) | (static_cast<uint32_t>(rank) << 8);
}

GroupFailure GroupFailure::Unpack(uint32_t word) {
  return {static_cast<FailureKind>(word & 0xff), static_cast<int32_t>(word >> 8)};
}

void GroupFailure::Throw(std::string_view operation) const {
  switch (kind) {
    case FailureKind::kDeadlineExceeded:
      shoal::Throw(
          ErrorCode::kDeadlineExceeded, operation, ": rank ", rank,
          " waited for the other ranks until its deadline: one of them hangs or is stopped");
    case FailureKind::kMismatch:
      shoal::Throw(ErrorCode::kFailed, operation, ": rank ", rank,
                   " found that another rank called a different operation or size");
    case FailureKind::kPeerLost:
      shoal::Throw(ErrorCode::kPeerLost, operation, ": rank ", rank,
                   " has ended: start the whole group again");
    case FailureKind::kNone:
    case FailureKind::kAborted:
      break;
  }
  shoal::Throw(ErrorCode::kPeerLost, operation, ": the group was aborted: start it again");
}

}  // namespace shoal::comm
