#include "coordinator/core/guard/breaker.h"

#include <algorithm>
#include <array>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

// Of each second, what passes at first when it is half open.
constexpr double kProbeShare = 0.1;

int64_t CeilMs(TimeNs time) { return (time + kMillisecondNs - 1) / kMillisecondNs; }

}  // namespace

std::string_view ToString(BreakerRule::Action action) {
  static constexpr std::array<std::string_view, 3> kNames = {"reject_low_priority", "reject_all",
                                                             "degrade"};
  return kNames.at(static_cast<size_t>(action));
}

std::string Name(const BreakerRule& rule) {
  return Str(rule.metric, rule.compare == BreakerRule::Operator::kAbove ? " > " : " < ",
             rule.threshold, ": ", ToString(rule.action));
}

RecordFigure LimitOf(const BreakerRule& rule) {
  return {rule.metric, rule.threshold, Str("the breaker '", Name(rule), "' of line ", rule.line)};
}

Breaker::Breaker(BreakerRule rule) : rule_(std::move(rule)) {}

bool Breaker::Beyond(std::optional<double> value) const {
  if (!value) return false;
  return rule_.compare == BreakerRule::Operator::kAbove ? *value > rule_.threshold
                                                        : *value < rule_.threshold;
}

bool Breaker::Recovered(std::optional<double> value) const {
  if (!value) return true;
  return rule_.compare == BreakerRule::Operator::kAbove ? *value < rule_.recovery
                                                        : *value > rule_.recovery;
}

bool Breaker::Become(BreakerState state, TimeNs now) {
  state_ = state;
  state_since_ = now;
  lasts_since_.reset();
  return true;
}

bool Breaker::Learn(std::optional<double> value, TimeNs now) {
  if (state_ == BreakerState::kHalfOpen) {
    if (Beyond(value)) return Become(BreakerState::kOpen, now);
    if (now - state_since_ < rule_.half_open_ms * kMillisecondNs) return false;
    return Become(BreakerState::kClosed, now);
  }
  const bool closed = state_ == BreakerState::kClosed;
  if (!(closed ? Beyond(value) : Recovered(value))) {
    lasts_since_.reset();
    return false;
  }
  if (!lasts_since_) lasts_since_ = now;
  const int64_t needed_ms = closed ? rule_.duration_ms : rule_.recovery_ms;
  if (now - *lasts_since_ < needed_ms * kMillisecondNs) return false;
  return Become(closed ? BreakerState::kOpen : BreakerState::kHalfOpen, now);
}

bool Breaker::Refuses(ServiceClass service_class, TimeNs now) const {
  if (state_ == BreakerState::kClosed || rule_.action == BreakerRule::Action::kDegrade) {
    return false;
  }
  if (rule_.action == BreakerRule::Action::kRejectLowPriority &&
      service_class < ServiceClass::kSheddablePlus) {
    return false;
  }
  if (state_ == BreakerState::kOpen) return true;
  // A part of each second passes, from a tenth up to all of it.
  const double passed =
      static_cast<double>(now - state_since_) /
      static_cast<double>(std::max<int64_t>(rule_.half_open_ms, 1) * kMillisecondNs);
  const double share = kProbeShare + (1 - kProbeShare) * std::clamp(passed, 0.0, 1.0);
  const TimeNs within = (now - state_since_) % kSecondNs;
  return static_cast<double>(within) >= share * static_cast<double>(kSecondNs);
}

int64_t Breaker::RetryAfterMs(TimeNs now) const {
  if (state_ == BreakerState::kClosed) return 0;
  TimeNs left = rule_.half_open_ms * kMillisecondNs;
  if (state_ == BreakerState::kHalfOpen) {
    left -= now - state_since_;
  } else {
    left += rule_.recovery_ms * kMillisecondNs - (lasts_since_ ? now - *lasts_since_ : 0);
  }
  return std::max<int64_t>(1, CeilMs(left));
}

}  // namespace shoal::core
