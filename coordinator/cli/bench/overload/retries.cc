#include "coordinator/cli/bench/overload/retries.h"

#include <algorithm>
#include <cmath>

namespace shoal::cli {
namespace {

constexpr int32_t kAttemptsMax = 3;
constexpr double kRetryShare = 0.1;
constexpr double kBudgetMax = 10;  // What a quiet time may leave for a bad one.
constexpr double kJitterMs = 100;
// Between an angry client's attempts. It shares its cores with the server: without any pause a few
// hundred of them would be what is measured.
constexpr TimeNs kAngryPauseNs = 20 * kMillisecondNs;

}  // namespace

void RetryRules::Begin(TrafficTenant tenant) {
  double& budget = budget_[static_cast<size_t>(tenant)];
  budget = std::min(budget + kRetryShare, kBudgetMax);
}

std::optional<TimeNs> RetryRules::Next(const RetryQuestion& question) {
  if (question.angry || !patient_) {
    const TimeNs at = question.now + kAngryPauseNs;
    return at < question.deadline ? std::optional(at) : std::nullopt;
  }
  if (question.attempts >= kAttemptsMax) return std::nullopt;
  double& budget = budget_[static_cast<size_t>(question.tenant)];
  if (budget < 1) return std::nullopt;
  const double jitter_ms = numbers_.Next() * kJitterMs * std::exp2(question.attempts - 1);
  const double wait_ms = static_cast<double>(std::max<int64_t>(question.retry_after_ms, 0));
  const TimeNs at = question.now + static_cast<TimeNs>((wait_ms + jitter_ms) * kMillisecondNs);
  if (at >= question.deadline) return std::nullopt;
  budget -= 1;
  return at;
}

}  // namespace shoal::cli
