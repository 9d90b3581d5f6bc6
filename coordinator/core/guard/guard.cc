#include "coordinator/core/guard/guard.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

RecordKind KindOf(BreakerState state) {
  switch (state) {
    case BreakerState::kOpen:
      return RecordKind::kBreakerOpened;
    case BreakerState::kHalfOpen:
      return RecordKind::kBreakerProbed;
    case BreakerState::kClosed:
      break;
  }
  return RecordKind::kBreakerClosed;
}

Record RecordOf(const Breaker& breaker, std::optional<double> value) {
  const BreakerRule& rule = breaker.rule();
  Record record{.kind = KindOf(breaker.state()), .detail = Name(rule)};
  const std::string source = Str("breaker rules, line ", rule.line);
  if (value) record.figures.push_back({rule.metric, *value, "the region's readings"});
  record.figures.push_back({"threshold", rule.threshold, source});
  record.figures.push_back({"recovery", rule.recovery, source});
  record.figures.push_back({"duration_ms", static_cast<double>(rule.duration_ms), source});
  return record;
}

}  // namespace

Guard::Guard(GuardRules rules, bool active) : active_(active), outliers_(rules.outliers) {
  for (BreakerRule& rule : rules.breakers) breakers_.emplace_back(std::move(rule));
}

void Guard::Configure(GuardRules rules) {
  outliers_.Configure(rules.outliers);
  std::vector<Breaker> before = std::exchange(breakers_, {});
  for (BreakerRule& rule : rules.breakers) {
    const auto same = std::ranges::find_if(before, [&](const Breaker& breaker) {
      BreakerRule other = breaker.rule();
      other.line = rule.line;
      return other == rule;
    });
    if (same == before.end()) {
      breakers_.emplace_back(std::move(rule));
      continue;
    }
    breakers_.push_back(std::move(*same));
    before.erase(same);
  }
  for (const Breaker& breaker : before) {
    if (breaker.state() == BreakerState::kClosed) continue;
    records_.push_back({.kind = RecordKind::kBreakerClosed,
                        .detail = Str(Name(breaker.rule()), ", which the rules have no more")});
  }
}

std::optional<StreamError> Guard::FindRefusal(ServiceClass service_class, TimeNs now) const {
  const Breaker* breaker = FindOpen(service_class, now);
  if (breaker == nullptr) return std::nullopt;
  StreamError error =
      MakeStreamError(BusyReason::kBreakerOpen,
                      Str("requests of class ", ToString(service_class),
                          " are refused for now: the breaker ", Name(breaker->rule()), " is open"));
  error.retry_after_ms = breaker->RetryAfterMs(now);
  return error;
}

const Breaker* Guard::FindOpen(ServiceClass service_class, TimeNs now) const {
  if (!active_) return nullptr;
  const auto breaker = std::ranges::find_if(
      breakers_, [&](const Breaker& each) { return each.Refuses(service_class, now); });
  return breaker == breakers_.end() ? nullptr : &*breaker;
}

bool Guard::degrades() const {
  return active_ && std::ranges::any_of(breakers_, [](const Breaker& breaker) {
           return breaker.state() == BreakerState::kOpen &&
                  breaker.rule().action == BreakerRule::Action::kDegrade;
         });
}

double Guard::ShareOf(uint64_t group, TimeNs now) const {
  return active_ ? outliers_.ShareOf(group, now) : 1;
}

std::optional<size_t> Guard::GivenMax(uint64_t group) const {
  return active_ ? outliers_.GivenMax(group) : std::nullopt;
}

void Guard::NoteSuccess(uint64_t group, const GroupMap& groups, TimeNs now) {
  if (!active_) return;
  ++OutcomesAt(now).successes;
  outliers_.NoteSuccess(group, groups, now);
}

void Guard::NoteError(uint64_t group, const GroupMap& groups, TimeNs now) {
  if (!active_) return;
  ++OutcomesAt(now).errors;
  outliers_.NoteError(group, groups, now);
}

void Guard::Forget(uint64_t group) { outliers_.Forget(group); }

void Guard::Tick(GuardReadings readings) {
  if (!active_) return;
  outliers_.Tick(readings.groups, readings.now);
  readings.error_percent = ErrorPercent(readings.now);
  for (Breaker& breaker : breakers_) {
    const std::optional<double> value = ReadMetric(breaker.rule().metric, readings);
    if (breaker.Learn(value, readings.now)) records_.push_back(RecordOf(breaker, value));
  }
}

Guard::Outcomes& Guard::OutcomesAt(TimeNs now) {
  const int64_t second = now / kSecondNs;
  Outcomes& outcomes = outcomes_.at(static_cast<size_t>(second) % kErrorSeconds);
  if (outcomes.second != second) outcomes = {.second = second};
  return outcomes;
}

std::optional<double> Guard::ErrorPercent(TimeNs now) const {
  int64_t errors = 0;
  int64_t all = 0;
  for (const Outcomes& outcomes : outcomes_) {
    if (now / kSecondNs - outcomes.second >= static_cast<int64_t>(kErrorSeconds)) continue;
    errors += outcomes.errors;
    all += outcomes.errors + outcomes.successes;
  }
  if (all == 0) return std::nullopt;
  return 100 * static_cast<double>(errors) / static_cast<double>(all);
}

std::vector<Record> Guard::TakeRecords() {
  std::vector<Record> records = outliers_.TakeRecords();
  std::ranges::move(std::exchange(records_, {}), std::back_inserter(records));
  return records;
}

std::vector<BreakerStatus> Guard::breakers() const {
  std::vector<BreakerStatus> all;
  for (const Breaker& breaker : breakers_) {
    all.push_back({Name(breaker.rule()), breaker.state() != BreakerState::kClosed});
  }
  return all;
}

}  // namespace shoal::core
