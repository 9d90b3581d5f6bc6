// How evenly policies load groups that are not alike, against weights that nobody keeps up to date
// and against taking turns. All of it in virtual time.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/coordinator/core/routing/balance_sim.h"

namespace shoal::core {
namespace {

const std::vector<double> kUneven = {1, 1, 1, 1.5, 2, 2, 3, 4};

// Mean and the half width of its 95 percent confidence interval.
struct Estimate {
  double mean = 0;
  double half_width = 0;
};

Estimate Estimated(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0;
  double squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, 1.96 * std::sqrt(squares / (count - 1) / count)};
}

class BalanceTest : public ::testing::TestWithParam<RoutingPolicy> {};

TEST_P(BalanceTest, KeepsUnevenGroupsWithinFivePercentWhereStaticWeightsDoNot) {
  const BalanceTrace trace{.load = 0.75, .seconds = 600, .report_ms = 200, .speeds = kUneven};
  const BalanceResult fixed = RunBalance(trace, BalanceArm::kStaticWeights, GetParam());
  const BalanceResult ours = RunBalance(trace, BalanceArm::kPolicy, GetParam());
  RecordProperty("static_percent", std::to_string(100 * fixed.Deviation()));
  RecordProperty("ours_percent", std::to_string(100 * ours.Deviation()));
  EXPECT_GE(fixed.Deviation(), 0.30);
  EXPECT_LE(ours.Deviation(), 0.05);
  EXPECT_GE(ours.finished, fixed.finished);
}

TEST_P(BalanceTest, IsMoreEvenAndSeldomerOverloadedThanTakingTurnsOverThirtySeeds) {
  std::vector<double> evenness;  // What it gains, as a share of that of taking turns.
  std::vector<double> overload;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const BalanceTrace trace{.seed = seed, .load = 0.75, .seconds = 30, .speeds = kUneven};
    const BalanceResult turns = RunBalance(trace, BalanceArm::kRoundRobin, GetParam());
    const BalanceResult ours = RunBalance(trace, BalanceArm::kPolicy, GetParam());
    evenness.push_back(ours.evenness / turns.evenness - 1);
    ASSERT_GT(turns.overload, 0);
    overload.push_back(1 - ours.overload / turns.overload);
  }
  const Estimate evener = Estimated(evenness);
  const Estimate seldomer = Estimated(overload);
  RecordProperty("evenness_gain_percent", std::to_string(100 * evener.mean));
  RecordProperty("overload_less_percent", std::to_string(100 * seldomer.mean));
  EXPECT_GE(evener.mean - evener.half_width, 0.41);
  EXPECT_GE(seldomer.mean - seldomer.half_width, 0.67);
}

INSTANTIATE_TEST_SUITE_P(Policies, BalanceTest,
                         ::testing::Values(RoutingPolicy::kP2cLeastTokens,
                                           RoutingPolicy::kPrefixAware),
                         [](const auto& policy) { return std::string(ToString(policy.param)); });

// Reports that are two seconds old change nothing: what was sent is counted when it is sent.
TEST(Balance, HerdsNowhereWhenReportsAreOld) {
  const BalanceTrace trace{.load = 0.75, .seconds = 120, .report_ms = 2'000, .speeds = kUneven};
  for (const RoutingPolicy policy :
       {RoutingPolicy::kLeastConn, RoutingPolicy::kP2cLeastTokens, RoutingPolicy::kPrefixAware}) {
    const BalanceResult result = RunBalance(trace, BalanceArm::kPolicy, policy);
    EXPECT_LE(result.Deviation(), 0.07) << ToString(policy);
    EXPECT_GE(result.evenness, 0.9) << ToString(policy);
  }
}

}  // namespace
}  // namespace shoal::core
