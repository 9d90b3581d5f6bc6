#pragma once

// One breaker: refuses requests while something has gone on for too long.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/core/guard/guard_rules.h"
#include "coordinator/core/record/record.h"
#include "transport/base/clock.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

enum class BreakerState : uint8_t {
  kClosed,
  kOpen,
  kHalfOpen,  // More and more requests pass, to see whether it can close.
};

// "reject_low_priority", "reject_all", "degrade".
std::string_view ToString(BreakerRule::Action action);
// "gpu_utilization > 90: reject_low_priority"
std::string Name(const BreakerRule& rule);
// Of a record of what it did: by this its cause is found.
RecordFigure LimitOf(const BreakerRule& rule);

// Threading: none; owned by Guard.
class Breaker {
 public:
  explicit Breaker(BreakerRule rule);

  // What its metric is now; none: nothing is known, which opens no breaker. Result: whether its
  // state is another one.
  bool Learn(std::optional<double> value, TimeNs now);
  // Whether a request of that class is not to be taken now.
  bool Refuses(ServiceClass service_class, TimeNs now) const;
  // When it may be closed again, if all goes well.
  int64_t RetryAfterMs(TimeNs now) const;

  const BreakerRule& rule() const { return rule_; }
  BreakerState state() const { return state_; }

 private:
  bool Beyond(std::optional<double> value) const;
  bool Recovered(std::optional<double> value) const;
  bool Become(BreakerState state, TimeNs now);

  BreakerRule rule_;
  BreakerState state_ = BreakerState::kClosed;
  TimeNs state_since_ = 0;
  // Closed: since when the metric is beyond the threshold; open: since when it has recovered.
  std::optional<TimeNs> lasts_since_;
};

}  // namespace shoal::core
