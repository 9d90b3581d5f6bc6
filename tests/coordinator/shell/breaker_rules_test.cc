// What a file of breaker rules may say, and what is said of one that is wrong.

#include "coordinator/shell/breaker_rules_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using core::BreakerRule;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kRule =
    "rules:\n"
    "  - metric: gpu_utilization\n"
    "    operator: \">\"\n"
    "    value: 90\n"
    "    duration: 60s\n"
    "    action: reject_low_priority\n";

// What is wrong with that text.
std::string Fault(const std::string& text) {
  try {
    ParseBreakerRules(text, "rules.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = kRule;
  const size_t begin = text.find(from);
  EXPECT_NE(begin, std::string::npos) << from;
  return text.replace(begin, from.size(), to);
}

TEST(BreakerRulesFile, ReadsTheArticlesRule) {
  const core::GuardRules rules = ParseBreakerRules(kRule, "rules.yaml");
  ASSERT_EQ(rules.breakers.size(), 1u);
  const BreakerRule& rule = rules.breakers.front();
  EXPECT_EQ(rule.metric, "gpu_utilization");
  EXPECT_EQ(rule.compare, BreakerRule::Operator::kAbove);
  EXPECT_EQ(rule.threshold, 90);
  EXPECT_EQ(rule.duration_ms, 60'000);
  EXPECT_EQ(rule.action, BreakerRule::Action::kRejectLowPriority);
  EXPECT_EQ(rule.recovery, 85);
  EXPECT_EQ(rule.recovery_ms, 10'000);
  EXPECT_EQ(rule.half_open_ms, 3'000);
  EXPECT_EQ(rule.line, 2);
  EXPECT_EQ(rules.outliers, core::OutlierRules());
}

TEST(BreakerRulesFile, ReadsEachKey) {
  const core::GuardRules rules = ParseBreakerRules(
      "rules:\n"
      "  - {metric: kv_used, operator: '<', value: 5, duration: 250ms, action: degrade,\n"
      "     recovery: 6, recovery_duration: 2s, half_open: 1s}\n"
      "outliers: {consecutive_errors: 3, interval: 1s, base_ejection_time: 3s,\n"
      "           max_ejection_percent: 25, slow_start: 0, slow_factor: 0}\n",
      "rules.yaml");
  ASSERT_EQ(rules.breakers.size(), 1u);
  EXPECT_EQ(rules.breakers.front(), (BreakerRule{.metric = "kv_used",
                                                 .compare = BreakerRule::Operator::kBelow,
                                                 .threshold = 5,
                                                 .recovery = 6,
                                                 .duration_ms = 250,
                                                 .recovery_ms = 2'000,
                                                 .half_open_ms = 1'000,
                                                 .action = BreakerRule::Action::kDegrade,
                                                 .line = 2}));
  EXPECT_EQ(rules.outliers, (core::OutlierRules{3, 1'000, 3'000, 0.25, 0, 0}));
}

TEST(BreakerRulesFile, MayBeEmpty) {
  EXPECT_EQ(ParseBreakerRules("", "rules.yaml"), core::GuardRules());
  EXPECT_EQ(ParseBreakerRules("rules:\noutliers:\n", "rules.yaml"), core::GuardRules());
}

TEST(BreakerRulesFile, IsAsItsExampleSays) {
  const core::GuardRules rules =
      ReadBreakerRules(Str(SHOAL_SOURCE_DIR, "/configs/breaker_rules.yaml"));
  core::GuardRules expected = ParseBreakerRules(kRule, "rules.yaml");
  ASSERT_EQ(rules.breakers.size(), 1u);
  expected.breakers.front().line = rules.breakers.front().line;
  EXPECT_EQ(rules, expected);
}

TEST(BreakerRulesFile, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(Fault(Replaced("gpu_utilization", "gpu_utilisation")),
              AllOf(HasSubstr("rules.yaml, line 2: metric: expected one of gpu_utilization, "),
                    HasSubstr("found 'gpu_utilisation'")));
  EXPECT_THAT(Fault(Replaced("\">\"", "\"=>\"")),
              HasSubstr("line 3: operator: expected one of >, <, found '=>'"));
  EXPECT_THAT(Fault(Replaced("90", "high")), HasSubstr("line 4: value: expected a number"));
  EXPECT_THAT(Fault(Replaced("90", "-1")), HasSubstr("line 4: value: expected a number"));
  EXPECT_THAT(Fault(Replaced("60s", "60 seconds")), HasSubstr("line 5: duration: expected a dur"));
  EXPECT_THAT(
      Fault(Replaced("reject_low_priority", "reject")),
      HasSubstr("line 6: action: expected one of reject_low_priority, reject_all, degrade"));
  EXPECT_THAT(Fault(Replaced("    value: 90\n", "")),
              HasSubstr("line 2: value: expected in every rule, found nothing"));
  EXPECT_THAT(Fault(Replaced("value", "threshold")), HasSubstr("value: expected in every rule"));
  EXPECT_THAT(Fault(Str(kRule, "    recovry: 85\n")), HasSubstr("line 7: recovry: no such key"));
  EXPECT_THAT(Fault(Str(kRule, "    recovery: 95\n")),
              HasSubstr("line 7: recovery: expected a number not above value (90), found 95"));
  EXPECT_THAT(Fault(Str(kRule, std::string(kRule).substr(7))),
              AllOf(HasSubstr("line 7: metric: expected one rule"), HasSubstr("line 2")));
  EXPECT_THAT(Fault("rules: 5\n"), HasSubstr("rules: expected a list of sections"));
  EXPECT_THAT(Fault("breakers: []\n"), HasSubstr("line 1: breakers: no such key"));
  EXPECT_THAT(Fault("outliers: {slow_factor: 1}\n"),
              HasSubstr("slow_factor: expected 0 or more than 1, found 1"));
  EXPECT_THAT(Fault("outliers: {consecutive_errors: 0}\n"),
              HasSubstr("consecutive_errors: expected an integer from 1"));
  EXPECT_THAT(Fault("rules: [\n"), HasSubstr("rules.yaml, line"));
}

TEST(BreakerRulesFile, MustBeThere) {
  EXPECT_THROW(ReadBreakerRules("/nowhere/rules.yaml"), Error);
}

}  // namespace
}  // namespace shoal::gateway
