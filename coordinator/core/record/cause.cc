#include "coordinator/core/record/cause.h"

#include <algorithm>
#include <array>

#include "coordinator/core/guard/guard_metrics.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

constexpr std::array<std::string_view, kCauses> kCauseNames = {
    "own_quota", "pool_exhausted", "compute_short", "network_or_process_lost",
    "stopping",  "request_wrong",  "unknown"};

// For so long after the last lost group is back, what has piled up meanwhile is that loss's.
constexpr TimeNs kBacklogNs = kSecondNs;

// By what it measured, as its refusal says.
CauseFound FindBreaker(const Record& record) {
  for (const RecordFigure& figure : record.figures) {
    const std::optional<Cause> cause = CauseOf(figure.name);
    if (cause) return {*cause, Str(figure.source, " was open")};
  }
  return {Cause::kUnknown, "its record does not say what the breaker measured"};
}

}  // namespace

std::string_view ToString(Cause cause) { return kCauseNames.at(static_cast<size_t>(cause)); }

std::optional<CauseFound> CauseFinder::Next(const Record& record) {
  Follow(record);
  if (record.kind != RecordKind::kRejected && record.kind != RecordKind::kFailed &&
      record.kind != RecordKind::kExpired) {
    return std::nullopt;
  }
  const BusyReason reason = record.reason.value_or(
      record.kind == RecordKind::kExpired ? BusyReason::kDeadlineExceeded : BusyReason::kRefused);
  const std::string told = Str("it was told ", ToString(reason));
  switch (reason) {
    case BusyReason::kQuotaExceeded:
      return CauseFound{Cause::kOwnQuota, told};
    case BusyReason::kNoGroup:
    case BusyReason::kGroupLost:
    case BusyReason::kRequestSuspect:
      return CauseFound{Cause::kLoss, told};
    case BusyReason::kDraining:
    case BusyReason::kStreamTaken:
      return CauseFound{Cause::kStopping, told};
    case BusyReason::kTooLarge:
    case BusyReason::kInvalid:
    case BusyReason::kCursorInvalid:
    case BusyReason::kCursorMismatch:
    case BusyReason::kCursorExpired:
      return CauseFound{Cause::kRequest, told};
    case BusyReason::kRefused:
      return CauseFound{Cause::kUnknown, told};
    case BusyReason::kQueueFull:
    case BusyReason::kKvFull:
    case BusyReason::kDeadlineUnreachable:
    case BusyReason::kDeadlineExceeded:
    case BusyReason::kBreakerOpen:
      return FindOverload(record);
  }
  return CauseFound{Cause::kUnknown, told};
}

void CauseFinder::Follow(const Record& record) {
  switch (record.kind) {
    case RecordKind::kGroupLost:
    case RecordKind::kEjected:
      if (record.group) away_.try_emplace(*record.group, record.time);
      return;
    case RecordKind::kGroupReady:
    case RecordKind::kReturned:
      if (record.group && away_.erase(*record.group) > 0 && away_.empty()) back_ = record.time;
      return;
    default:
      return;
  }
}

// The same refusals come of too much load and of too few groups.
CauseFound CauseFinder::FindOverload(const Record& record) const {
  const BusyReason reason = record.reason.value_or(BusyReason::kDeadlineExceeded);
  if (!away_.empty()) {
    const auto first =
        std::ranges::min_element(away_, {}, [](const auto& one) { return one.second; });
    return {Cause::kLoss, Str(ToString(reason), " while group ", first->first, " was away")};
  }
  if (back_ && record.time - *back_ < kBacklogNs) {
    return {Cause::kLoss, Str(ToString(reason), " just after the last lost group was back")};
  }
  switch (reason) {
    case BusyReason::kQueueFull:
    case BusyReason::kKvFull:
      return {Cause::kPool, Str(ToString(reason), " with all groups there")};
    case BusyReason::kBreakerOpen:
      return FindBreaker(record);
    default:
      return {Cause::kCompute, Str(ToString(reason), " with all groups there")};
  }
}

}  // namespace shoal::core
