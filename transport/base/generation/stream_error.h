#pragma once

// Why a request was not taken, or why a stream ended early.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace shoal {

// The names are part of the HTTP and RPC interfaces.
enum class BusyReason : uint8_t {
  kQueueFull,
  kNoGroup,
  kGroupLost,
  kTooLarge,
  kDraining,
  kRefused,         // By the leader of a group that this coordinator had thought fit.
  kInvalid,         // The request is wrong, whoever would answer it.
  kRequestSuspect,  // Groups were lost that had it or its like: it may be the cause.
  // Of a request to go on with an answer:
  kCursorInvalid,   // Its cursor is damaged, or was never given out here.
  kCursorMismatch,  // It is of another request, model or numerics id.
  kCursorExpired,
  kStreamTaken,  // Another client goes on with the answer: this one gets no more of it.
  // Of overload:
  kQuotaExceeded,        // The tenant's own quota: no other client's load is the reason.
  kKvFull,               // The KV cache of every group that could hold it is spoken for.
  kDeadlineUnreachable,  // It would not be done in time, by what is predicted: nothing was done.
  kDeadlineExceeded,     // It was begun, and its time is over.
  kBreakerOpen,          // A breaker refuses its class for now.
};
constexpr int kBusyReasons = static_cast<int>(BusyReason::kBreakerOpen) + 1;

// "queue_full", "no_group", "group_lost", "too_large", "draining", "refused", "invalid",
// "request_suspect", "cursor_invalid", "cursor_mismatch", "cursor_expired", "stream_taken",
// "quota_exceeded", "kv_full", "deadline_unreachable", "deadline_exceeded", "breaker_open".
std::string_view ToString(BusyReason reason);
// None for any other name.
std::optional<BusyReason> ParseBusyReason(std::string_view name);

struct StreamError {
  BusyReason reason = BusyReason::kInvalid;
  std::string message{};
  int64_t retry_after_ms = 0;      // 0: do not retry as is.
  int64_t predicted_wait_ms = -1;  // Until its first token, had it been taken. -1: unknown.

  bool operator==(const StreamError&) const = default;
};

// With the time after which that reason may have gone.
StreamError MakeStreamError(BusyReason reason, std::string message);

}  // namespace shoal
