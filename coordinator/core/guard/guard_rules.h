#pragma once

// When a region protects itself: what a breaker-rules file says.

#include <cstdint>
#include <string>
#include <vector>

namespace shoal::core {

// Plain data. What a group must do to be taken out of routing for a while, and to come back.
struct OutlierRules {
  // So many in a row; or so many within interval_ms that are more than what went well.
  int32_t errors_max = 5;
  int64_t interval_ms = 10'000;
  int64_t ejection_ms = 30'000;    // The first time; the n-th time n times as long.
  double ejected_share_max = 0.5;  // Of a key's groups; beyond it all are used, and it is flagged.
  int64_t slow_start_ms = 10'000;  // A group that comes back gets its share little by little.
  double slow_factor = 3;  // A group so many times slower than its peers is left out, too. 0: none.

  bool operator==(const OutlierRules&) const = default;
};

// "metric operator value for duration: action".
struct BreakerRule {
  enum class Operator : uint8_t { kAbove, kBelow };
  enum class Action : uint8_t { kRejectLowPriority, kRejectAll, kDegrade };
  std::string metric{};  // A name that Guard knows.
  Operator compare = Operator::kAbove;
  double threshold = 0;
  double recovery =
      0;  // Once it has been beyond it for recovery_ms, some requests are let through.
  int64_t duration_ms = 0;  // For so long without a break.
  int64_t recovery_ms = 10'000;
  int64_t half_open_ms = 3'000;  // For so long more and more of them; then the breaker closes.
  Action action = Action::kRejectLowPriority;
  int32_t line = 0;  // Of its file, for messages.

  bool operator==(const BreakerRule&) const = default;
};

struct GuardRules {
  OutlierRules outliers{};
  std::vector<BreakerRule> breakers{};

  bool operator==(const GuardRules&) const = default;
};

}  // namespace shoal::core
