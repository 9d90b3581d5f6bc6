#pragma once

// When a region protects itself: what a breaker-rules file says.

#include <cstdint>
#include <string>
#include <vector>

namespace shoal::core {

// Plain data. What a group must do to be taken out of routing for a while, and to come back.
struct OutlierRules {
  int32_t errors_max = 5;  // In a row, or within interval_ms.
  int64_t interval_ms = 10'000;
  int64_t ejection_ms = 30'000;    // The first time; the n-th time n times as long.
  double ejected_share_max = 0.5;  // Of a key's groups; beyond it all are used, and it is flagged.
  int64_t slow_start_ms = 10'000;  // A group that comes back gets its share little by little.
  double slow_factor = 3;  // A group so many times slower than its peers is drained. 0: none.
};

// "metric operator threshold for duration: action", in the order of requirement R51.
struct BreakerRule {
  enum class Operator : uint8_t { kAbove, kBelow };
  enum class Action : uint8_t { kRejectLowPriority, kRejectAll, kDegrade };
  std::string metric{};  // A name that Guard knows.
  Operator compare = Operator::kAbove;
  double threshold = 0;
  double recovery = 0;      // The breaker closes again beyond it (hysteresis).
  int64_t duration_ms = 0;  // For so long without a break.
  int64_t recovery_ms = 10'000;
  Action action = Action::kRejectLowPriority;
  int32_t line = 0;  // Of its file, for messages.
};

struct GuardRules {
  OutlierRules outliers{};
  std::vector<BreakerRule> breakers{};
};

}  // namespace shoal::core
