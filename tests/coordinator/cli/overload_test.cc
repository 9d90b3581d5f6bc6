// The pure parts of `shoal bench overload`: when clients come and come again, and what is made of
// it.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stack>

#include "coordinator/cli/bench/overload/figures.h"
#include "coordinator/cli/bench/overload/report.h"
#include "coordinator/cli/bench/overload/retries.h"
#include "coordinator/cli/bench/overload/rig.h"
#include "coordinator/cli/bench/overload/traffic.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

double AsSeconds(TimeNs at) { return static_cast<double>(at) / kSecondNs; }

// The part of the arrivals in [begin, end) seconds.
double Part(const std::vector<TimeNs>& times, double begin, double end) {
  const auto count = std::ranges::count_if(
      times, [&](TimeNs at) { return begin <= AsSeconds(at) && AsSeconds(at) < end; });
  return static_cast<double>(count) / static_cast<double>(times.size());
}

std::vector<TimeNs> Arrivals(LoadShape shape, double seconds, double peak) {
  UniformNumbers numbers(7);
  return ArrivalTimes(ShapePieces(shape, seconds, peak), numbers);
}

TEST(LoadShape, EightyTwentyHasFourFifthsOfTheCallsInAFifthOfTheTime) {
  const auto times = Arrivals(LoadShape::kEightyTwenty, 1'000, 400);
  ASSERT_GT(times.size(), 90'000u);
  EXPECT_NEAR(Part(times, 400, 600), 0.8, 0.01);
}

TEST(LoadShape, PulseIsFifteenTimesAsMuchWithMostOfTheEventInItsFirstQuarter) {
  const auto times = Arrivals(LoadShape::kPulse, 1'000, 300);
  const double event = Part(times, 200, 1'000);
  EXPECT_NEAR(Part(times, 200, 400) / event, 0.83, 0.01);
  EXPECT_NEAR(Part(times, 200, 400) / Part(times, 0, 200), 15, 0.5);
}

TEST(LoadShape, StepGoesToSixAndSurgeToFiveTimesAsMuchAndBack) {
  const auto step = Arrivals(LoadShape::kStep, 300, 600);
  EXPECT_NEAR(Part(step, 200, 300) / Part(step, 0, 100), 6, 0.2);
  const auto surge = Arrivals(LoadShape::kSurge, 400, 500);
  EXPECT_NEAR(Part(surge, 200, 300) / Part(surge, 0, 100), 5, 0.2);
  EXPECT_NEAR(Part(surge, 300, 400), Part(surge, 0, 100), 0.005);
}

TEST(LoadShape, EveryOneHasItsPeakWhereItIsAskedForAndNotElsewhere) {
  for (const LoadShape shape : {LoadShape::kSteady, LoadShape::kStep, LoadShape::kSurge,
                                LoadShape::kEightyTwenty, LoadShape::kPulse, LoadShape::kAngry}) {
    double seconds = 0;
    double highest = 0;
    for (const RatePiece& piece : ShapePieces(shape, 10, 50)) {
      seconds += piece.seconds;
      highest = std::max(highest, piece.requests_per_second);
    }
    EXPECT_NEAR(seconds, 10, 1e-9) << ToText(shape);
    EXPECT_EQ(highest, 50) << ToText(shape);
  }
}

TEST(LengthTail, HasTheMeanOfItsFormulaItsBoundsAndAHeavyTail) {
  constexpr LengthTail kTail = {.lowest = 16, .highest = 512, .alpha = 1.2};
  UniformNumbers numbers(3);
  std::vector<int64_t> lengths(200'000);
  for (int64_t& length : lengths) length = kTail.Draw(numbers.Next());
  const double mean = std::accumulate(lengths.begin(), lengths.end(), 0.0) / 200'000;
  EXPECT_NEAR(mean / kTail.Mean(), 1, 0.02);
  std::ranges::sort(lengths);
  EXPECT_EQ(lengths.front(), 16);
  EXPECT_LE(lengths.back(), 512);
  EXPECT_GT(lengths.back(), 450);
  // Half are below the median of the distribution, which is far below the mean.
  EXPECT_NEAR(static_cast<double>(lengths[100'000]), 16 * std::pow(2, 1 / 1.2), 1.5);
  EXPECT_EQ((LengthTail{.lowest = 5, .highest = 5}.Draw(0.7)), 5);
}

TEST(PlanCalls, GivesVipAFifthOfTheLoadAndOfTheCapacityAtMost) {
  TrafficOptions options = {.capacity = 100, .angry_share = 0.15};
  const auto share = [&](double rate, auto predicate) {
    const std::vector<RatePiece> pieces = {{200, rate}};
    const std::vector<Call> calls = PlanCalls(pieces, options);
    EXPECT_TRUE(std::ranges::is_sorted(calls, {}, &Call::due));
    EXPECT_NEAR(static_cast<double>(calls.size()), 200 * rate, 6 * std::sqrt(200 * rate));
    return static_cast<double>(std::ranges::count_if(calls, predicate)) /
           static_cast<double>(calls.size());
  };
  const auto vip = [](const Call& call) { return call.tenant == TrafficTenant::kVip; };
  EXPECT_NEAR(share(50, vip), 0.2, 0.02);
  EXPECT_NEAR(share(1'000, vip), 0.02, 0.002);
  EXPECT_NEAR(share(1'000, [](const Call& call) { return call.angry; }), 0.98 * 0.15, 0.01);
  EXPECT_EQ(
      share(100, [](const Call& call) { return call.angry && call.tenant == TrafficTenant::kVip; }),
      0);
}

TEST(PlanCalls, IsTheSameForTheSameSeedAndAnotherForAnother) {
  const std::vector<RatePiece> pieces = {{2, 50}};
  TrafficOptions options = {.capacity = 50, .prompts = {1, 99}, .outputs = {1, 99}};
  const auto first = PlanCalls(pieces, options);
  EXPECT_EQ(first, PlanCalls(pieces, options));
  options.seed = 2;
  EXPECT_NE(first, PlanCalls(pieces, options));
}

RetryQuestion Refused(int32_t attempts, int64_t retry_after_ms) {
  return {.attempts = attempts,
          .retry_after_ms = retry_after_ms,
          .now = 10 * kSecondNs,
          .deadline = 12 * kSecondNs};
}

TEST(RetryRules, PatientClientsWaitAsToldRepeatThriceAndOnlyATenth) {
  RetryRules rules(/*patient=*/true, 1);
  EXPECT_EQ(rules.Next(Refused(1, 0)), std::nullopt) << "nothing may be repeated yet";
  EXPECT_EQ(rules.Next(Refused(1, 500)), std::nullopt) << "nothing may be repeated yet";
  for (int i = 0; i < 25; ++i) rules.Begin(TrafficTenant::kNormal);
  const auto next = rules.Next(Refused(1, 500));
  ASSERT_TRUE(next.has_value());
  EXPECT_GE(*next, 10 * kSecondNs + 500 * kMillisecondNs);
  EXPECT_LE(*next, 10 * kSecondNs + 600 * kMillisecondNs);
  EXPECT_EQ(rules.Next(Refused(3, 0)), std::nullopt) << "the third attempt is the last";
  EXPECT_EQ(rules.Next(Refused(3, 500)), std::nullopt) << "the third attempt is the last";
  EXPECT_EQ(rules.Next(Refused(1, 3'000)), std::nullopt) << "it would be too late";
  EXPECT_TRUE(rules.Next(Refused(2, -1)).has_value()) << "what was not repeated costs nothing";
  EXPECT_EQ(rules.Next(Refused(1, 0)), std::nullopt) << "25 calls allow for two";
  EXPECT_EQ(rules.Next(Refused(1, 500)), std::nullopt) << "25 calls allow for two";
}

TEST(RetryRules, AngryClientsAskAtOnceUntilTheirDeadline) {
  for (const bool all : {false, true}) {
    RetryRules rules(/*patient=*/!all, 1);
    RetryQuestion question = Refused(500, 1'900);
    question.angry = !all;
    const auto next = rules.Next(question);
    ASSERT_TRUE(next.has_value());
    EXPECT_LT(*next, question.now + 100 * kMillisecondNs);
    question.now = question.deadline - 1;
    EXPECT_EQ(rules.Next(question), std::nullopt);
  }
}

CallRecord Ended(double due, double end, const char* outcome = kWhole) {
  return {.due = static_cast<TimeNs>(due * kSecondNs),
          .first_token = static_cast<TimeNs>((due + end) / 2 * kSecondNs),
          .end = static_cast<TimeNs>(end * kSecondNs),
          .attempts = 1,
          .admitted = 1,
          .outcome = outcome};
}

TEST(Goodput, CountsWholeAnswersThatWereThereInTheWindowWithoutItsStart) {
  const std::vector<CallRecord> calls = {Ended(0, 0.5),  // While slots fill.
                                         Ended(0.5, 1),
                                         Ended(1, 4.9),  // Count.
                                         Ended(4, 5.1),  // After it.
                                         Ended(2, 3, "queue_full"),
                                         Ended(2, 4, kClientTimeout)};
  EXPECT_DOUBLE_EQ(Goodput(calls, {0, 5 * kSecondNs}), 0.5);
  std::vector<CallRecord> degraded = {Ended(2, 3)};
  EXPECT_DOUBLE_EQ(Goodput(degraded, {0, 5 * kSecondNs}), 0.25);
  degraded[0].degraded = true;
  EXPECT_DOUBLE_EQ(Goodput(degraded, {0, 5 * kSecondNs}), 0);
}

TEST(RecoverySeconds, IsTheEndOfTheLastBadSecond) {
  std::vector<CallRecord> calls;
  for (int i = 0; i < 100; ++i) calls.push_back(Ended(i * 0.1, i * 0.1 + 0.01));
  EXPECT_EQ(RecoverySeconds(calls, 2 * kSecondNs, 10 * kSecondNs), 0);
  calls[35].outcome = "queue_full";  // In the second from 3 on.
  EXPECT_EQ(RecoverySeconds(calls, 2 * kSecondNs, 10 * kSecondNs), 2);
  EXPECT_EQ(RecoverySeconds(calls, 4 * kSecondNs, 10 * kSecondNs), 0);
  calls[99].outcome = kClientTimeout;
  EXPECT_EQ(RecoverySeconds(calls, 2 * kSecondNs, 10 * kSecondNs), std::nullopt);
}

TEST(Percentiles, AreValuesThatOccurredAndNullOfNone) {
  std::vector<double> values(1'000);
  std::iota(values.rbegin(), values.rend(), 1);
  EXPECT_EQ(Percentiles(values), Json({{"count", 1'000}, {"p50", 500.0}, {"p99", 990.0}}));
  EXPECT_EQ(Percentiles({}), Json({{"count", 0}, {"p50", nullptr}, {"p99", nullptr}}));
}

// A run at a capacity of 10 whose calls end as `records` says.
Json SteadyRun(const char* arm, double factor, const LoadRecords& records) {
  return DescribeRun({.arm = arm, .factor = factor}, std::vector<RatePiece>{{5, 10 * factor}},
                     records);
}

LoadRecords Half(double rate) {
  LoadRecords records;
  for (int i = 0; i < 5 * rate; ++i) {
    records.calls.push_back(Ended(i / rate, i / rate + 0.001, i % 2 == 0 ? kWhole : "queue_full"));
    records.calls.back().tenant = i % 4 < 2 ? TrafficTenant::kVip : TrafficTenant::kBatch;
    ++records.attempts[records.calls.back().outcome];
  }
  ++records.attempts[kBrokeOff];
  records.rejections_ms = {1, 2, 3};
  return records;
}

Json TwoArms() {
  Json result = {{"capacity_per_second", 10.0},
                 {"capacity_after_per_second", 11.0},
                 {"unloaded_ttft_ms", {{"count", 3}, {"p50", 0.1}, {"p99", 0.25}}},
                 {"groups", 2},
                 {"sequences_max", 4},
                 {"runs", Json::array()}};
  for (const char* arm : {"control", "protected"}) {
    result["runs"].push_back(SteadyRun(arm, 2, Half(20)));
    result["runs"].push_back(SteadyRun(arm, 10, Half(100)));
  }
  CompleteResult(result);
  return result;
}

TEST(CompleteResult, ComparesWithThePeakAndTheTargets) {
  const Json result = TwoArms();
  EXPECT_NEAR(result["peak_per_second"], 50, 1);
  const Json& run = result["runs"][2];
  EXPECT_NEAR(run["goodput_per_second"], 10, 0.5);
  EXPECT_NEAR(run["goodput_share"], 0.5, 0.03) << "of the 20 that were offered, not of the peak";
  EXPECT_EQ(run["untyped"], 1);
  EXPECT_NEAR(run["classes"]["vip"]["success"], 0.5, 1e-9);
  EXPECT_TRUE(run["classes"]["normal"]["success"].is_null());
  EXPECT_NEAR(run["classes"]["vip"]["ttft_ratio"], 2, 1e-3);
  const Json& targets = result["targets"];
  EXPECT_EQ(targets[0]["met"], false) << targets[0];
  EXPECT_EQ(targets[4]["met"], true) << targets[4];
  EXPECT_TRUE(targets.back()["met"].is_null()) << "there was no storm";
  const std::string text = OverloadText(result);
  EXPECT_NE(text.find("missed"), std::string::npos) << text;
  EXPECT_NE(text.find("not measured"), std::string::npos) << text;
}

// Whether every element is closed where it should be, and every attribute's value is quoted.
bool IsWellFormed(const std::string& xml) {
  std::stack<std::string> open;
  size_t at = 0;
  while ((at = xml.find('<', at)) != std::string::npos) {
    const size_t end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (std::ranges::count(tag, '"') % 2 != 0 || tag.find('<') != std::string::npos) return false;
    const std::string name = tag.substr(tag.starts_with('/') ? 1 : 0, tag.find_first_of(" /", 1));
    if (tag.starts_with('/')) {
      if (open.empty() || open.top() != tag.substr(1)) return false;
      open.pop();
    } else if (!tag.ends_with('/')) {
      open.push(name);
    }
    at = end;
  }
  return open.empty();
}

TEST(OverloadPlot, IsAWellFormedDrawingOfBothArms) {
  const std::string svg = OverloadPlot(TwoArms());
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"")) << svg;
  EXPECT_TRUE(IsWellFormed(svg)) << svg;
  EXPECT_FALSE(IsWellFormed(svg.substr(0, svg.size() - 8))) << "the check finds what is not closed";
  for (const char* part : {">control<", ">protected<", ">peak<", "offered requests per second"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
  EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
}

TEST(TenantsYaml, HasAKeyAClassAndAQuotaWhereThereIsOne) {
  const std::string without = TenantsYaml(MakeEdgeLimits(0, 100));
  EXPECT_NE(without.find("class: critical_plus"), std::string::npos) << without;
  EXPECT_EQ(without.find("tokens_per_second"), std::string::npos) << without;
  const EdgeLimits limits = MakeEdgeLimits(1'000, 5'000);
  EXPECT_EQ(limits.tokens_per_second[0], 0) << "vip is never refused for its quota";
  EXPECT_GT(limits.tokens_per_second[1] + limits.tokens_per_second[2], 1'000)
      << "admission has something left to choose among";
  const std::string with = TenantsYaml(limits);
  EXPECT_NE(with.find("tokens_per_second"), std::string::npos) << with;
  EXPECT_NE(with.find("burst_tokens: 5000\n"), std::string::npos) << with;
}

}  // namespace
}  // namespace shoal::cli
