#include "coordinator/shell/breaker_rules_file.h"

#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/guard/breaker.h"
#include "coordinator/core/guard/guard_metrics.h"
#include "transport/base/check.h"
#include "transport/config/yaml_map.h"

namespace shoal::gateway {
namespace {

using config::YamlMap;
using core::BreakerRule;
using core::GuardRules;
using core::OutlierRules;

constexpr int64_t kDayMs = 24 * 3'600'000LL;
constexpr double kValueMax = 1e12;
constexpr size_t kRulesMax = 64;
// Where a rule does not say when it has recovered: so far from its threshold, as a share of it.
constexpr double kHysteresis = 1.0 / 18;

void Require(YamlMap& map, std::string_view key) {
  if (!map.Has(key)) map.Fail(key, "expected in every rule, found nothing");
}

int RequireChoice(YamlMap& map, std::string_view key, const std::vector<std::string>& words) {
  Require(map, key);
  return map.Choice(key, words);
}

BreakerRule ReadRule(YamlMap& map) {
  BreakerRule rule;
  rule.line = map.line();
  const std::vector<std::string>& metrics = core::MetricNames();
  rule.metric = metrics.at(static_cast<size_t>(RequireChoice(map, "metric", metrics)));
  rule.compare = static_cast<BreakerRule::Operator>(RequireChoice(map, "operator", {">", "<"}));
  Require(map, "value");
  rule.threshold = map.Double("value", 0, {0, kValueMax});
  Require(map, "duration");
  rule.duration_ms = map.DurationMs("duration", 0, {0, kDayMs});
  rule.action = static_cast<BreakerRule::Action>(
      RequireChoice(map, "action", {"reject_low_priority", "reject_all", "degrade"}));
  const bool above = rule.compare == BreakerRule::Operator::kAbove;
  const double hysteresis = rule.threshold * kHysteresis;
  rule.recovery =
      map.Double("recovery", rule.threshold + (above ? -hysteresis : hysteresis), {0, kValueMax});
  if (above ? rule.recovery > rule.threshold : rule.recovery < rule.threshold) {
    map.Fail("recovery", Str("expected a number ", above ? "not above" : "not below", " value (",
                             rule.threshold, "), found ", rule.recovery));
  }
  rule.recovery_ms = map.DurationMs("recovery_duration", rule.recovery_ms, {0, kDayMs});
  rule.half_open_ms = map.DurationMs("half_open", rule.half_open_ms, {0, kDayMs});
  map.Finish();
  return rule;
}

OutlierRules ReadOutliers(YamlMap map) {
  OutlierRules rules;
  rules.errors_max =
      static_cast<int32_t>(map.Int("consecutive_errors", rules.errors_max, {1, 1'000'000}));
  rules.interval_ms = map.DurationMs("interval", rules.interval_ms, {1, kDayMs});
  rules.ejection_ms = map.DurationMs("base_ejection_time", rules.ejection_ms, {1, kDayMs});
  const double percent =
      map.Double("max_ejection_percent", 100 * rules.ejected_share_max, {0, 100});
  rules.ejected_share_max = percent / 100;
  rules.slow_start_ms = map.DurationMs("slow_start", rules.slow_start_ms, {0, kDayMs});
  rules.slow_factor = map.Double("slow_factor", rules.slow_factor, {0, 1'000});
  if (rules.slow_factor > 0 && rules.slow_factor <= 1) {
    map.Fail("slow_factor", Str("expected 0 or more than 1, found ", rules.slow_factor));
  }
  map.Finish();
  return rules;
}

GuardRules ReadRules(YamlMap map) {
  GuardRules rules;
  rules.outliers = ReadOutliers(map.Map("outliers"));
  std::vector<YamlMap> breakers = map.Maps("rules");
  if (breakers.size() > kRulesMax) {
    map.Fail("rules", Str("expected at most ", kRulesMax, " rules, found ", breakers.size()));
  }
  for (YamlMap& breaker : breakers) {
    BreakerRule rule = ReadRule(breaker);
    for (const BreakerRule& other : rules.breakers) {
      if (Name(other) != Name(rule)) continue;
      breaker.Fail("metric", Str("expected one rule '", Name(rule), "', found another one in line ",
                                 other.line));
    }
    rules.breakers.push_back(std::move(rule));
  }
  map.Finish();
  return rules;
}

}  // namespace

GuardRules ReadBreakerRules(const std::string& path) { return ReadRules(YamlMap::ReadFile(path)); }

GuardRules ParseBreakerRules(const std::string& text, const std::string& name) {
  return ReadRules(YamlMap::ReadText(text, name));
}

}  // namespace shoal::gateway
