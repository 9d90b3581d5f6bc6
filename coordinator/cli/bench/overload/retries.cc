#include "coordinator/cli/bench/overload/retries.h"

#include <cstdint>

#include "transport/client/retry_policy.h"

namespace shoal::cli {
namespace {

constexpr client::RetryOptions kPatient = {.attempts_max = 3, .base_ms = 100};
// Between an angry client's attempts. It shares its cores with the server: without any pause a few
// hundred of them would be what is measured.
constexpr TimeNs kAngryPauseNs = 20 * kMillisecondNs;

}  // namespace

std::optional<TimeNs> RetryRules::Next(const RetryQuestion& question) {
  if (question.angry || !patient_) {
    const TimeNs at = question.now + kAngryPauseNs;
    return at < question.deadline ? std::optional(at) : std::nullopt;
  }
  const int64_t left_ms = (question.deadline - question.now) / kMillisecondNs;
  if (left_ms <= 0) return std::nullopt;
  const client::RetryDecision decision = client::DecideRetry(
      kPatient, {.attempt = question.attempts, .deadline_ms = left_ms},
      {.status = 503, .retry_after_ms = question.retry_after_ms}, numbers_.Next());
  if (decision.give_up != client::GiveUp::kNone) return std::nullopt;
  if (!budgets_[static_cast<size_t>(question.tenant)].Take()) return std::nullopt;
  return question.now + decision.wait_ms * kMillisecondNs;
}

}  // namespace shoal::cli
