#include "transport/base/generation/stream_error.h"

#include <utility>

namespace shoal {
namespace {

// When a client may come back after a refusal: about what a step, respectively a group's start,
// takes.
constexpr int64_t kRetryAfterBusyMs = 1'000;
constexpr int64_t kRetryAfterNoGroupMs = 5'000;
constexpr int64_t kRetryAfterSuspectMs = 600'000;

int64_t RetryAfterMs(BusyReason reason) {
  switch (reason) {
    case BusyReason::kQueueFull:
    case BusyReason::kGroupLost:
    case BusyReason::kQuotaExceeded:
    case BusyReason::kKvFull:
    case BusyReason::kDeadlineUnreachable:
    case BusyReason::kBreakerOpen:
      return kRetryAfterBusyMs;
    case BusyReason::kNoGroup:
    case BusyReason::kDraining:
      return kRetryAfterNoGroupMs;
    case BusyReason::kRequestSuspect:
      return kRetryAfterSuspectMs;
    case BusyReason::kTooLarge:
    case BusyReason::kRefused:
    case BusyReason::kInvalid:
    case BusyReason::kCursorInvalid:
    case BusyReason::kCursorMismatch:
    case BusyReason::kCursorExpired:
    case BusyReason::kDeadlineExceeded:
    case BusyReason::kStreamTaken:
      return 0;
  }
  return 0;
}

}  // namespace

std::string_view ToString(BusyReason reason) {
  switch (reason) {
    case BusyReason::kQueueFull:
      return "queue_full";
    case BusyReason::kNoGroup:
      return "no_group";
    case BusyReason::kGroupLost:
      return "group_lost";
    case BusyReason::kTooLarge:
      return "too_large";
    case BusyReason::kDraining:
      return "draining";
    case BusyReason::kRefused:
      return "refused";
    case BusyReason::kInvalid:
      return "invalid";
    case BusyReason::kRequestSuspect:
      return "request_suspect";
    case BusyReason::kCursorInvalid:
      return "cursor_invalid";
    case BusyReason::kCursorMismatch:
      return "cursor_mismatch";
    case BusyReason::kCursorExpired:
      return "cursor_expired";
    case BusyReason::kQuotaExceeded:
      return "quota_exceeded";
    case BusyReason::kKvFull:
      return "kv_full";
    case BusyReason::kDeadlineUnreachable:
      return "deadline_unreachable";
    case BusyReason::kDeadlineExceeded:
      return "deadline_exceeded";
    case BusyReason::kBreakerOpen:
      return "breaker_open";
    case BusyReason::kStreamTaken:
      return "stream_taken";
  }
  return "unknown";
}

std::optional<BusyReason> ParseBusyReason(std::string_view name) {
  for (int i = 0; i < kBusyReasons; ++i) {
    const auto reason = static_cast<BusyReason>(i);
    if (ToString(reason) == name) return reason;
  }
  return std::nullopt;
}

StreamError MakeStreamError(BusyReason reason, std::string message) {
  return {reason, std::move(message), RetryAfterMs(reason)};
}

}  // namespace shoal
