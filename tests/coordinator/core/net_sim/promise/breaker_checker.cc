#include "tests/coordinator/core/net_sim/promise/breaker_checker.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

// As promised to whoever writes the rules: what passes of each second when it is half open.
constexpr double kFirstShare = 0.1;

}  // namespace

const BreakerRule* BreakerChecker::rule() const {
  const auto& breakers = context_.swarm.overload.guard.breakers;
  return breakers.empty() ? nullptr : &breakers.front();
}

void BreakerChecker::Ended(bool well, bool sure) {
  const int64_t second = context_.loop.now() / kSecondNs;
  Outcomes& outcomes = outcomes_.at(static_cast<size_t>(second) % outcomes_.size());
  if (outcomes.second != second) outcomes = {.second = second};
  ++outcomes.counts.at(static_cast<size_t>(well)).at(static_cast<size_t>(sure));
}

BreakerChecker::Values BreakerChecker::ErrorValues() const {
  int64_t counts[2][2] = {};
  for (const Outcomes& outcomes : outcomes_) {
    const int64_t age = context_.loop.now() / kSecondNs - outcomes.second;
    if (age >= std::ssize(outcomes_)) continue;
    for (size_t well = 0; well < 2; ++well) {
      for (size_t sure = 0; sure < 2; ++sure) counts[well][sure] += outcomes.counts[well][sure];
    }
  }
  const auto percent = [](int64_t errors, int64_t successes) {
    return 100.0 * static_cast<double>(errors) / static_cast<double>(errors + successes);
  };
  const int64_t errors_max = counts[0][0] + counts[0][1];
  const int64_t well_max = counts[1][0] + counts[1][1];
  Values values;
  if (counts[0][1] + counts[1][1] == 0) values.emplace_back(std::nullopt);
  if (errors_max + well_max == 0) return values;
  const double low = counts[0][1] + well_max == 0 ? 100 : percent(counts[0][1], well_max);
  const double high = errors_max + counts[1][1] == 0 ? 0 : percent(errors_max, counts[1][1]);
  for (const std::optional<double>& value : MakeValues(low, high)) values.push_back(value);
  return values;
}

// The ends, and what is neither beyond the threshold nor back if that lies between.
BreakerChecker::Values BreakerChecker::MakeValues(double low, double high) const {
  const double least = std::min(low, high);
  const double most = std::max(low, high);
  return {least, most, std::clamp(rule()->threshold, least, most)};
}

BreakerChecker::State BreakerChecker::Next(State state, std::optional<double> value) const {
  const BreakerRule& of = *rule();
  const TimeNs now = context_.loop.now();
  const bool beyond = value && *value > of.threshold;
  const bool back = !value || *value < of.recovery;
  if (state.kind == Kind::kHalfOpen) {
    if (beyond) return {Kind::kOpen, now};
    const bool over = now - state.since >= of.half_open_ms * kMillisecondNs;
    return over ? State{Kind::kClosed, now} : state;
  }
  const bool closed = state.kind == Kind::kClosed;
  if (!(closed ? beyond : back)) {
    state.lasts.reset();
    return state;
  }
  state.lasts = state.lasts.value_or(now);
  const int64_t needed_ms = closed ? of.duration_ms : of.recovery_ms;
  if (now - *state.lasts < needed_ms * kMillisecondNs) return state;
  return {closed ? Kind::kOpen : Kind::kHalfOpen, now};
}

std::optional<BreakerChecker::Kind> BreakerChecker::KnownKind() const {
  if (states_.size() != 1) return std::nullopt;
  return states_.begin()->kind;
}

void BreakerChecker::Count(std::optional<Kind> before) {
  const std::optional<Kind> kind = KnownKind();
  if (!kind || kind == before) return;
  if (kind == Kind::kOpen) ++context_.counters.opened;
  if (kind == Kind::kHalfOpen) ++context_.counters.half_opened;
  if (kind == Kind::kClosed && before == Kind::kHalfOpen) ++context_.counters.closed;
}

void BreakerChecker::Ticked(double low, double high, const std::vector<BreakerStatus>& told) {
  if (rule() == nullptr) return;
  const std::optional<Kind> before = KnownKind();
  const Values values = rule()->metric == "error_rate" ? ErrorValues() : MakeValues(low, high);
  const bool open = !told.empty() && told.front().open;
  std::set<State> next;
  for (const State& state : states_) {
    for (const std::optional<double>& value : values) {
      const State after = Next(state, value);
      if ((after.kind != Kind::kClosed) == open) next.insert(after);
    }
  }
  states_ = std::move(next);
  Count(before);
  if (!states_.empty()) return;
  context_.Violation(Str("the breaker ", told.empty() ? "" : told.front().rule, " is ",
                         open ? "open" : "closed", ", and its metric was between ",
                         values.front().value_or(-1), " and ", values.back().value_or(-1)));
}

bool BreakerChecker::Refuses(const State& state, ServiceClass service_class) const {
  const BreakerRule& of = *rule();
  const bool concerns = of.action == BreakerRule::Action::kRejectAll ||
                        (of.action == BreakerRule::Action::kRejectLowPriority &&
                         (service_class == ServiceClass::kSheddable ||
                          service_class == ServiceClass::kSheddablePlus));
  if (!concerns || state.kind == Kind::kClosed) return false;
  if (state.kind == Kind::kOpen) return true;
  const auto passed = static_cast<double>(context_.loop.now() - state.since);
  const auto whole = static_cast<double>(std::max<int64_t>(of.half_open_ms, 1) * kMillisecondNs);
  const double share = std::min(1.0, kFirstShare + (1 - kFirstShare) * passed / whole);
  const TimeNs of_second = (context_.loop.now() - state.since) % kSecondNs;
  return static_cast<double>(of_second) >= share * static_cast<double>(kSecondNs);
}

void BreakerChecker::Asked(ServiceClass service_class, bool refused) {
  if (rule() == nullptr) return;
  std::erase_if(states_,
                [&](const State& state) { return Refuses(state, service_class) != refused; });
  if (!states_.empty()) return;
  context_.Violation(Str("a request of class ", ToString(service_class), " is ",
                         refused ? "refused by a breaker that must let it pass"
                                 : "let pass by a breaker that must refuse it"));
}

}  // namespace shoal::core::net_sim
