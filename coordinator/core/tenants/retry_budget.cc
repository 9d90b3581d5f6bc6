#include "coordinator/core/tenants/retry_budget.h"

#include <algorithm>

namespace shoal::core {

RetryBudget::Second& RetryBudget::At(TimeNs now) {
  const int64_t number = now / kSecondNs;
  Second& second = seconds_[static_cast<size_t>(number % kRetryWindowSeconds)];
  if (second.number != number) second = {.number = number};
  return second;
}

bool RetryBudget::Allows(double share_max, int64_t second) const {
  int64_t firsts = 0;
  int64_t retries = 1;  // With this one.
  for (const Second& past : seconds_) {
    if (past.number <= second - kRetryWindowSeconds) continue;
    firsts += past.firsts;
    retries += past.retries;
  }
  return retries <= kRetriesMin ||
         static_cast<double>(retries) <= share_max * static_cast<double>(firsts + retries);
}

void RetryBudget::NoteFirst(TimeNs now) { ++At(now).firsts; }

bool RetryBudget::AllowsRetry(double share_max, TimeNs now) const {
  return Allows(share_max, now / kSecondNs);
}

bool RetryBudget::TakeRetry(double share_max, TimeNs now) {
  if (!AllowsRetry(share_max, now)) return false;
  ++At(now).retries;
  return true;
}

int64_t RetryBudget::WaitMs(double share_max, TimeNs now) const {
  const int64_t second = now / kSecondNs;
  for (int64_t later = second; later < second + kRetryWindowSeconds; ++later) {
    if (!Allows(share_max, later)) continue;
    const TimeNs wait_ns = std::max<TimeNs>(0, later * kSecondNs - now);
    return (wait_ns + kMillisecondNs - 1) / kMillisecondNs;
  }
  const TimeNs wait_ns = (second + kRetryWindowSeconds) * kSecondNs - now;
  return (wait_ns + kMillisecondNs - 1) / kMillisecondNs;
}

}  // namespace shoal::core
