#include "coordinator/core/tenants/token_bucket.h"

#include <algorithm>
#include <cmath>

namespace shoal::core {
namespace {

constexpr int64_t kMillionth = 1'000'000;
constexpr Int128 kLevelsPerToken = Int128{1'000'000} * kSecondNs;

int64_t RateOf(double tokens_per_second) {
  const double bounded = std::min(tokens_per_second, kTokensPerSecondMax);
  return std::max<int64_t>(1, std::llround(bounded * kMillionth));
}

}  // namespace

TokenBucket::TokenBucket(double tokens_per_second, double burst_tokens, TimeNs now) : time_(now) {
  Configure(tokens_per_second, burst_tokens, now);
  level_ = burst_;
}

void TokenBucket::Configure(double tokens_per_second, double burst_tokens, TimeNs now) {
  level_ = LevelAt(now);
  time_ = std::max(time_, now);
  rate_ = RateOf(tokens_per_second);
  const double burst = burst_tokens > 0 ? burst_tokens : std::max(1.0, tokens_per_second);
  burst_ = std::llround(std::min(burst, kBurstTokensMax)) * kLevelsPerToken;
  level_ = std::min(level_, burst_);
}

Int128 TokenBucket::LevelAt(TimeNs now) const {
  const TimeNs passed = std::max<TimeNs>(0, now - time_);
  return std::min(burst_, level_ + Int128{rate_} * passed);
}

bool TokenBucket::Take(int64_t tokens, TimeNs now) {
  const Int128 level = LevelAt(now);
  if (level < tokens * kLevelsPerToken) return false;
  level_ = level - tokens * kLevelsPerToken;
  time_ = std::max(time_, now);
  return true;
}

void TokenBucket::GiveBack(int64_t tokens, TimeNs now) {
  level_ = std::min(burst_, LevelAt(now) + tokens * kLevelsPerToken);
  time_ = std::max(time_, now);
}

std::optional<int64_t> TokenBucket::WaitMs(int64_t tokens, TimeNs now) const {
  const Int128 needed = tokens * kLevelsPerToken;
  if (needed > burst_) return std::nullopt;
  const Int128 lacking = needed - LevelAt(now);
  if (lacking <= 0) return 0;
  const Int128 per_ms = Int128{rate_} * kMillisecondNs;
  return static_cast<int64_t>((lacking + per_ms - 1) / per_ms);
}

int64_t TokenBucket::burst_tokens() const { return static_cast<int64_t>(burst_ / kLevelsPerToken); }

void Gcra::Take(int64_t tokens, double tokens_per_second, TimeNs now) {
  const Int128 work = tokens * kLevelsPerToken;
  next_ = std::max(next_, now) + static_cast<TimeNs>(work / RateOf(tokens_per_second));
}

}  // namespace shoal::core
