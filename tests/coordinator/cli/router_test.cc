// The parts of `shoal bench router` that need no server: what the deciding code costs is measured
// on a region that behaves, and what pairs of runs say of a hop.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/router/core_cost.h"
#include "coordinator/cli/bench/router/hop.h"
#include "coordinator/cli/bench/router/report.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

TEST(MeasureCore, TimesEveryPolicyAndAsManyAdmissionsAsItWasAskedFor) {
  const Json result = MeasureCore({.groups = 3, .streams = 20, .prompt_tokens = 70, .count = 50});
  EXPECT_EQ(result["groups"], 3);
  ASSERT_EQ(result["decisions"].size(), 5u);
  for (const Json& one : result["decisions"]) {
    EXPECT_EQ(one["count"], 50);
    EXPECT_GT(one["p50_us"], 0);
    EXPECT_LE(one["p50_us"], one["p99_us"]);
    EXPECT_LE(one["p99_us"], one["max_us"]);
  }
  const Json& all = result["admissions"];
  EXPECT_EQ(all["count"], 50);
  EXPECT_GT(all["with_ends_per_second"], 0);
  EXPECT_LE(all["with_ends_per_second"], all["per_second"]);
}

TEST(AnswerAtOnce, IsWholeAndHasWhatWasAskedFor) {
  SequenceRequest request{.id = 7, .prompt = {1, 2, 3}};
  request.params.tokens_max = 4;
  SequenceUpdate update = AnswerAtOnce(request);
  EXPECT_EQ(update.id, 7u);
  EXPECT_EQ(update.tokens.size(), 4u);
  EXPECT_TRUE(update.logprobs.empty() && update.prompt_logprobs.empty());
  EXPECT_EQ(update.finish, FinishReason::kLength);
  request.params.top_logprobs = 2;
  request.params.prompt_logprobs = true;
  update = AnswerAtOnce(request);
  EXPECT_EQ(update.prompt_logprobs.size(), 2u);
  ASSERT_EQ(update.logprobs.size(), 4u);
  EXPECT_EQ(update.logprobs[3].top.size(), 2u);
}

Json RunOf(const char* arm, int pair, Json p50, Json p99) {
  return {{"arm", arm},         {"pair", pair},
          {"calls", 10},        {"failed", 0},
          {"p50_ms", p50},      {"p99_ms", p99},
          {"max_ms", p99},      {"late_p99_ms", 0.5},
          {"router_cpu_us", 9}, {"outcomes", {{"whole", 9}, {"queue_full", 1}}}};
}

Json Result(Json runs) {
  return {{"haproxy", "HAProxy version 1"},
          {"core", Json::array()},
          {"hop",
           {{"requests_per_second", 1'000},
            {"seconds", 1},
            {"runs", std::move(runs)},
            {"door_admissions_per_second", {6'000, 4'000, 5'500}}}}};
}

TEST(CompareHops, TakesPairsAndTheirDifferences) {
  Json result = Result({RunOf("backend", 0, 0.1, 0.5), RunOf("coordinator", 0, 0.4, 1.0),
                        RunOf("haproxy", 0, 0.2, 0.8), RunOf("backend", 1, 0.2, 0.5),
                        RunOf("coordinator", 1, 0.6, 2.0), RunOf("haproxy", 1, nullptr, nullptr),
                        RunOf("coordinator", 2, 0.6, 3.0)});
  CompareHops(result["hop"]);
  const Json& hops = result["hop"]["hops_ms"];
  EXPECT_EQ(hops[0]["arm"], "coordinator");
  EXPECT_NEAR(hops[0]["p99"]["median"], 1.0, 1e-9);
  EXPECT_NEAR(hops[0]["p99"]["lowest"], 0.5, 1e-9);
  EXPECT_NEAR(hops[0]["p99"]["highest"], 1.5, 1e-9);
  EXPECT_NEAR(hops[1]["p99"]["median"], 0.3, 1e-9) << "a pair in which nothing came is left out";
  EXPECT_TRUE(hops[2]["p50"].is_null());
  const Json& ratios = result["hop"]["ratios"];
  EXPECT_NEAR(ratios[0]["p50"]["median"], 2, 1e-9);
  EXPECT_TRUE(ratios[1]["p99"].is_null());
}

TEST(RouterText, SetsTargetsBesideWhatWasReached) {
  Json result = Result({RunOf("backend", 0, 0.1, 0.5), RunOf("coordinator", 0, 0.4, 1.75)});
  CompareHops(result["hop"]);
  AddRouterTargets(result);
  const Json& targets = result["targets"];
  ASSERT_EQ(targets.size(), 5u);
  EXPECT_TRUE(targets[0]["met"].is_null()) << "nothing was decided";
  EXPECT_EQ(targets[2]["reached"], 5'500);
  EXPECT_EQ(targets[2]["met"], true);
  EXPECT_EQ(targets[3]["met"], false);
  EXPECT_TRUE(targets[4]["met"].is_null()) << "there was no run with HAProxy";
  const std::string text = RouterText(result);
  for (const char* words : {"missed", "not measured", "coordinator without backend",
                            "HAProxy version 1", "  queue_full 1\n"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
}

}  // namespace
}  // namespace shoal::cli
