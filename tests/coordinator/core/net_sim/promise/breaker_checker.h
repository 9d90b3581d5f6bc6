#pragma once

// What a breaker must do by what its metric was, seen from outside.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "coordinator/core/guard/guard_rules.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "transport/base/clock.h"
#include "transport/base/group.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core::net_sim {

// From outside a metric is known only within bounds, because requests come and go while the region
// looks at it. So it keeps every state in which the breaker may be, and whatever the region does
// must be what one of them does.
class BreakerChecker {
 public:
  // It outlives it. Of the swarm's breakers, which are one at most.
  explicit BreakerChecker(Context& context) : context_(context) {}

  void NewRegion() { states_ = {State{}}, outcomes_ = {}; }
  // A group ended a sequence, well or badly. `sure`: the region counts it; otherwise it may.
  void Ended(bool well, bool sure);
  // A tick has passed in which between `low` and `high` requests waited. `told`: what the region
  // says of its breakers since.
  void Ticked(double low, double high, const std::vector<BreakerStatus>& told);
  // A request of that class was refused because a breaker is open, or got past all of them.
  void Asked(ServiceClass service_class, bool refused);

 private:
  enum class Kind : uint8_t { kClosed, kOpen, kHalfOpen };
  struct State {
    Kind kind = Kind::kClosed;
    TimeNs since = 0;
    std::optional<TimeNs> lasts{};  // Since when it is on its way to another kind.

    auto operator<=>(const State&) const = default;
  };
  struct Outcomes {
    int64_t second = -1;
    // [well][sure]
    std::array<std::array<int64_t, 2>, 2> counts{};
  };
  using Values = std::vector<std::optional<double>>;

  const BreakerRule* rule() const;
  // All that matter of those that the metric may have had.
  Values MakeValues(double low, double high) const;
  Values ErrorValues() const;
  State Next(State state, std::optional<double> value) const;
  bool Refuses(const State& state, ServiceClass service_class) const;
  // Of a single state that is known.
  std::optional<Kind> KnownKind() const;
  void Count(std::optional<Kind> before);

  Context& context_;
  std::set<State> states_{State{}};
  std::array<Outcomes, 10> outcomes_{};  // Of the last seconds.
};

}  // namespace shoal::core::net_sim
