#pragma once

// Why a group of ranks cannot go on, as one value that fits into shared memory and messages.

#include <cstdint>
#include <string_view>

namespace shoal::comm {

enum class FailureKind : uint8_t {
  kNone,
  kAborted,           // Somebody called Abort().
  kPeerLost,          // A rank ended.
  kDeadlineExceeded,  // A rank waited until its deadline.
  kMismatch,          // Two ranks called different operations.
};

// The first failure of a group; later ones do not replace it.
struct GroupFailure {
  FailureKind kind = FailureKind::kNone;
  // The rank that ended, or that reported the failure, in the communicator where it was seen.
  int32_t rank = 0;

  uint32_t Pack() const;
  static GroupFailure Unpack(uint32_t word);

  // Throws kDeadlineExceeded for kDeadlineExceeded, kFailed for kMismatch, kPeerLost for the
  // others.
  [[noreturn]] void Throw(std::string_view operation) const;
};

}  // namespace shoal::comm
