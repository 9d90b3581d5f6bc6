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
      return FindLoss(reason);
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
    case RecordKind::kDrained:
      if (record.group) drained_.insert(*record.group);
      return;
    case RecordKind::kGroupReady:
    case RecordKind::kReturned:
      if (record.group) drained_.erase(*record.group);
      if (record.group && away_.erase(*record.group) > 0 && away_.empty()) back_ = record.time;
      return;
    case RecordKind::kBreakerOpened:
      for (const RecordFigure& figure : record.figures) {
        if (!CauseOf(figure.name)) continue;
        open_[figure.name] = away_.empty() ? std::nullopt : std::optional(away_.begin()->first);
      }
      return;
    default:
      return;
  }
}

// Somebody who takes all groups out of service leaves as few as their loss does.
CauseFound CauseFinder::FindLoss(BusyReason reason) const {
  if (away_.empty() && !drained_.empty()) {
    return {Cause::kStopping, Str(ToString(reason), " while group ", *drained_.begin(),
                                  " was out of service, as it was told")};
  }
  return {Cause::kLoss, Str("it was told ", ToString(reason))};
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

// By what it measured, as its refusal says. What piled up because a group was lost keeps a breaker
// open for longer than the group is away.
CauseFound CauseFinder::FindBreaker(const Record& record) const {
  for (const RecordFigure& figure : record.figures) {
    const std::optional<Cause> cause = CauseOf(figure.name);
    if (!cause) continue;
    const auto opened = open_.find(figure.name);
    if (opened != open_.end() && opened->second) {
      return {Cause::kLoss,
              Str(figure.source, " opened while group ", *opened->second, " was away")};
    }
    return {*cause, Str(figure.source, " was open")};
  }
  return {Cause::kUnknown, "its record does not say what the breaker measured"};
}

}  // namespace shoal::core
