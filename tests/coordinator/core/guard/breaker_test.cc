// When breakers open and close, and whom they refuse.

#include "coordinator/core/guard/breaker.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "coordinator/core/guard/guard.h"
#include "tests/coordinator/core/support.h"

namespace shoal::core {
namespace {

using enum ServiceClass;

// The rule of the article: above 90 percent for 60 seconds.
BreakerRule MakeRule() {
  return {.metric = "gpu_utilization",
          .threshold = 90,
          .recovery = 85,
          .duration_ms = 60'000,
          .line = 3};
}

// Feeds `value` every 100 ms. Result: how often the state changed.
int FeedFor(Breaker& breaker, std::optional<double> value, int64_t milliseconds, TimeNs& now) {
  int changes = 0;
  for (int64_t passed = 0; passed <= milliseconds; passed += 100) {
    changes += breaker.Learn(value, now + passed * kMillisecondNs) ? 1 : 0;
  }
  now += milliseconds * kMillisecondNs;
  return changes;
}

TEST(Breaker, OpensOnlyAfterTheWholeDuration) {
  Breaker breaker(MakeRule());
  TimeNs now = kSecondNs;
  EXPECT_EQ(FeedFor(breaker, 91, 59'000, now), 0);
  EXPECT_EQ(FeedFor(breaker, 90, 0, now), 0);  // Not above: it begins anew.
  EXPECT_EQ(FeedFor(breaker, 91, 59'900, now), 0);
  EXPECT_EQ(breaker.state(), BreakerState::kClosed);
  EXPECT_EQ(FeedFor(breaker, 91, 1'100, now), 1);
  EXPECT_EQ(breaker.state(), BreakerState::kOpen);
}

TEST(Breaker, RefusesOnlyLowClassesAndSaysWhenToComeBack) {
  Breaker breaker(MakeRule());
  TimeNs now = kSecondNs;
  FeedFor(breaker, 95, 60'000, now);
  EXPECT_FALSE(breaker.Refuses(kCriticalPlus, now));
  EXPECT_FALSE(breaker.Refuses(kCritical, now));
  EXPECT_TRUE(breaker.Refuses(kSheddablePlus, now));
  EXPECT_TRUE(breaker.Refuses(kSheddable, now));
  EXPECT_EQ(breaker.RetryAfterMs(now), 13'000);
  FeedFor(breaker, 84, 4'000, now);
  EXPECT_EQ(breaker.RetryAfterMs(now), 9'000);
}

TEST(Breaker, StaysOpenBetweenRecoveryAndThreshold) {
  Breaker breaker(MakeRule());
  TimeNs now = kSecondNs;
  FeedFor(breaker, 95, 60'000, now);
  EXPECT_EQ(FeedFor(breaker, 85, 300'000, now), 0);
  EXPECT_EQ(FeedFor(breaker, 84, 9'000, now), 0);
  EXPECT_EQ(FeedFor(breaker, 86, 0, now), 0);
  EXPECT_EQ(FeedFor(breaker, 84, 9'900, now), 0);
  EXPECT_EQ(breaker.state(), BreakerState::kOpen);
}

TEST(Breaker, ClosesWithinSecondsThroughHalfOpen) {
  Breaker breaker(MakeRule());
  TimeNs now = kSecondNs;
  FeedFor(breaker, 95, 60'000, now);
  FeedFor(breaker, 84, 10'000, now);
  ASSERT_EQ(breaker.state(), BreakerState::kHalfOpen);
  // More and more pass, and the important ones always did.
  std::vector<int> passed(3);
  for (int i = 0; i < 300; ++i) {
    const TimeNs then = now + i * 10 * kMillisecondNs;
    EXPECT_FALSE(breaker.Refuses(kCritical, then));
    passed.at(static_cast<size_t>(i) / 100) += breaker.Refuses(kSheddable, then) ? 0 : 1;
  }
  EXPECT_GT(passed[0], 5);
  EXPECT_LT(passed[0], 30);
  EXPECT_GT(passed[1], passed[0]);
  EXPECT_GT(passed[2], passed[1]);
  EXPECT_EQ(FeedFor(breaker, 89, 3'000, now), 1);
  EXPECT_EQ(breaker.state(), BreakerState::kClosed);
  EXPECT_FALSE(breaker.Refuses(kSheddable, now));
}

TEST(Breaker, OpensAtOnceIfTheMetricComesBackWhileItIsHalfOpen) {
  Breaker breaker(MakeRule());
  TimeNs now = kSecondNs;
  FeedFor(breaker, 95, 60'000, now);
  FeedFor(breaker, 84, 10'000, now);
  ASSERT_EQ(breaker.state(), BreakerState::kHalfOpen);
  EXPECT_EQ(FeedFor(breaker, 91, 0, now), 1);
  EXPECT_EQ(breaker.state(), BreakerState::kOpen);
}

TEST(Breaker, LooksBelowToo) {
  BreakerRule rule = MakeRule();
  rule.compare = BreakerRule::Operator::kBelow;
  rule.threshold = 10;
  rule.recovery = 20;
  rule.duration_ms = 0;
  rule.action = BreakerRule::Action::kRejectAll;
  Breaker breaker(rule);
  TimeNs now = kSecondNs;
  EXPECT_EQ(FeedFor(breaker, std::nullopt, 1'000, now), 0);
  EXPECT_EQ(FeedFor(breaker, 10, 1'000, now), 0);
  EXPECT_EQ(FeedFor(breaker, 9, 0, now), 1);
  EXPECT_TRUE(breaker.Refuses(kCriticalPlus, now));
  EXPECT_EQ(FeedFor(breaker, 20, 20'000, now), 0);
  EXPECT_EQ(FeedFor(breaker, 21, 10'000, now), 1);
}

// ---- With the metrics of a region.

class GuardTest : public ::testing::Test {
 protected:
  GuardTest() {
    for (uint64_t number = 0; number < 2; ++number) groups_[number] = MakeReadyGroup(number);
  }

  // Both groups are busy for that share of the time, and report every 100 ms.
  void Pass(Guard& guard, double busy, int64_t milliseconds) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      now_ += 100 * kMillisecondNs;
      stats_.busy_us_total += static_cast<int64_t>(busy * 100'000);
      for (auto& [number, group] : groups_) {
        group.stats = stats_;
        group.load.Learn(stats_, now_);
      }
      guard.Tick({.groups = groups_, .requests_waiting = waiting_, .now = now_});
    }
  }

  static std::vector<RecordKind> Kinds(Guard& guard) {
    std::vector<RecordKind> kinds;
    for (const Record& record : guard.TakeRecords()) kinds.push_back(record.kind);
    return kinds;
  }

  GroupMap groups_;
  SchedulerStats stats_{.kv_blocks_used = 30, .kv_blocks_total = 100};
  int64_t waiting_ = 0;
  TimeNs now_ = kSecondNs;
};

TEST_F(GuardTest, MeasuresUtilizationAndShedsLowPriorityUntilItHasFallen) {
  GuardRules rules;
  rules.breakers = {MakeRule()};
  Guard guard(rules, true);
  Pass(guard, 0.8, 120'000);
  EXPECT_TRUE(Kinds(guard).empty());
  Pass(guard, 0.97, 58'000);
  EXPECT_TRUE(Kinds(guard).empty());
  EXPECT_EQ(guard.FindRefusal(kSheddable, now_), std::nullopt);
  Pass(guard, 0.97, 5'000);
  EXPECT_EQ(Kinds(guard), (std::vector{RecordKind::kBreakerOpened}));
  const auto refusal = guard.FindRefusal(kSheddable, now_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->reason, BusyReason::kBreakerOpen);
  EXPECT_GT(refusal->retry_after_ms, 0);
  EXPECT_EQ(guard.FindRefusal(kCritical, now_), std::nullopt);
  EXPECT_EQ(guard.breakers(),
            (std::vector<BreakerStatus>{{"gpu_utilization > 90: reject_low_priority", true}}));
  Pass(guard, 0.5, 20'000);
  EXPECT_EQ(Kinds(guard), (std::vector{RecordKind::kBreakerProbed, RecordKind::kBreakerClosed}));
  EXPECT_EQ(guard.FindRefusal(kSheddable, now_), std::nullopt);
  EXPECT_FALSE(guard.breakers().front().open);
}

TEST_F(GuardTest, ReadsEachMetric) {
  stats_.requests_waiting = 4;
  waiting_ = 3;
  Guard guard({}, true);
  Pass(guard, 0.6, 3'000);
  const GuardReadings readings{.groups = groups_,
                               .requests_waiting = 3,
                               .queue_wait_ms = 250,
                               .error_percent = 12,
                               .now = now_};
  EXPECT_NEAR(ReadMetric("gpu_utilization", readings).value(), 60, 1);
  EXPECT_NEAR(ReadMetric("cpu_utilization", readings).value(), 60, 1);
  EXPECT_EQ(ReadMetric("kv_used", readings), 30);
  EXPECT_EQ(ReadMetric("queue_length", readings), 3 + 2 * 4);
  EXPECT_EQ(ReadMetric("queue_wait_ms", readings), 250);
  EXPECT_EQ(ReadMetric("error_rate", readings), 12);
  groups_.clear();
  EXPECT_EQ(ReadMetric("gpu_utilization", readings), std::nullopt);
  EXPECT_EQ(ReadMetric("kv_used", readings), std::nullopt);
}

TEST_F(GuardTest, CountsErrorsOfTheLastSeconds) {
  GuardRules rules;
  rules.outliers.errors_max = 1'000;
  rules.breakers = {{.metric = "error_rate",
                     .threshold = 50,
                     .recovery = 40,
                     .action = BreakerRule::Action::kRejectAll}};
  Guard guard(rules, true);
  for (int i = 0; i < 5; ++i) guard.NoteSuccess(0, groups_, now_);
  for (int i = 0; i < 5; ++i) guard.NoteError(0, groups_, now_);
  Pass(guard, 0, 200);
  EXPECT_EQ(guard.FindRefusal(kCritical, now_), std::nullopt);
  guard.NoteError(1, groups_, now_);
  Pass(guard, 0, 200);
  EXPECT_NE(guard.FindRefusal(kCritical, now_), std::nullopt);
  // Nothing ends any more, so nothing fails: it is tried again within seconds.
  Pass(guard, 0, 21'000);
  EXPECT_EQ(Kinds(guard), (std::vector{RecordKind::kBreakerOpened, RecordKind::kBreakerProbed}));
}

TEST_F(GuardTest, DegradesWithoutRefusing) {
  GuardRules rules;
  rules.breakers = {{.metric = "queue_length",
                     .threshold = 10,
                     .recovery = 5,
                     .duration_ms = 1'000,
                     .action = BreakerRule::Action::kDegrade}};
  Guard guard(rules, true);
  waiting_ = 11;
  Pass(guard, 0, 800);
  EXPECT_FALSE(guard.degrades());
  Pass(guard, 0, 800);
  EXPECT_TRUE(guard.degrades());
  EXPECT_EQ(guard.FindRefusal(kSheddable, now_), std::nullopt);
}

TEST_F(GuardTest, DoesNothingWhenItIsOff) {
  GuardRules rules;
  rules.breakers = {MakeRule()};
  Guard guard(rules, false);
  Pass(guard, 1, 120'000);
  for (int i = 0; i < 50; ++i) guard.NoteError(0, groups_, now_);
  EXPECT_EQ(guard.FindRefusal(kSheddable, now_), std::nullopt);
  EXPECT_EQ(guard.ShareOf(0, now_), 1);
  EXPECT_EQ(guard.GivenMax(0), std::nullopt);
  EXPECT_TRUE(Kinds(guard).empty());
}

TEST(Guard, KeepsABreakerOpenWhoseRuleIsTheSameAndClosesOneThatIsGone) {
  BreakerRule rule{.metric = "queue_length", .threshold = 1, .recovery = 1, .duration_ms = 0};
  Guard guard({.breakers = {rule}}, /*active=*/true);
  const GroupMap none;
  guard.Tick({.groups = none, .requests_waiting = 5, .now = kSecondNs});
  ASSERT_TRUE(guard.FindRefusal(kSheddable, kSecondNs));
  guard.TakeRecords();
  rule.line = 7;
  guard.Configure({.breakers = {rule}});
  EXPECT_TRUE(guard.FindRefusal(kSheddable, kSecondNs)) << "it is the same rule";
  EXPECT_TRUE(guard.TakeRecords().empty());
  rule.threshold = 2;
  guard.Configure({.breakers = {rule}});
  EXPECT_FALSE(guard.FindRefusal(kSheddable, kSecondNs));
  const std::vector<Record> records = guard.TakeRecords();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].kind, RecordKind::kBreakerClosed);
}

}  // namespace
}  // namespace shoal::core
