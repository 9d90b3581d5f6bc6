#include "transport/base/overload/record.h"

#include <algorithm>
#include <array>

namespace shoal {
namespace {

constexpr std::array<std::string_view, kRecordKinds> kRecordNames = {
    "admitted",     "rejected",      "joined",         "placed",         "first_token",
    "preempted",    "parked",        "degraded",       "expired",        "finished",
    "failed",       "cancelled",     "group_ready",    "group_lost",     "ejected",
    "returned",     "drained",       "breaker_opened", "breaker_probed", "breaker_closed",
    "rung_changed", "policy_loaded", "policy_refused", "panic_began",    "panic_ended"};

}  // namespace

std::string_view ToString(RecordKind kind) { return kRecordNames.at(static_cast<size_t>(kind)); }

std::optional<RecordKind> ParseRecordKind(std::string_view name) {
  const auto found = std::ranges::find(kRecordNames, name);
  if (found == kRecordNames.end()) return std::nullopt;
  return static_cast<RecordKind>(found - kRecordNames.begin());
}

}  // namespace shoal
